"""Programs that end with the process that starts them, and all that they start.

A supervisor stands between the two (`supervisor.py`), so that this holds when the
starter is killed, and when the program hangs. Only what makes a session of its own
escapes.
"""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, Self

_SUPERVISOR = str(Path(__file__).with_name("supervisor.py"))
_TAIL_LINES, _TAIL_BYTES = 15, 4096


class Process:
    """A started program; what is left of it is killed where its context ends.

    Attributes:
        log: gets what it prints.
    """

    def __init__(self, supervisor: "subprocess.Popen[bytes]", log: Path) -> None:
        self._supervisor, self.log = supervisor, log
        self._code: int | None = None

    def wait(self, seconds: float | None = None) -> int | None:
        """Its return code, negative for a signal; None if it runs on after the time."""
        says: Any = self._supervisor.stdout  # a pipe; it ends when the supervisor does
        if self._code is None and wait([says], seconds):
            said = says.read()
            # a supervisor that was killed said nothing
            self._code = int(said) if said else self._supervisor.wait()
        return self._code

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._supervisor:
            pass  # closes its input and waits: then nothing of the group is left


def start(
    words: Sequence[str],
    log: Path,
    *,
    folder: Path | None = None,
    variables: Mapping[str, str] | None = None,
    prefix: Sequence[str] = (),
    n: int = 1,
    pass_fds: Sequence[int] = (),
) -> list[Process]:
    """Start a program, or n of it, under supervision.

    Args:
        words: the program, as an absolute path or on PATH, and its arguments.
        log: gets what it prints; for n > 1 each command has a log, `log-<i>`.
        folder: where it runs; that of this process if left out.
        variables: of its environment, beside those of this process.
        prefix: words that start all n by one command, such as `srun -n 64`.
        n: how many of it run.
        pass_fds: descriptors that stay open in it and in its supervisor.

    Returns:
        A process per command: one with a prefix, else n.
    """
    logs, processes = [log], []
    if n > 1:
        logs = [log.with_stem(f"{log.stem}-{i}") for i in range(1 if prefix else n)]
    for path in logs:
        with path.open("wb") as stream:
            supervisor = subprocess.Popen(
                [sys.executable, "-I", "-S", _SUPERVISOR, *prefix, *words],
                cwd=folder,
                env={**os.environ, **(variables or {})},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stream,
                start_new_session=True,
                pass_fds=pass_fds,
            )
        processes.append(Process(supervisor, path))
    return processes


def end_of_log(path: Path) -> str:
    """The last lines of a log, indented under a heading; says if there are none."""
    if not path.exists():
        return f"There is no {path.name}: it did not run."
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        text = stream.read().decode(errors="replace")
    lines = text.rstrip().splitlines()[-_TAIL_LINES:]
    if not lines:
        return f"It printed nothing ({path.name} is empty)."
    return "\n".join([f"The end of {path.name}:", *(f"    {line}" for line in lines)])
