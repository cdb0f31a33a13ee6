"""Time steps of packed rows: explicit Runge-Kutta 4, semi-implicit leapfrog.

    dx/dt = N(x) + G x - D x

with N the explicit terms, G fast linear ones and D a damping, see `Equation`. With x-,
x, x+ a step apart, 2 dt = t+ - t-, and a weight alpha, the leapfrog solves

    x+ - x- = 2dt [N(x) + G (alpha x+ + (1-alpha) x-) - D x+]

and filters the computational mode (Robert 1966, Asselin 1972; Williams 2009,
doi:10.1175/2009MWR2724.1): with d = (nu/2)(x- - 2x + x+), x gains w d and x+ loses
(1-w) d. Its error of first order in dt is that of nu (2w - 1).

The scheme slows the waves of G. Where a start excites them, a weak filter keeps them
out of phase, while a strong one or alpha > 0.5 takes their energy. Damping is implicit;
in Runge-Kutta steps it is applied exactly after each.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from simulators.sphere.compiling import compile_if

# of a time [s] after the beginning of the step: tendencies of rows
Added = Callable[[float], Tensor | None]


class Equation(Protocol):
    """dx/dt = explicit(x) + implicit(x) - damping x, of rows as in `packed`.

    Forcing and noise are not part of it; a time loop adds them to the tendencies.
    """

    @property
    def damping(self) -> Tensor | None:
        """Rates [1/s] that broadcast to rows, such as diffusion; None for none."""

    @property
    def compiled(self) -> bool:
        """Whether a scheme's own arithmetic goes through torch.compile too."""

    def explicit(self, rows: Tensor) -> Tensor:
        """Tendencies without those of `implicit`."""

    def implicit(self, rows: Tensor) -> Tensor:
        """Tendencies of the fast linear terms G; zero for a model that has none."""

    def implicit_inverse(
        self, before: Tensor, tendency: Tensor, interval_s: float, weight: float
    ) -> Tensor:
        """Rows x+ an interval after the rows x- before.

        They solve
        (x+ - x-)/interval = tendency + G (weight x+ + (1-weight) x-) - damping x+.
        """


@dataclass(frozen=True, slots=True)
class RungeKutta4:
    """The classical explicit scheme; of order 4.

    Raises:
        ValueError: if the step is not positive.
    """

    time_step_s: float

    def __post_init__(self) -> None:
        _check_step(self.time_step_s)

    def step(self, model: Equation, rows: Tensor, added: Added) -> Tensor:
        """Rows one step later."""
        dt = self.time_step_s

        def tendency(x: Tensor, offset_s: float) -> Tensor:
            total = model.explicit(x) + model.implicit(x)
            extra = added(offset_s)
            return total if extra is None else total + extra

        k1 = tendency(rows, 0.0)
        k2 = tendency(rows + 0.5 * dt * k1, 0.5 * dt)
        k3 = tendency(rows + 0.5 * dt * k2, 0.5 * dt)
        k4 = tendency(rows + dt * k3, dt)
        later = rows + (dt / 6) * (k1 + 2 * (k2 + k3) + k4)
        if model.damping is None:
            return later
        return later * torch.exp(-dt * model.damping)


@dataclass(frozen=True, slots=True)
class SemiImplicit:
    """Leapfrog with implicit linear terms and a Robert-Asselin-Williams filter.

    Args:
        time_step_s: [s].
        implicit_weight: alpha of the later level, 0.5 (neutral) to 1 (damping).
        filter_strength: nu, 0 to 1; 0.02 to 0.2 are usual.
        filter_weight: w, 1 for Robert-Asselin, about 0.53 for Williams' form.

    Raises:
        ValueError: if a value is out of range.
    """

    time_step_s: float
    implicit_weight: float = 0.5
    filter_strength: float = 0.2
    filter_weight: float = 0.53

    def __post_init__(self) -> None:
        _check_step(self.time_step_s)
        for name, value, lowest in (
            ("implicit_weight", self.implicit_weight, 0.5),
            ("filter_strength", self.filter_strength, 0.0),
            ("filter_weight", self.filter_weight, 0.5),
        ):
            if not lowest <= value <= 1:
                raise ValueError(f"{name} must be in [{lowest}, 1]; got {value}.")

    def first_step(
        self, model: Equation, rows: Tensor, added: Added
    ) -> tuple[Tensor, Tensor]:
        """Levels 0 and 1: half a step forward, then one centered on it."""
        dt = self.time_step_s
        middle = self.advance(model, (rows, rows), added(0.0), dt / 2)
        return rows, self.advance(model, (rows, middle), added(dt / 2), dt)

    def step(
        self, model: Equation, levels: tuple[Tensor, Tensor], added: Added
    ) -> tuple[Tensor, Tensor]:
        """Levels (t, t + dt), the first one filtered, from (t - dt, t)."""
        before, now = levels
        later = self.advance(model, levels, added(0.0), 2 * self.time_step_s)
        change, weight = self.filter_strength / 2, self.filter_weight
        factors = [torch.tensor(x) for x in (change * weight, change * (1 - weight))]
        return compile_if(model.compiled, _filtered)(before, now, later, factors)

    def advance(
        self,
        model: Equation,
        levels: tuple[Tensor, Tensor],
        added: Tensor | None,
        interval_s: float,
    ) -> Tensor:
        """The level an interval after the first, tendencies taken at the second."""
        before, now = levels
        tendency = model.explicit(now)
        if added is not None:
            tendency = tendency + added
        return model.implicit_inverse(
            before, tendency, interval_s, self.implicit_weight
        )


Scheme = RungeKutta4 | SemiImplicit


def _filtered(
    before: Tensor, now: Tensor, later: Tensor, factors: list[Tensor]
) -> tuple[Tensor, Tensor]:
    change = before - 2 * now + later
    return now + factors[0] * change, later - factors[1] * change


def _check_step(time_step_s: float) -> None:
    if not 0 < time_step_s < math.inf:
        raise ValueError(
            f"time_step_s must be positive and finite [s]; got {time_step_s}."
        )
