"""Events of a run: one JSON Lines file per process in `events/`, merged by readers.

Every line is one `write` to a file opened for appending, so lines of several threads do
not mix and a killed process leaves at most one torn line, which readers drop.
"""

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

Log = Callable[[Mapping[str, object]], None]

DRIVING_EVENTS = frozenset(
    {
        *("begin", "stages", "start", "finish", "fail", "failed", "retry", "reuse"),
        *("block", "epoch", "decision", "journal"),
    }
)
"""Events that the engine alone logs: what they say is believed."""

_lock = threading.Lock()
_descriptors: dict[Path, int] = {}


def event_log(folder: Path, writer: str | None = None) -> Log:
    """The log of this process, `<folder>/events/<writer>.jsonl`.

    Args:
        folder: the run folder.
        writer: name of the file; `<host>-<pid>` unless given.

    Returns:
        A function that appends one record of JSON values with the time [s since 1970].
    """
    writer = writer or f"{socket.gethostname()}-{os.getpid()}"
    path = folder / "events" / f"{writer}.jsonl"

    def log(record: Mapping[str, object]) -> None:
        line = json.dumps({"time": time.time(), **record}) + "\n"
        with suppress(OSError):  # full disk: the work decides, not the news of it
            os.write(_descriptor(path), line.encode())

    return log


def close_event_logs(folder: Path) -> None:
    """Close what this process has open below `folder`; a later record opens it anew."""
    with _lock:
        for path in [p for p in _descriptors if p.is_relative_to(folder)]:
            os.close(_descriptors.pop(path))


class Tail:
    """What was appended to JSON Lines files since the last look; torn lines wait.

    Attributes:
        last: time of the newest file [s since 1970], None without files.
    """

    def __init__(
        self, folder: Path, pattern: str, *, skips_present: bool = False
    ) -> None:
        """Follow the files of `folder` that match, from their beginning or their end.

        Args:
            folder: where they lie or will lie.
            pattern: of their names.
            skips_present: leave out what they hold now.
        """
        self._folder, self._pattern = folder, pattern
        self._read: dict[Path, int] = {}
        self.last: float | None = None
        if skips_present:
            self._read = {path: path.stat().st_size for path in self._paths()}

    def records(self) -> list[dict[str, Any]]:
        """The new records, file by file; what is no JSON object is left out."""
        found = []
        for path in self._paths():
            status, known = path.stat(), self._read.get(path, 0)
            self.last = max(self.last or 0.0, status.st_mtime)
            if status.st_size == known:
                continue
            if status.st_size < known:  # a torn end was cut off
                known = 0
            with path.open("rb") as stream:
                stream.seek(known)
                new = stream.read()
            whole = new[: new.rfind(b"\n") + 1]
            self._read[path] = known + len(whole)
            found += [record for record in map(_parsed, whole.splitlines()) if record]
        return found

    def _paths(self) -> list[Path]:
        return sorted(self._folder.glob(self._pattern))


def read_events(folder: Path) -> list[dict[str, Any]]:
    """All events of a run in the order of their times, without torn lines."""
    return in_order(Tail(folder / "events", "*.jsonl").records())


def in_order(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Events of several writers merged by time; what has none is no event."""
    events = [r for r in records if isinstance(r.get("time"), int | float)]
    return sorted(events, key=lambda event: event["time"])


def _parsed(line: bytes) -> dict[str, Any] | None:
    """The object of a line, None if the line is torn."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def _descriptor(path: Path) -> int:
    with _lock:
        if path not in _descriptors:
            path.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
            _descriptors[path] = os.open(path, flags, 0o644)
        return _descriptors[path]
