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

_EPOCH = b'"event": "epoch"'
_TAIL_BYTES = 4096

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


def read_events(folder: Path) -> list[dict[str, Any]]:
    """All events of a run in the order of their times, without torn lines."""
    events = []
    for path in sorted((folder / "events").glob("*.jsonl")):
        for line in path.read_bytes().splitlines():
            event = _parsed(line)
            if event is not None:
                events.append(event)
    return sorted(events, key=lambda event: event["time"])


def running_trainings(folder: Path, since: float) -> list[dict[str, Any]]:
    """The last `epoch` event of each training that has not come to its last epoch.

    Args:
        folder: the run folder.
        since: time [s since 1970] before which a process counts as gone.
    """
    found = []
    for path in sorted((folder / "events").glob("*.jsonl")):
        if path.stat().st_mtime < since:
            continue
        with path.open("rb") as stream:
            stream.seek(max(0, path.stat().st_size - _TAIL_BYTES))
            lines = stream.read().splitlines()
        last = next((line for line in reversed(lines) if _EPOCH in line), None)
        event = _parsed(last) if last else None
        if event and event["epoch"] < event["epochs"]:
            found.append(event)
    return found


def _parsed(line: bytes) -> dict[str, Any] | None:
    """The event of a line, None if the line is torn."""
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and "time" in event else None


def _descriptor(path: Path) -> int:
    with _lock:
        if path not in _descriptors:
            path.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
            _descriptors[path] = os.open(path, flags, 0o644)
        return _descriptors[path]
