"""The folder of a run, `runs/<workflow>/<id>/`: created once, continued at will.

`run.json` says what was asked for, with which code and which inputs, and is durable
before the first task. A run continues with what it says: an option that contradicts it
is refused by name, only the site may change. A file lock, which dies with its process,
keeps two drivers off one run.
"""

import fcntl
import importlib.metadata
import itertools
import json
import os
import platform
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from errno import EISDIR, ELOOP, ENOSPC
from pathlib import Path
from typing import Any

from data.durable_files import (
    is_partial,
    remove_partial,
    sweep_partial_files,
    write_durably,
)
from workflows.engine.files.artefacts import Artefact, artefact, is_intact
from workflows.engine.files.program import start_command, this_program

_DISTRIBUTIONS = ("headrace", "torch", "numpy", "scipy", "parsl", "zarr", "xarray")


_KEYS = {"workflow", "size", "seed", "config", "inputs", "versions", "git"}
_KEYS |= {"continuations", "program", "program_folder"}
_RESTORE = "Restore it, or start a new run."

_FOLDERS = ("inputs", "fields", "checkpoints", "figures", "events")
_LOCK = re.compile(r"(process (?P<process>\d{1,9}) on (?P<host>\S+)\s*)?")
_ATTEMPT = re.compile(r"rank-[a-z0-9_]{8}")  # as the launcher has them named


@dataclass(frozen=True, slots=True)
class Request:
    """What a command line asks of a run, fully resolved."""

    workflow: str
    size: str
    config: Mapping[str, Any]
    seed: int
    site: str
    site_sha256: str
    command_line: tuple[str, ...]


def runs_folder(workflow: str) -> Path:
    """`runs/<workflow>`, in the folder that the user is in."""
    return Path("runs") / workflow


def new_run_folder(workflow: str, size: str) -> Path:
    """Create `runs/<workflow>/<time>-<size>`; no other run gets the same."""
    parent = _writable(runs_folder(workflow))
    name = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{size}"
    for attempt in itertools.count(1):
        folder = parent / (name if attempt == 1 else f"{name}-{attempt}")
        with suppress(FileExistsError):  # a run that began in the same second
            folder.mkdir()
            break
    return folder


def given_run_folder(folder: Path) -> Path:
    """Take the folder of `--run-dir`: a run, an empty folder, or one to create.

    A folder in which a start was killed holds a lock of ours and what follows it.

    Raises:
        ValueError: if it cannot be written, or holds something that is not a run.
    """
    folder = _writable(folder)
    others = {path.name for path in folder.iterdir()}
    if lock_holder(folder) is not None:
        others -= {name for name in others if _is_of_a_start(folder / name)}
    if others and read_run(folder) is None:
        raise ValueError(
            f"--run-dir must be a run, an empty or a new folder; got {folder}, which "
            f"holds {min(others)} and no run.json."
        )
    return folder


def _is_of_a_start(path: Path) -> bool:
    """Whether a start that locked the folder makes such a path before `run.json`."""
    if path.name == "inputs":
        return path.is_dir() and not path.is_symlink()
    is_record = path.name.startswith("run.json.") and is_partial(path.name)
    return path.name == "lock" or is_record


def _writable(folder: Path) -> Path:
    """The folder, created if need be, by its full path."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"the run folder must be a folder; got the file {folder}.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"the run folder must be one that can be created; got {folder} "
            f"({error.strerror}). Choose another --run-dir."
        ) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ValueError(f"the run folder must be writable; got {folder}.")
    return folder.resolve()


def read_run(folder: Path) -> dict[str, Any] | None:
    """The content of `run.json`, or None before there is one.

    Raises:
        ValueError: if it is damaged.
    """
    path = folder / "run.json"
    if not path.exists():
        return None
    try:
        stored: dict[str, Any] = dict(json.loads(path.read_bytes()))
        missing = sorted(_KEYS - set(stored))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} must be JSON; got {error}. {_RESTORE}") from error
    if missing:
        raise ValueError(f"{path} must hold {', '.join(missing)}. {_RESTORE}")
    return stored


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the run for this process.

    Raises:
        BlockingIOError: if another process drives the run; names it.
        ValueError: if the lock is a link or a folder.
    """
    descriptor = open_lock(folder, os.O_RDWR | os.O_CREAT | os.O_APPEND)
    with os.fdopen(descriptor, "a+") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            stream.seek(0)
            raise BlockingIOError(
                f"one process at a time may drive a run; {folder} is driven by "
                f"{stream.read().strip() or 'another process'}. Wait for it or stop it."
            ) from error
        stream.truncate(0)
        stream.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        stream.flush()
        yield


def open_lock(folder: Path, flags: int) -> int:
    """A descriptor of the lock itself: what a link points to belongs to others.

    Raises:
        FileNotFoundError: if there is none and `flags` do not create it.
        ValueError: if it is a link or a folder.
    """
    path, ours = folder / "lock", os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        return os.open(path, flags | ours, 0o666)
    except OSError as error:
        if error.errno not in (ELOOP, EISDIR):
            raise
        raise ValueError(
            f"the lock of a run must be a file of its own; got {path}, which is a link "
            "or a folder. Remove it, or choose another --run-dir."
        ) from error


def lock_holder(folder: Path) -> tuple[int, str] | None:
    """Process and host that the lock names, (0, "") if it is empty.

    None if there is none, or if it is none of ours.
    """
    try:
        with os.fdopen(open_lock(folder, os.O_RDONLY), errors="replace") as stream:
            words = _LOCK.fullmatch(stream.read(1000))
    except (FileNotFoundError, IsADirectoryError, ValueError):
        return None
    return (int(words["process"] or 0), words["host"] or "") if words else None


def continue_command(run: Mapping[str, Any], folder: Path) -> str:
    """The words that continue a run, given its `run.json`, for a shell."""
    start = (run["continuations"] or [run])[-1]
    return start_command(start, "--run-dir", str(folder.resolve()))


def require_space(folder: Path, n_bytes: int) -> None:
    """Refuse a run that will not fit.

    Raises:
        OSError: if fewer than `n_bytes` bytes are free where `folder` lies or will lie.
    """
    path = folder.absolute()
    there = next(p for p in [path, *path.parents] if p.exists())
    free = shutil.disk_usage(there).free
    if free < n_bytes:
        raise OSError(
            ENOSPC,
            f"the run needs {n_bytes / 1e9:.2f} GB free in {folder}; got "
            f"{free / 1e9:.2f} GB. Free space or choose another --run-dir.",
        )


def sweep_leftovers(folder: Path) -> None:
    """Remove what killed processes left: torn files, attempts of training.

    Only names of ours in places of ours; no link is followed. Only with the lock held
    and before the first task. A worker that outlived its driver for some seconds may
    lose its files: it fails, and nobody hears of it.
    """
    for path in folder.iterdir():
        if is_partial(path.name):
            remove_partial(path)
        elif path.name in _FOLDERS:
            sweep_partial_files(path)
    checkpoints = folder / "checkpoints"
    if checkpoints.is_symlink():
        return
    for place, names, _ in os.walk(checkpoints):
        for name in filter(_ATTEMPT.fullmatch, names):
            remove_partial(Path(place, name))


def retract_results(folder: Path) -> None:
    """Remove summary, report and crate: they say that a run is complete."""
    for name in ("summary.json", "report.html", "ro-crate-metadata.json"):
        (folder / name).unlink(missing_ok=True)


def record_run(folder: Path, request: Request) -> str:
    """Write `run.json` of a new run, or add this continuation to it.

    Returns:
        A warning if the run continues with other code than it began with, else nothing.

    Raises:
        ValueError: if a continued run is of another release, or its inputs are not what
            they were.
    """
    stored, program = read_run(folder), this_program()
    now = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "host": socket.gethostname(),
        "program": list(program.words),
        "program_folder": program.folder,
        "command_line": list(request.command_line),
        "site": request.site,
        "site_sha256": request.site_sha256,
        "versions": _versions(),
        "git": _git_state(),
    }
    if stored is None:
        stored = {
            "workflow": request.workflow,
            "run_id": folder.name,
            "size": request.size,
            "seed": request.seed,
            "config": dict(request.config),
            "inputs": _measured_inputs(folder),
            **now,
            "continuations": [],
        }
    else:
        _refuse_other_release(folder, stored["versions"].get("headrace"))
        _refuse_altered_inputs(folder, stored["inputs"])
        stored["continuations"].append(now)
    write_durably(folder / "run.json", [json.dumps(stored, indent=2).encode()])
    before, after = _code_of(stored), _code_of(now)
    if before == after:
        return ""
    return f"warning: the run began with {before} and continues with {after}"


def write_inputs(folder: Path, inputs: Mapping[str, bytes]) -> None:
    """Keep the inputs of a new run as `inputs/<name>`: it then depends on nothing."""
    (folder / "inputs").mkdir(exist_ok=True)
    for name, content in inputs.items():
        write_durably(folder / "inputs" / name, [content])


def _measured_inputs(folder: Path) -> dict[str, Any]:
    files = sorted((folder / "inputs").glob("*"))
    return {path.name: asdict(artefact(path, folder)) for path in files}


def _refuse_other_release(folder: Path, release: str | None) -> None:
    ours = _versions()["headrace"]
    if release != ours:
        raise ValueError(
            f"{folder} must be continued with the release that it began with, headrace "
            f"{release}; this is {ours}. Install that one, or start a new run."
        )


def _refuse_altered_inputs(folder: Path, stored: Mapping[str, Any]) -> None:
    for name, expected in stored.items():
        if not is_intact(Artefact(**expected), folder):
            raise ValueError(
                f"inputs/{name} of {folder} must be the one that the run began with, "
                f"SHA-256 {expected['sha256']}; it is altered or missing. Restore it, "
                "or start a new run."
            )


def _versions() -> dict[str, str | None]:
    versions: dict[str, str | None] = {"python": platform.python_version()}
    for name in _DISTRIBUTIONS:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    return versions


def _code_of(record: Mapping[str, Any]) -> str:
    commit = record["git"]["commit"][:12] if record["git"] else "unknown"
    return f"headrace {record['versions']['headrace']}, commit {commit}"


def _git_state() -> dict[str, object] | None:
    """Commit and cleanliness of the checkout that runs, None outside of one."""
    root = Path(__file__).parents[3]
    if not (root / ".git").exists():
        return None
    try:
        commit = _git(root, "rev-parse", "HEAD")
        is_dirty = bool(_git(root, "status", "--porcelain"))
    except (OSError, subprocess.CalledProcessError):
        return None
    return {"commit": commit, "is_dirty": is_dirty}


def _git(root: Path, *words: str) -> str:
    return subprocess.run(
        ["git", "-C", str(root), *words], capture_output=True, text=True, check=True
    ).stdout.strip()
