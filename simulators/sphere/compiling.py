"""Functions that go through torch.compile where a model asks for it."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch

Function = TypeVar("Function", bound=Callable[..., Any])  # any, as torch.compile takes


def compile_if(wanted: bool, function: Function) -> Function:
    """The function, or its compiled form; there is one such form for all models."""
    return _compiled(function) if wanted else function


def _compile(function: Function) -> Function:
    # torch.compile says of its result only that it can be called
    return cast("Function", torch.compile(function, dynamic=False))


_compiled = functools.cache(_compile)
