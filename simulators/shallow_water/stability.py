"""The largest safe time step, from the winds and depths of a state.

    Runge-Kutta 4:   2.83 a / ((c + U) sqrt(T(T+1)))
    semi-implicit:   1.05 a / (U sqrt(T(T+1)))

with U the largest wind and c the fastest gravity wave, sqrt of the largest Phi. 2.83 is
the imaginary axis' share of the region of Runge-Kutta 4; the wind carries the gravity
waves along. On the Galewsky jet (80 m/s, 6 days, with and without diffusion) the first
rule gives 1075 s at T42 and 533 s at T85, where 1200 and 570 s were stable and 1250 and
600 s were not; for the steady flow of Williamson's case 2 at T31 2726 s, where 2800 s
held for 20 days and 2880 s did not for 5. The second gives 2017 and 984 s for the jet,
where 2700 and 1028 s were stable and 2850 and 1050 s were not.
"""

import math

import torch

from simulators.shallow_water.equations import ShallowWater
from simulators.shallow_water.state import State
from simulators.shallow_water.stepping import RungeKutta4, SemiImplicit

MEMBERS_AT_ONCE = 16


def largest_time_step(
    model: ShallowWater, state: State, scheme: RungeKutta4 | SemiImplicit
) -> float:
    """Largest safe step [s] for the winds and depths of a state; infinite at rest.

    Raises:
        ValueError: if a member is not finite or has no fluid somewhere.
    """
    return _largest_time_step(model, scheme, *_extremes(model, state))


def check_time_step(
    model: ShallowWater, state: State, scheme: RungeKutta4 | SemiImplicit
) -> None:
    """Refuse a step that is unstable for the winds and depths of a state.

    Raises:
        ValueError: naming the largest safe step.
    """
    wind, geopotential = _extremes(model, state)
    largest = _largest_time_step(model, scheme, wind, geopotential)
    if scheme.time_step_s > largest:
        raise ValueError(
            f"time_step_s must be at most {math.floor(largest)} s for {scheme!r} at "
            f"truncation {model.harmonics.truncation} with these winds and depths; "
            f"got {scheme.time_step_s:g} s."
        )
    is_implicit = isinstance(scheme, SemiImplicit)
    if is_implicit and model.reference_geopotential < geopotential / 2:
        raise ValueError(
            "reference_geopotential must be at least half the largest geopotential of "
            f"{geopotential:.6g} m2/s2 for a semi-implicit step; got "
            f"{model.reference_geopotential:g}."
        )


def _largest_time_step(
    model: ShallowWater,
    scheme: RungeKutta4 | SemiImplicit,
    wind: float,
    geopotential: float,
) -> float:
    t = model.harmonics.truncation
    speed = wind / 1.05
    if isinstance(scheme, RungeKutta4):
        speed = (math.sqrt(geopotential) + wind) / 2.83
    if speed == 0:
        return math.inf
    return model.harmonics.radius / (speed * math.sqrt(t * (t + 1)))


def _extremes(model: ShallowWater, state: State) -> tuple[float, float]:
    """Largest wind [m/s] and geopotential [m2/s2] of all members."""
    n = model.harmonics.truncation + 1
    fields = (state.vorticity, state.divergence, state.geopotential)
    flat = [torch.split(x.detach().reshape(-1, n, n), MEMBERS_AT_ONCE) for x in fields]
    speeds, highest, is_good = [], [], []
    for vorticity, divergence, geopotential in zip(*flat, strict=True):
        u, v = model.harmonics.wind(vorticity, divergence)
        depth = model.harmonics.synthesise(geopotential).flatten(1)
        speed = torch.hypot(u, v).flatten(1)
        is_good.append(speed.isfinite().all(dim=1) & (depth > 0).all(dim=1))
        speeds.append(speed.max())
        highest.append(depth.max())
    bad = (~torch.cat(is_good)).nonzero().flatten().tolist()
    if bad:
        raise ValueError(
            "every member must be finite with a positive depth everywhere; got members "
            f"{bad[:10]} that are not. Leave them out, or smooth their mountain."
        )
    return float(torch.stack(speeds).max()), float(torch.stack(highest).max())
