"""A step in a process of its own, killed with all its children at its time limit.

A step that hangs in compiled code cannot be stopped from within its interpreter.
Protocol: this module as a program, with SECONDS, reads a pickled call and its manifests
from standard input and writes the outcome, or the exception, pickled, to what was its
standard output; what the step prints goes to standard error. Both ends are the same
program. Should its parent be killed, the process ends within a second, or, hung
in compiled code, by the alarm that it set when it began.
"""

import math
import os
import pickle
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from surrogates.distributed.launcher import import_path
from workflows.engine.driving.interchange import end_with

if TYPE_CHECKING:
    from workflows.engine.driving.tasks import Call, Inputs

SECONDS_OF_GRACE = 2  # before the alarm, for the parent to act first


class TimeLimitError(Exception):
    """A step took longer than it may; it would again."""


class LostProcessError(Exception):
    """The process of a step ended without a word: killed, or out of memory."""


def compute_within(call: "Call", manifests: "Inputs", limit_s: float) -> str:
    """The outcome of a step, computed in a new process, as JSON.

    Args:
        call: the step and its record.
        manifests: what earlier tasks left.
        limit_s: seconds for all of it, the start of the process included.

    Raises:
        TimeLimitError: the step took longer and was killed.
        LostProcessError: something else ended the process.
        Exception: whatever the step raised.
    """
    words = [sys.executable, "-m", __name__, str(limit_s)]
    with subprocess.Popen(
        words,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": import_path()},
        start_new_session=True,
    ) as process:
        try:
            answer, _ = process.communicate(pickle.dumps((call, manifests)), limit_s)
        except subprocess.TimeoutExpired:
            raise TimeLimitError(
                f"{call.step} must end within {limit_s:g} s; it was killed then. Raise "
                "the time limit of the task, or give it less to do."
            ) from None
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # what it may have started, too
    try:
        outcome, error = pickle.loads(answer)
    except (EOFError, pickle.UnpicklingError):
        raise LostProcessError(
            f"the process of {call.step} must send its outcome; it ended with code "
            f"{process.returncode} (negative: by that signal)."
        ) from None
    if error is not None:
        raise error
    return str(outcome)


def main() -> None:
    """What the process does."""
    signal.alarm(math.ceil(float(sys.argv[1])) + SECONDS_OF_GRACE)
    threading.Thread(target=end_with, args=(os.getppid(),), daemon=True).start()
    answer = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    from workflows.engine.driving.tasks import compute

    call, manifests = pickle.load(sys.stdin.buffer)
    try:
        message = pickle.dumps((compute(call, manifests), None))
    except Exception as error:  # whatever the step raises is its parent's to judge
        message = _pickled(error)
    with answer:
        answer.write(message)


def _pickled(error: Exception) -> bytes:
    try:
        message = pickle.dumps((None, error))
        pickle.loads(message)  # some exceptions can be written, not read
    except Exception:
        return pickle.dumps((None, RuntimeError(f"{type(error).__name__}: {error}")))
    return message


if __name__ == "__main__":
    main()
