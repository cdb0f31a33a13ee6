"""How a command ends when something goes wrong: a sentence, a fix, an exit code.

0 complete, 1 failed, 2 bad arguments, 130 interrupted.
"""

import os
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer

from data.failures import is_permanent
from workflows.engine.files.program import start_command
from workflows.engine.files.run_folder import continue_command, retract_results
from workflows.engine.watching.telling import tell

_BAD_ARGUMENTS = (
    ValueError,
    FileNotFoundError,
    FileExistsError,
    NotADirectoryError,
    PermissionError,
    BlockingIOError,
)


@contextmanager
def bad_arguments_exit_2() -> Iterator[None]:
    """Say what must hold in one line; storage that refuses is no bad argument."""
    try:
        yield
    except _BAD_ARGUMENTS as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
    except OSError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error


@contextmanager
def failures_exit_1(folder: Path, run: Mapping[str, Any]) -> Iterator[None]:
    """Say what went wrong on one screen; the traceback goes to a file of the run.

    Args:
        folder: of the run.
        run: the content of its `run.json`.
    """
    continuation = continue_command(run, folder)
    try:
        yield
    except KeyboardInterrupt:
        tell("\ninterrupted; tasks that ran will run again. To continue:")
        tell(f"  {continuation}")
        os._exit(130)  # threads cannot be ended; a usual exit would wait for them
    except Exception as error:
        tell(
            f"failed: {type(error).__name__}: {_shortened(str(error))}",
            *(f"  {_shortened(note)}" for note in getattr(error, "__notes__", [])),
        )
        if is_permanent(error):
            tell("to try again with other settings, start a new run:")
            tell(f"  {start_command(run, '--set', 'KEY=VALUE')} ...")
        tell("to continue with the same, once the cause is gone:", f"  {continuation}")
        _keep_traceback(folder / "failure.txt", error)
        retract_results(folder)
        raise typer.Exit(1) from error


def _keep_traceback(path: Path, error: Exception) -> None:
    trace = "".join(traceback.format_exception(error))
    remote = getattr(error, "remote_traceback", "")  # of another process
    trace = f"{remote}\nThat ended the following:\n\n{trace}" if remote else trace
    try:
        path.write_text(trace, encoding="utf-8")
    except OSError as refused:
        tell(f"no traceback could be kept: {refused}")
    else:
        tell(f"traceback: {path}")


def _shortened(text: str, n_characters: int = 1200) -> str:
    return text if len(text) <= n_characters else f"{text[:n_characters]} ..."
