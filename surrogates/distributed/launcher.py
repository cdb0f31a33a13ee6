"""Runs a training function in a process of its own with a fixed number of threads.

Seeds and thread counts then mean the same under every executor. The protocol: the
parent writes `call.json` (function, arguments) into an attempt's folder and starts
`python -m surrogates.distributed.rank FOLDER`; the child writes `result.json`. The
child's standard input is a pipe from the parent: its end of file tells a child that its
parent is gone, and it ends at once, so that no orphan writes into a continued run.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

TAIL_LINES = 20
_PACKAGES = str(Path(__file__).parents[2])


class TrainingError(RuntimeError):
    """A training process failed; the message holds its cause.

    Attributes:
        is_deterministic: whether it raised what the same call will raise again; not so
            where it was killed, or where storage failed.
        remote_traceback: of the process, empty where it was killed.
    """

    def __init__(
        self,
        message: str,
        *,
        is_deterministic: bool = False,
        remote_traceback: str = "",
    ) -> None:
        super().__init__(message)
        self.is_deterministic = is_deterministic
        self.remote_traceback = remote_traceback


def launch(
    function: str, arguments: Mapping[str, Any], *, n_threads: int, folder: Path
) -> dict[str, Any]:
    """Calls `function(**arguments)` in a new process and returns its result.

    Args:
        function: "module:name" of an importable function that returns a dictionary.
        arguments: keyword arguments; JSON values only.
        n_threads: threads for torch and the linear algebra libraries.
        folder: where the attempt's folder is made, and kept if the process fails.

    Raises:
        TrainingError: the process failed; ends with its last error.
    """
    folder.mkdir(parents=True, exist_ok=True)
    attempt = Path(tempfile.mkdtemp(prefix="rank-", dir=folder))
    call = {"function": function, "arguments": dict(arguments), "n_threads": n_threads}
    (attempt / "call.json").write_text(json.dumps(call))
    with (attempt / "output.txt").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "surrogates.distributed.rank", str(attempt)],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=_environment(n_threads),
        )
        with process:
            process.wait()
    if process.returncode != 0:
        raise _failure(function, process.returncode, attempt)
    result: dict[str, Any] = json.loads((attempt / "result.json").read_text())
    for path in attempt.iterdir():
        path.unlink()
    attempt.rmdir()
    return result


def import_path() -> str:
    """`PYTHONPATH` with which a new process imports what this one does.

    Our packages come first: no `data.py` in a user's folder stands for one of them.
    """
    return os.pathsep.join([_PACKAGES, *filter(None, sys.path)])


def _environment(n_threads: int) -> dict[str, str]:
    """The parent's environment with its import path and the thread counts."""
    threads = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return {
        **os.environ,
        **dict.fromkeys(threads, str(n_threads)),
        "PYTHONPATH": import_path(),
    }


def _failure(function: str, code: int, attempt: Path) -> TrainingError:
    """The error with the cause that the process wrote, or how it ended."""
    path = attempt / "error.json"
    if path.exists():
        told = json.loads(path.read_bytes())
        return TrainingError(
            told["cause"],
            is_deterministic=told["is_permanent"],
            remote_traceback=told["traceback"],
        )
    ended = f"was ended by signal {-code}" if code < 0 else f"exited with {code}"
    tail = (attempt / "output.txt").read_text(errors="replace").splitlines()
    lines = [f"{function} {ended}; last output:", *tail[-TAIL_LINES:]]
    return TrainingError("\n".join(lines))
