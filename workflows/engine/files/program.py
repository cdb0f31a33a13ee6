"""The program that drives a run: the words that start it, and where its steps lie.

A study may be one file. While it runs its module is called `__main__`, which no worker
can import: here it gets its real name, and workers the folder to find it in.
"""

import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

_PACKAGES = str(Path(__file__).parents[3])


@dataclass(frozen=True, slots=True)
class Program:
    """How a driver was started.

    Attributes:
        words: of its command line, before the options: `python -m my_study`.
        folder: from which its module is imported.
        module: the name by which others import it; None where they cannot.
    """

    words: tuple[str, ...]
    folder: str
    module: str | None


def this_program() -> Program:
    """The program that this process runs."""
    main = sys.modules["__main__"]
    path = getattr(main, "__file__", None)
    if path is None:  # a prompt, or `python -c`
        return Program(("python", *sys.argv[:1]), _PACKAGES, None)
    file, spec = Path(path).absolute(), main.__spec__
    if spec is None:
        words = ("python", str(file))
        if file.suffix == ".py" and file.stem.isidentifier():
            return Program(words, str(file.parent), file.stem)
        return Program(words, _PACKAGES, None)
    name = spec.name.removesuffix(".__main__")
    folder = file.parents[spec.name.count(".")]
    is_package = name != spec.name  # importing its `__main__` would start it
    return Program(
        ("python", "-m", name), str(folder), None if is_package else spec.name
    )


def importable_name(module: str) -> str | None:
    """The name by which workers import a module of this process; None if they cannot.

    For `__main__`, this process then knows its module by the real name, too, so that a
    class of it stays one class.
    """
    if module != "__main__":
        return module
    name = this_program().module
    if name is not None:
        sys.modules.setdefault(name, sys.modules["__main__"])
    return name


def start_command(start: Mapping[str, Any], *options: str) -> str:
    """The words that start the program of a run again, for a shell, from here.

    Args:
        start: `run.json`, or a continuation in it.
        options: of the command line.
    """
    words = shlex.join([*start["program"], *options])
    is_module = start["program"][1:2] == ["-m"]
    package = start["program"][-1].partition(".")[0]
    # a new process finds what is on the path, not what this one has imported
    if not is_module or PathFinder.find_spec(package):
        return words
    return f"cd {shlex.quote(start['program_folder'])} && {words}"
