"""Runs a training function in a process of its own with a fixed number of threads.

Seeds and thread counts then mean the same under every executor, and no orphan writes
into a continued run: the process ends with the one that launched it.
"""

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from data.calls import call
from data.failures import is_permanent

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


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
    function: str,
    arguments: Mapping[str, Any],
    *,
    n_threads: int,
    folder: Path,
    pass_fds: Sequence[int] = (),
) -> dict[str, Any]:
    """Calls `function(**arguments)` in a new process and returns its result.

    Args:
        function: "module:name" of an importable function that returns a dictionary.
        arguments: keyword arguments; JSON values only.
        n_threads: threads for torch and the linear algebra libraries.
        folder: where the attempt's folder is made, and kept if the process fails.
        pass_fds: descriptors that stay open as long as the process lives.

    Raises:
        TrainingError: the process failed; ends with its last error.
    """
    folder.mkdir(parents=True, exist_ok=True)
    attempt = Path(tempfile.mkdtemp(prefix="rank-", dir=folder))
    told = {"function": function, "arguments": arguments, "n_threads": n_threads}
    try:
        result: dict[str, Any] = call(
            f"{__name__}:run_rank",
            told,
            attempt,
            name=function,
            variables=dict.fromkeys(_THREADS, str(n_threads)),
            pass_fds=pass_fds,
        )
    except Exception as error:
        raise TrainingError(
            f"{type(error).__name__}: {error}",
            is_deterministic=is_permanent(error),
            remote_traceback=getattr(error, "remote_traceback", ""),
        ) from error
    shutil.rmtree(attempt)
    return result


def run_rank(function: str, arguments: Mapping[str, Any], n_threads: int) -> object:
    """What the process does."""
    import torch

    torch.set_num_threads(n_threads)
    return resolve_name(function)(**arguments)
