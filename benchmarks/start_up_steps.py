"""The tasks of the start-up benchmark: one that answers, one whose import is broken."""

import importlib
from dataclasses import dataclass

from workflows.engine.files.artefacts import Manifest

MISSING = "physics_that_is_not_installed"


@dataclass(frozen=True, slots=True)
class Nothing:
    """No argument."""


def plain_answer() -> int:
    """Answers at once, without the engine."""
    return 42


def answer(record: Nothing, folder: object, log: object) -> Manifest:
    """Answers at once."""
    return Manifest({}, {"answer": 42})


def import_missing(record: Nothing, folder: object, log: object) -> Manifest:
    """Needs a module that workers cannot import."""
    importlib.import_module(MISSING)
    return Manifest()
