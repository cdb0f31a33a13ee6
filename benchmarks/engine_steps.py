"""Steps of the engine's benchmarks, at a name that worker processes can import."""

import time
from dataclasses import dataclass
from pathlib import Path

from data.durable_files import write_durably
from workflows.engine.files.artefacts import Manifest, artefact
from workflows.engine.watching.events import Log


@dataclass(frozen=True, slots=True)
class Number:
    """One task of many."""

    value: int


@dataclass(frozen=True, slots=True)
class Spin:
    """One task of many that keeps a core busy for some seconds."""

    value: int
    seconds: float


def do_nothing(record: Number, folder: Path, log: Log) -> Manifest:
    """Returns at once."""
    return Manifest()


def spin(record: Spin, folder: Path, log: Log) -> Manifest:
    """Keeps this process busy until it had the core for the given seconds."""
    spin_for(record.seconds)
    return Manifest()


def spin_for(seconds: float) -> None:
    """Computes until some seconds of wall time have passed."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def write_number(record: Number, folder: Path, log: Log) -> Manifest:
    """Leaves one small file."""
    path = folder / "fields" / f"{record.value}.txt"
    path.parent.mkdir(exist_ok=True)
    write_durably(path, [str(record.value).encode()])
    return Manifest({"number": artefact(path, folder)})
