"""What a model on the sphere gives, so that this folder can run it.

A model gives the equation and knows its states; `integrate` and its schemes know
neither. Rows are packed coefficients (n_rows, n_fields, members), see `packed`.
"""

import math
from collections.abc import Callable
from typing import Protocol, TypeVar

from torch import Tensor

from simulators.sphere.packed import PackedTransform
from simulators.sphere.stepping import Equation, Scheme

State = TypeVar("State")


class StartError(ValueError):
    """A run cannot start from a state, or not with this time step."""


class SphereModel(Equation, Protocol[State]):
    """An equation with its states and their packing."""

    @property
    def transform(self) -> PackedTransform:
        """The order of rows, with truncation, grid, dtype and device."""

    @property
    def n_fields(self) -> int:
        """Fields of a state; noise forces the first one."""

    @property
    def requirement(self) -> str:
        """What `is_sound` asks of a state, such as "finite"; part of an error."""

    @property
    def forcing(self) -> Callable[[float], State] | None:
        """Tendencies (per s) at a time [s], the same for all members; None for none."""

    def pack(self, state: State) -> Tensor:
        """Rows (n_rows, n_fields, ...) of a state, whose leading dimensions come last.

        Raises:
            ValueError: if the shape is not that of this model.
            TypeError: if the dtype is not that of this model.
        """

    def unpack(self, rows: Tensor) -> State:
        """The state of rows (n_rows, n_fields, ...)."""

    def is_sound(self, rows: Tensor) -> Tensor:
        """Which members (members,) are finite and physical."""

    def largest_time_step(self, state: State, scheme: Scheme) -> float:
        """Largest step [s] that is stable for all members; infinite at rest.

        Raises:
            StartError: if no step of this scheme is stable.
        """


def check_time_step(model: SphereModel[State], state: State, scheme: Scheme) -> None:
    """Refuse a step that is unstable for some member of a state.

    Raises:
        StartError: naming the largest safe step.
    """
    largest = model.largest_time_step(state, scheme)
    if scheme.time_step_s > largest:
        raise StartError(
            f"time_step_s must be at most {math.floor(largest)} s for {scheme!r} at "
            f"truncation {model.transform.truncation} with these states; got "
            f"{scheme.time_step_s:g} s."
        )
