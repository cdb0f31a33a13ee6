"""How a run stands: complete, running, failed with its cause, or killed.

The lock of a run names its driver and is held as long as that lives. Only where such a
process exists on this host is the lock tried, shared and for an instant, to tell the
driver from another process with its number: no driver that starts is ever refused for
being watched. On another host news within two minutes say that the run lives; drivers
note a sign of life every half minute.
"""

import fcntl
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from workflows.engine.files.run_folder import lock_holder, open_lock

SECONDS_WITHOUT_NEWS = 120.0

Status = Literal["complete", "running", "failed", "killed"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a run stands, with the cause if it failed."""

    status: Status
    cause: str | None = None

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen by itself."""
        return self.status != "running"


def judge(folder: Path, last_news: float | None, now: float) -> Verdict:
    """Judge a run by its lock, its results and its news.

    Args:
        folder: of the run.
        last_news: when its events last changed, by the clock of the file system.
        now: the time [s since 1970].
    """
    holder = lock_holder(folder) or (0, "")
    is_here = holder[1] in ("", socket.gethostname())
    if is_here and _is_held(folder, holder[0]):
        return Verdict("running")
    if (folder / "summary.json").exists():
        return Verdict("complete")
    failure = folder / "failure.txt"
    if _is_newer(failure, folder / "run.json"):
        return Verdict("failed", root_cause(failure.read_text(errors="replace")))
    is_fresh = last_news is not None and now - last_news < SECONDS_WITHOUT_NEWS
    return Verdict("running" if is_fresh and not is_here else "killed")


def root_cause(trace: str) -> str:
    """What follows the last frame of a traceback: the error and its notes."""
    _, _, end = trace.rpartition('\n  File "')
    lines = end.splitlines()[1:] if end != trace else trace.splitlines()
    while lines and lines[0].startswith("    "):
        lines.pop(0)
    return "\n".join(lines).strip()


def _is_held(folder: Path, process: int) -> bool:
    if not process or not _exists(process):
        return False
    with os.fdopen(open_lock(folder, os.O_RDONLY)) as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _exists(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # of another user
        return True
    return True


def _is_newer(path: Path, than: Path) -> bool:
    return path.exists() and path.stat().st_mtime >= than.stat().st_mtime
