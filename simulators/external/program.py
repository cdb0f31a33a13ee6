"""A program of the user as a simulator: files in, a command, files out, per member.

Each member has a scratch folder of its own: `write_input` puts files there, the command
runs in it without a shell, `read_output` makes arrays of what it finds. The folder is
removed after success and kept, with the program's log, after a failure.
"""

import math
import shlex
import shutil
import signal
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from data.processes import end_of_log, start
from numpy.typing import NDArray

LOG = "program.log"  # standard output and error of the program, in its folder

# what a simulator takes is for its user to say: numbers, words, arrays
Parameters = Mapping[str, Any]
Output = dict[str, NDArray[Any]]


class ExternalProgramError(RuntimeError):
    """A program that did not give a result; the message says why and what is left."""


@dataclass(frozen=True, slots=True)
class ExternalSimulator:
    """Any executable as a simulator.

    Attributes:
        command: words, never a line for a shell. In each word `{folder}`, `{member}`
            and the names of numbers and words among a member's parameters stand for
            their values; a literal brace is written twice.
        read_output: from a member's folder to named arrays of finite numbers. What the
            program printed is in the file `LOG`.
        scratch: where the folders of members are made; the fastest storage that the
            program's node has.
        time_limit_s: a program that runs longer is killed with all that it started.
        write_input: puts a member's parameters into files of its folder; not needed
            where the command says it all.

    Raises:
        TypeError: at construction, if the command is a string.
        ValueError: at construction, if there is no command or no time.
    """

    command: Sequence[str]
    read_output: Callable[[Path], Mapping[str, Any]]
    scratch: Path
    time_limit_s: float
    write_input: Callable[[Parameters, Path], None] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.command, str):
            raise TypeError(
                "command must be a sequence of words; got one string, which only a "
                f"shell would split: {self.command!r}. Write {self.command.split()!r}."
            )
        if not self.command:
            raise ValueError("command must name a program; got no words.")
        if not (math.isfinite(self.time_limit_s) and self.time_limit_s > 0):
            raise ValueError(
                f"time_limit_s must be positive and finite; got {self.time_limit_s}."
            )


class MemberOutcomes(NamedTuple):
    """Results of members, and the causes of those that have none."""

    results: dict[int, Output]
    failures: dict[int, str]


def run_members(
    simulator: ExternalSimulator, members: Mapping[int, Parameters]
) -> MemberOutcomes:
    """Run the members one after the other; a failed one does not stop the others.

    Args:
        simulator: the program.
        members: parameters by member number.

    Raises:
        FileNotFoundError: if there is no such program here.
        ValueError: if a placeholder of the command has no value.
        OSError: if the scratch folder cannot be written (full, not permitted): the
            machine fails, not the member.
    """
    results, failures = dict[int, Output](), dict[int, str]()
    for member, parameters in members.items():
        try:
            results[member] = run_member(simulator, member, parameters)
        except ExternalProgramError as error:
            failures[member] = str(error)
    return MemberOutcomes(results, failures)


def run_member(
    simulator: ExternalSimulator, member: int, parameters: Parameters
) -> Output:
    """Run one member and return its arrays.

    No process of the program's group outlives this call, nor the calling process if
    that is killed; only a program that makes a session of its own escapes.

    Raises:
        ExternalProgramError: if the input cannot be written, the program ends with
            another code than 0 or not in time, or its output is not to be read; with
            the end of its log and the folder that is kept.
        FileNotFoundError, ValueError, OSError: as for `run_members`.
    """
    scratch = simulator.scratch.absolute()
    scratch.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"member-{member}-", dir=scratch))
    try:
        words = _fill_in(simulator.command, member, parameters, folder)
    except (FileNotFoundError, ValueError):
        folder.rmdir()
        raise
    where = f"{Path(words[0]).name} of member {member}"
    if simulator.write_input is not None:
        try:
            simulator.write_input(parameters, folder)
        except OSError:  # of the machine, not of the member
            shutil.rmtree(folder)
            raise
        except Exception as error:
            raise _failure(
                f"the input of {where} must be written", error, folder
            ) from error
    _run(words, folder, simulator.time_limit_s, where)
    try:
        output = _checked(simulator.read_output(folder))
    except Exception as error:  # whatever a reader may say to garbage
        rule = f"the output of {where} must be readable"
        raise _failure(rule, error, folder, words) from error
    shutil.rmtree(folder)
    return output


def _fill_in(
    command: Sequence[str], member: int, parameters: Parameters, folder: Path
) -> list[str]:
    """The words of a command for one member; the program as an absolute path."""
    known = {
        name: value
        for name, value in parameters.items()
        if isinstance(value, str | int | float | np.number)
    }
    known |= {"folder": str(folder), "member": member}
    try:
        words = [word.format_map(known) for word in command]
    except (KeyError, IndexError, ValueError) as error:
        raise ValueError(
            f"every placeholder of the command must be one of {', '.join(known)}; got "
            f"{list(command)} ({type(error).__name__}: {error}). A literal brace is "
            "written twice."
        ) from error
    program = shutil.which(words[0])
    if program is None:
        raise FileNotFoundError(
            f"the program must be on PATH, or a path to an executable file; got "
            f"{words[0]}. Install it, load its module, or give its full path."
        )
    return [str(Path(program).absolute()), *words[1:]]


def _run(words: list[str], folder: Path, time_limit_s: float, where: str) -> None:
    """Run a program to its end, in its folder and in a process group of its own."""
    [program] = start(words, folder / LOG, folder=folder)
    with program:
        code = program.wait(time_limit_s)
    if code is None:
        raise _failure(
            f"{where} must end within time_limit_s = {time_limit_s:g} s",
            "no end: it was killed with all that it had started. Raise the limit "
            "if it is merely slow",
            folder,
            words,
        )
    if code != 0:
        name = f"signal {signal.Signals(-code).name}" if code < 0 else f"code {code}"
        raise _failure(f"{where} must end with exit code 0", name, folder, words)


def _failure(
    rule: str, found: object, folder: Path, words: list[str] | None = None
) -> ExternalProgramError:
    """What must hold, what was found, how to see it again, the end of the log."""
    if isinstance(found, Exception):
        found = f"{type(found).__name__}: {found}"
    again = ""
    if words:
        again = f" See it again: cd {shlex.quote(str(folder))} && {shlex.join(words)}"
    return ExternalProgramError(
        f"{rule}; got {found}. Its files are kept in {folder}.{again}"
        f"\n{end_of_log(folder / LOG)}"
    )


def _checked(output: Mapping[str, Any]) -> Output:
    """Named arrays of finite numbers, else a ValueError."""
    arrays = {name: np.asarray(values) for name, values in output.items()}
    if not arrays:
        raise ValueError("read_output must return one array at least; got none")
    for name, array in arrays.items():
        if array.dtype.kind not in "biuf":
            raise ValueError(f"{name} must hold numbers; got dtype {array.dtype}")
        if array.size == 0:
            raise ValueError(f"{name} must hold values; got shape {array.shape}")
        bad = np.argwhere(~np.isfinite(array))
        if len(bad):
            place = tuple(bad[0].tolist())
            raise ValueError(f"{name} must be finite; got {array[place]} at {place}")
    return arrays
