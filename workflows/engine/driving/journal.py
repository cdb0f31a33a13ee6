"""The journal of a run: finished tasks, one durable line each, never computed twice.

Key of a task: SHA-256 over step name, declared version, canonical record, seed, and the
artefacts and facts of its inputs. A line is `{"crc32": "xxxxxxxx", ...}`: the checksum
covers the rest, so a torn or altered line is known and dropped. Lines of a burst share
one fsync, after which, and not before, the results are announced (group commit).
A line `{"invalidated": [keys]}` takes back the lines of these keys before it.
Parsl asks through its `Memoizer` interface at launch, when inputs are known; the
pipeline asks `lookup` before it submits, so that finished work costs no Parsl task.
"""

import hashlib
import json
import os
import threading
import time
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from parsl.dataflow.memoization import Memoizer
from parsl.dataflow.taskrecord import TaskRecord

from data.durable_files import sync_folder
from workflows.engine.driving.tasks import Call, Inputs, Outcome, call_of, outcome_of
from workflows.engine.files.artefacts import Manifest, is_intact

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
    """`journal.jsonl` of one run, written by its driver alone.

    Attributes:
        damaged: numbers of the lines, from 1, that cannot be believed. What a kill has
            torn off at the end is none of them.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._root = path, path.parent
        records, n_good, self.damaged = _standing(path)
        self._entries = {key: outcome_of(record) for key, record in records.items()}
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
            call, inputs = call_of(task["args"][0]), task["args"][1]
            key = task["hashsum"] or task_key(call, inputs)
            head = {
                "key": key,
                "task": call.label,
                "step": call.step,
                "version": call.version,
                "tries": task["fail_count"] + 1,
                "inputs": sorted({_digest(item) for item in _manifests(inputs)}),
            }
            line = _line_of(f"{json.dumps(head)[1:-1]}, {r[1:]}")
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
    """The good lines of tasks, in the order in which these finished."""
    return [record for _, record, _ in _good_lines(path) if "key" in record]


def invalidate(path: Path, steps: Sequence[str]) -> int:
    """Take back, durably, what some steps left and all that was made from it.

    Args:
        path: the journal of a run that nobody drives.
        steps: names of functions, `simulate_block`, or with their module,
            `workflows.hanford.steps:simulate_block`.

    Returns:
        The number of tasks that will be computed again.

    Raises:
        ValueError: if the journal knows no such step; names those it knows.
    """
    records, n_good, _ = _standing(path)
    for step in steps:
        known = {record["step"] for record in records.values()}
        if not any(_is_named(name, step) for name in known):
            names = ", ".join(sorted(name.partition(":")[2] for name in known))
            raise ValueError(
                f"--invalidate must name a step that has finished tasks; got {step}. "
                f"There are: {names or 'none yet'}."
            )
    users = defaultdict[str, set[str]](set)  # keys, by the digest of what they use
    for key, record in records.items():
        for digest in record["inputs"]:
            users[digest].add(key)
    doomed = set[str]()
    found = {
        key
        for key, record in records.items()
        if any(_is_named(record["step"], step) for step in steps)
    }
    while found:
        doomed |= found
        digests = {_digest(outcome_of(records[key]).manifest) for key in found}
        found = set[str]().union(*(users[digest] for digest in digests)) - doomed
    with path.open("r+b") as stream:
        stream.truncate(n_good)
        stream.seek(n_good)
        stream.write(_line_of(json.dumps({"invalidated": sorted(doomed)})[1:]))
        stream.flush()
        os.fsync(stream.fileno())
    return len(doomed)


def _is_named(name: str, step: str) -> bool:
    return step in (name, name.partition(":")[2])


def _standing(path: Path) -> tuple[dict[str, dict[str, Any]], int, list[int]]:
    """Records by key, bytes up to the end of the last good line, damaged lines."""
    records, good, n_good = dict[str, dict[str, Any]](), [0], 0
    for number, record, end in _good_lines(path):
        good.append(number)
        n_good = end
        if "key" in record:
            records[record["key"]] = record
        for key in record.get("invalidated", ()):
            records.pop(key, None)
    return records, n_good, sorted(set(range(1, good[-1])) - set(good))


def _good_lines(path: Path) -> Iterator[tuple[int, dict[str, Any], int]]:
    """Number from 1, record, and bytes up to its end, of each good line."""
    if not path.exists():
        return
    end = 0
    for number, line in enumerate(path.read_bytes().splitlines(keepends=True), 1):
        end += len(line)
        if line.endswith(b"\n") and line.startswith(_prefix_of(line[_N_PREFIX:])):
            yield number, json.loads(line), end


def _line_of(body: str) -> bytes:
    """A line: the checksum before the rest of a JSON object."""
    rest = f"{body}\n".encode()
    return _prefix_of(rest) + rest


def _prefix_of(body: bytes) -> bytes:
    return f'{_PREFIX}{zlib.crc32(body):08x}", '.encode()


def _digest(manifest: Manifest) -> str:
    """What names the result of a task to those that it is an input of."""
    text = _SORTED.encode(_identity(manifest))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _manifests(inputs: Inputs) -> Iterator[Manifest]:
    for value in inputs.values():
        yield from [value] if isinstance(value, Manifest) else value


def _identity(value: object) -> object:
    if isinstance(value, Manifest):
        return [{n: asdict(a) for n, a in value.artefacts.items()}, dict(value.facts)]
    if isinstance(value, dict):
        return {name: _identity(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_identity(item) for item in value]
    raise TypeError(f"inputs must be manifests or lists of manifests; got {value!r}.")
