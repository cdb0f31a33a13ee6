"""The journal of a run: finished tasks, one durable line each, never computed twice.

Key of a task: SHA-256 over step name, declared version, canonical record, seed, and the
artefacts and facts of its inputs. A line is `{"crc32": "xxxxxxxx", ...}`: the checksum
covers the rest, so a torn or altered line is known and dropped. Lines of a burst share
one fsync, after which, and not before, the results are announced (group commit).
Parsl asks through its `Memoizer` interface at launch, when inputs are known; the
pipeline asks `lookup` before it submits, so that finished work costs no Parsl task.
"""

import hashlib
import json
import os
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from parsl.dataflow.memoization import Memoizer
from parsl.dataflow.taskrecord import TaskRecord

from data.durable_files import sync_folder
from workflows.engine.artefacts import Manifest, is_intact
from workflows.engine.tasks import Call, Inputs, Outcome, call_of, outcome_of

SECONDS_BETWEEN_COMMITS = 0.01  # a lone task does not wait, a burst shares one fsync

_PREFIX = '{"crc32": "'
_SORTED = json.JSONEncoder(sort_keys=True)
_N_PREFIX = len(_PREFIX) + 8 + len('", ')

Announcement = Callable[[OSError | None], None]
Finished = tuple[bytes, str, Outcome]  # line, key, outcome


def task_key(call: Call, inputs: Inputs) -> str:
    """The key of a task whose inputs are known; timings are part of no key."""
    identity = [call.step, call.version, call.record, call.seed, _identity(inputs)]
    return hashlib.sha256(_SORTED.encode(identity).encode()).hexdigest()


class Journal(Memoizer):
    """`journal.jsonl` of one run, written by its driver alone."""

    def __init__(self, path: Path) -> None:
        self._path, self._root = path, path.parent
        self._entries, n_good = _read_entries(path)
        self._stream = path.open("ab")
        self._stream.truncate(n_good)
        os.fsync(self._stream.fileno())
        sync_folder(path.parent)
        self._intact: set[str] = set()
        self._queue: SimpleQueue[Finished | Announcement | None] = SimpleQueue()
        self._writer = threading.Thread(target=self._write, name="journal", daemon=True)
        self._writer.start()

    def lookup(self, key: str) -> Outcome | None:
        """The outcome of a finished task whose artefacts are all intact, or None."""
        outcome = self._entries.get(key)
        if outcome is None:
            return None
        if key not in self._intact:
            artefacts = outcome.manifest.artefacts.values()
            if not all(is_intact(item, self._root) for item in artefacts):
                return None
            self._intact.add(key)
        return outcome

    def after_commit(self, announce: Announcement) -> None:
        """Call `announce` once every line given so far is durable (or cannot be)."""
        self._queue.put(announce)

    def check_memo(self, task: TaskRecord) -> Future[Any] | None:
        """Parsl's question at launch: is this task finished already?"""
        call_text, inputs = task["args"]
        task["hashsum"] = key = task_key(call_of(call_text), inputs)
        outcome = self.lookup(key)
        if outcome is None:
            return None
        found: Future[Any] = Future()
        found.set_result(json.dumps(outcome.to_record()))
        return found

    def update_memo_result(self, task: TaskRecord, r: str) -> None:
        """Parsl's report of a finished task: its line joins the next commit."""
        if not task["from_memo"]:
            call = call_of(task["args"][0])
            key = task["hashsum"] or task_key(call, task["args"][1])
            line = _line_of(key, call, task["fail_count"] + 1, r)
            self._queue.put((line, key, outcome_of(json.loads(r))))

    def update_memo_exception(self, task: TaskRecord, e: BaseException) -> None:
        """Failed tasks leave no line: they run again when the run is continued."""

    def start(self, *, run_dir: str, config_run_dir: str) -> None:
        """Nothing to do: the journal was read when it was opened."""

    def close(self) -> None:
        """Nothing to do: tasks that end during Parsl's shutdown are still recorded."""

    def finish(self) -> None:
        """Commit what is left and close the file; after Parsl's shutdown."""
        self._queue.put(None)
        self._writer.join()
        with suppress(OSError):  # of a failed commit, which has been announced
            self._stream.close()

    def _write(self) -> None:
        failure: OSError | None = None
        is_open, last = True, 0.0
        while is_open:
            burst = [self._queue.get()]
            time.sleep(max(0.0, last + SECONDS_BETWEEN_COMMITS - time.monotonic()))
            while not self._queue.empty():
                burst.append(self._queue.get())
            finished = [item for item in burst if isinstance(item, tuple)]
            if finished and failure is None:
                failure = self._commit(b"".join(line for line, _, _ in finished))
                last = time.monotonic()
            if failure is None:
                self._entries.update({key: outcome for _, key, outcome in finished})
            for item in burst:
                if callable(item):
                    item(failure)
            is_open = None not in burst

    def _commit(self, lines: bytes) -> OSError | None:
        try:
            self._stream.write(lines)
            self._stream.flush()
            os.fsync(self._stream.fileno())
        except OSError as error:
            return error
        return None


def read_journal(path: Path) -> list[dict[str, Any]]:
    """The good lines of a journal, in the order in which their tasks finished."""
    return [record for record, _ in _good_lines(path)]


def _read_entries(path: Path) -> tuple[dict[str, Outcome], int]:
    """Outcomes by key, and the number of bytes up to the end of the last good line."""
    entries, n_good = {}, 0
    for record, end in _good_lines(path):
        entries[record["key"]] = outcome_of(record)
        n_good = end
    return entries, n_good


def _good_lines(path: Path) -> Iterator[tuple[dict[str, Any], int]]:
    if not path.exists():
        return
    end = 0
    for line in path.read_bytes().splitlines(keepends=True):
        end += len(line)
        if line.endswith(b"\n") and line.startswith(_prefix_of(line[_N_PREFIX:])):
            yield json.loads(line), end


def _line_of(key: str, call: Call, tries: int, outcome: str) -> bytes:
    """A line: what names the task, then the outcome, which is a JSON object already."""
    head = {
        "key": key,
        "task": call.label,
        "step": call.step,
        "version": call.version,
        "tries": tries,
    }
    body = f"{json.dumps(head)[1:-1]}, {outcome[1:]}\n".encode()
    return _prefix_of(body) + body


def _prefix_of(body: bytes) -> bytes:
    return f'{_PREFIX}{zlib.crc32(body):08x}", '.encode()


def _identity(value: object) -> object:
    if isinstance(value, Manifest):
        return [{n: asdict(a) for n, a in value.artefacts.items()}, dict(value.facts)]
    if isinstance(value, dict):
        return {name: _identity(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_identity(item) for item in value]
    raise TypeError(f"inputs must be manifests or lists of manifests; got {value!r}.")
