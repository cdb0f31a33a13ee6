"""Time steps of packed rows: explicit Runge-Kutta 4, semi-implicit leapfrog.

The leapfrog averages the linear gravity waves over the levels before and after with a
weight alpha, dx = x+ - x-, 2 dt being the interval between them:

    dzeta = 2dt N_zeta,   ddelta = 2dt [N_delta + c (alpha Phi+ + (1-alpha) Phi-)]
    dPhi  = 2dt [N_Phi - PhiBar (alpha delta+ + (1-alpha) delta-)],  c = l(l+1)/a^2

which is a division per coefficient, and filters the computational mode (Robert 1966,
Asselin 1972; Williams 2009, doi:10.1175/2009MWR2724.1): with d = (nu/2)(x- - 2x + x+),
x gains w d and x+ loses (1-w) d. Its error of first order in dt is that of nu (2w - 1).
Order observed for smooth waves at T21: 2.0 without filter; with the default one 2.0
from 1800 to 225 s, then 1.7 and falling to 1; 1.0 with nu = 0.2 and w = 1.

The scheme slows gravity waves. Where a start excites them, as a mountain that appears
in Williamson's case 5, a weak filter keeps them out of phase, while a strong one or
alpha > 0.5 takes their energy: l2 of depth on day 15 and drift of energy at T42, 1800 s
are 1.2e-3 and -2e-7 without filter, 8.8e-4 and -1.0e-6 with the default one, 7.7e-4 and
-2.2e-6 with alpha = 0.55, which leaves none of the waves; vorticity hardly differs.
Diffusion is implicit; in Runge-Kutta steps it is applied exactly after each.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from simulators.shallow_water.equations import ShallowWater

# of a time [s] after the beginning of the step: tendencies (n_rows, 3, members)
Added = Callable[[float], Tensor | None]


@dataclass(frozen=True, slots=True)
class RungeKutta4:
    """The classical explicit scheme; of order 4.

    Raises:
        ValueError: if the step is not positive.
    """

    time_step_s: float

    def __post_init__(self) -> None:
        _check_step(self.time_step_s)

    def step(self, model: ShallowWater, rows: Tensor, added: Added) -> Tensor:
        """Rows one step later."""
        dt = self.time_step_s

        def tendency(x: Tensor, offset_s: float) -> Tensor:
            total = model.explicit_tendency(x) + model.wave_tendency(x)
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
    """Leapfrog with implicit gravity waves and a Robert-Asselin-Williams filter.

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
        self, model: ShallowWater, rows: Tensor, added: Added
    ) -> tuple[Tensor, Tensor]:
        """Levels 0 and 1: half a step forward, then one centered on it."""
        dt = self.time_step_s
        middle = self.advance(model, (rows, rows), added(0.0), dt / 2)
        return rows, self.advance(model, (rows, middle), added(dt / 2), dt)

    def step(
        self, model: ShallowWater, levels: tuple[Tensor, Tensor], added: Added
    ) -> tuple[Tensor, Tensor]:
        """Levels (t, t + dt), the first one filtered, from (t - dt, t)."""
        before, now = levels
        later = self.advance(model, levels, added(0.0), 2 * self.time_step_s)
        change, weight = self.filter_strength / 2, self.filter_weight
        factors = [torch.tensor(x) for x in (change * weight, change * (1 - weight))]
        return model.compile(_filtered)(before, now, later, factors)

    def advance(
        self,
        model: ShallowWater,
        levels: tuple[Tensor, Tensor],
        added: Tensor | None,
        interval_s: float,
    ) -> Tensor:
        """The level an interval after the first, tendencies taken at the second."""
        before, now = levels
        tendency = model.explicit_tendency(now)
        if added is not None:
            tendency = tendency + added
        constants = (interval_s, self.implicit_weight, model.reference_geopotential)
        return model.compile(_solved)(
            before,
            tendency,
            model.eigenvalue,
            model.damping,
            # tensors: torch.compile would compile again for each number
            [torch.tensor(x, dtype=torch.float64) for x in constants],
        )


def _solved(
    before: Tensor,
    tendency: Tensor,
    eigenvalue: Tensor,
    damping: Tensor | None,
    constants: list[Tensor],
) -> Tensor:
    """Rows after the interval of a semi-implicit step; damping is (n_rows, 3, 1)."""
    interval, alpha, reference = constants
    vorticity, divergence, geopotential = (before + interval * tendency).unbind(1)
    implicit, explicit = interval * alpha, interval * (1 - alpha)
    divergence = divergence + explicit * eigenvalue * before[:, 2]
    geopotential = geopotential - explicit * reference * before[:, 1]
    scale = 1 + (implicit**2 * reference) * eigenvalue
    if damping is not None:
        vorticity = vorticity / (1 + interval * damping[:, 0])
        scale = scale + interval * damping[:, 1]
    divergence = (divergence + implicit * eigenvalue * geopotential) / scale
    geopotential = geopotential - implicit * reference * divergence
    return torch.stack((vorticity, divergence, geopotential), dim=1)


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
