"""A function called in a process of its own, which may be killed or lost.

Protocol: the caller writes `call.json` into a folder and starts `python -P -m
data.calls FOLDER`; that resolves "module:name", calls it, and writes `answer.json`: the
result, or the parts of which the error is built again. What is read there never runs.
"""

import json
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from data.durable_files import write_durably
from data.failures import is_permanent
from data.processes import end_of_log, start

_PACKAGES = str(Path(__file__).parents[1])
_CALL, _ANSWER, _LOG = "call.json", "answer.json", "output.txt"


class TimeLimitError(Exception):
    """A function took longer than it may; it would again."""


class LostProcessError(ChildProcessError):
    """A process ended without a word: killed, or out of memory."""


def call(
    function: str,
    arguments: Mapping[str, Any],
    folder: Path,
    *,
    name: str,
    time_limit_s: float | None = None,
    variables: Mapping[str, str] | None = None,
    pass_fds: Sequence[int] = (),
) -> Any:  # noqa: ANN401  # any JSON value
    """Call `function(**arguments)` in a new process, which imports what this one does.

    Args:
        function: "module:name" of an importable function that returns a JSON value.
        arguments: JSON values.
        folder: empty, and of this call alone; nothing in it is removed.
        name: what errors call the function.
        time_limit_s: for all of it, the start of the process included.
        variables: as for `start`.
        pass_fds: as for `start`.

    Raises:
        TimeLimitError: it took longer and was killed with all that it had started.
        LostProcessError: something else ended the process.
        Exception: what the function raised, or its words in a RuntimeError if its class
            does not build it from its arguments. `remote_traceback` is that of the
            process, `is_deterministic` its judgement; what is no JSON is its `repr`.
    """
    text = json.dumps({"function": function, "arguments": dict(arguments)})
    (folder / _CALL).write_text(text)
    # our packages first: no `data.py` in a user's folder stands for one of them
    path = [_PACKAGES, *(str(Path(entry).absolute()) for entry in sys.path)]
    [process] = start(
        [sys.executable, "-P", "-m", __name__, str(folder)],
        folder / _LOG,
        variables={**(variables or {}), "PYTHONPATH": os.pathsep.join(path)},
        pass_fds=pass_fds,
    )
    with process:
        code = process.wait(time_limit_s)
    tail = end_of_log(process.log)
    if code is None:
        raise TimeLimitError(
            f"{name} must end within {time_limit_s:g} s; it was killed then. Raise the "
            f"time limit, or give it less to do.\n{tail}"
        )
    if not (folder / _ANSWER).exists():
        ended = f"was ended by signal {-code}" if code < 0 else f"exited with {code}"
        raise LostProcessError(f"{name} must answer; its process {ended}.\n{tail}")
    answer = json.loads((folder / _ANSWER).read_bytes())
    if "error" in answer:
        raise _rebuilt(**answer["error"])
    return answer["result"]


def _answer(folder: Path) -> None:
    """What the process does."""
    what = json.loads((folder / _CALL).read_bytes())
    try:
        result = resolve_name(what["function"])(**what["arguments"])
        answer = json.dumps({"result": result})
    except Exception as error:  # whatever it is, the caller has to judge it
        traceback.print_exc()
        told = {
            "kind": f"{type(error).__module__}:{type(error).__qualname__}",
            "arguments": error.__reduce__()[1],  # an OSError keeps its file name apart
            "text": str(error),
            "attributes": {
                "is_deterministic": is_permanent(error),
                "remote_traceback": traceback.format_exc(),
                **vars(error),  # of a call within this call
            },
        }
        answer = json.dumps({"error": told}, default=repr)
    write_durably(folder / _ANSWER, [answer.encode()])


def _rebuilt(
    kind: str, arguments: Sequence[Any], text: str, attributes: Mapping[str, Any]
) -> Exception:
    error: Exception = RuntimeError(f"{kind.rpartition(':')[2]}: {text}")
    with suppress(Exception):  # whatever a class makes of another's arguments
        found = resolve_name(kind)
        if issubclass(found, Exception) and str(built := found(*arguments)) == text:
            error = built
    error.__dict__.update(attributes)
    return error


if __name__ == "__main__":
    _answer(Path(sys.argv[1]))
    sys.stdout.flush()
    # not sys.exit: threads that the function left would be waited for
    os._exit(0)
