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
from pathlib import Path

Log = Callable[[Mapping[str, object]], None]

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
        os.write(_descriptor(path), line.encode())

    return log


def close_event_logs(folder: Path) -> None:
    """Close what this process has open below `folder`; a later record opens it anew."""
    with _lock:
        for path in [p for p in _descriptors if p.is_relative_to(folder)]:
            os.close(_descriptors.pop(path))


def read_events(folder: Path) -> list[dict[str, object]]:
    """All events of a run in the order of their times, without torn lines."""
    events = []
    for path in sorted((folder / "events").glob("*.jsonl")):
        for line in path.read_bytes().splitlines():
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict) and "time" in event:
                events.append(event)
    return sorted(events, key=lambda event: event["time"])


def _descriptor(path: Path) -> int:
    with _lock:
        if path not in _descriptors:
            path.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
            _descriptors[path] = os.open(path, flags, 0o644)
        return _descriptors[path]
