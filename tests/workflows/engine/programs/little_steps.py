"""Steps of the test workflow; importable by worker processes through PYTHONPATH."""

import errno
import os
import re
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from data.durable_files import write_durably
from workflows.engine.files.artefacts import Manifest, artefact


@dataclass(frozen=True)
class Number:
    value: int
    seconds: float = 0.0


@dataclass(frozen=True)
class Numbers:
    values: tuple[float, ...] = ()


def square(record, folder, log):
    time.sleep(record.seconds)  # stands for work
    path = folder / "fields" / f"{record.value}.txt"
    path.parent.mkdir(exist_ok=True)
    write_durably(path, [str(record.value**2).encode()])
    log({"computed": record.value})
    return Manifest(
        {"square": artefact(path, folder)},
        {"value": record.value, "pair": (1, 2)},
        {"seconds": time.perf_counter()},
    )


def total(record, folder, log, *, squares, offset=None):
    numbers = [int((folder / m.artefacts["square"].path).read_text()) for m in squares]
    path = folder / "total.txt"
    write_durably(path, [str(sum(numbers)).encode()])
    facts = {"total": sum(numbers), "offset": offset.facts["value"] if offset else 0}
    return Manifest({"total": artefact(path, folder)}, facts)


def refuse(record, folder, log):
    raise ValueError(f"value must be even; got {record.value}.")


def lose_storage(record, folder, log):
    raise ConnectionResetError(f"storage must answer; got nothing for {record.value}")


def fill_disk(record, folder, log):
    """Write until the disk is full."""
    with (folder / "large").open("wb") as stream:
        while True:
            stream.write(bytes(4096))


def loop_in_compiled_code(record, folder, log):
    """Hang, in a call that gives no signal and no other thread a chance."""
    (folder / "hanging").write_text(str(os.getpid()))
    re.match(r"(a+)+$", "a" * 40 + "b")


def refuse_odd(record, folder, log):
    if record.value % 2:
        raise ValueError(f"value must be even; got {record.value}.")
    os.write(1, b"what a library prints\n")
    return square(record, folder, log)


def lose_process(record, folder, log):
    os.kill(os.getpid(), signal.SIGKILL)


def fail_once(record, folder, log):
    """A full disk at the first try, none at the second."""
    if _first_time(folder):
        raise OSError(errno.ENOSPC, "no space left on tier")
    return Manifest()


def die_once(record, folder, log):
    """Kill the worker process at the first try."""
    if _first_time(folder):
        os.kill(os.getpid(), signal.SIGKILL)
    return Manifest()


def count_threads(record, folder, log):
    import torch

    threads = torch.get_num_threads()
    return Manifest({}, {"torch": threads, "variable": os.environ["OMP_NUM_THREADS"]})


def return_empty(record, folder, log):
    return Manifest()


def return_nothing(record, folder, log):
    return None


def state_infinity(record, folder, log):
    return Manifest({}, {"value": float("inf")})


def _first_time(folder: Path) -> bool:
    try:
        (folder / "tried").touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def log_words_of_the_engine(record, folder, log):
    log({"event": "epoch", "loss": 0.5})
    log({"event": "start"})
    log({"event": "found", "time": "noon"})
    log({"event": "found", "depth": 3})
    return Manifest()
