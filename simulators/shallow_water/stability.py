"""The largest safe time step, from the winds and depths of a state.

    Runge-Kutta 4:   2.83 a / ((c + U) sqrt(T(T+1)))
    semi-implicit:   1.05 a / (U sqrt(T(T+1)))

with U the largest wind and c the fastest gravity wave, sqrt of the largest Phi. 2.83 is
the imaginary axis' share of the region of Runge-Kutta 4; the wind carries the gravity
waves along. 1.05 is measured, as the leapfrog is only neutral there. What an implicit
step leaves explicit is stable if its reference is at least half the largest Phi.
"""

import math

import torch

from simulators.shallow_water.state import State
from simulators.sphere import RungeKutta4, Scheme, SphericalHarmonics, StartError

MEMBERS_AT_ONCE = 16


def largest_time_step(
    harmonics: SphericalHarmonics,
    reference_geopotential: float,
    state: State,
    scheme: Scheme,
) -> float:
    """Largest safe step [s] for all members; infinite for a semi-implicit one at rest.

    Raises:
        StartError: if the reference of a semi-implicit step is too low.
    """
    wind, geopotential = _extremes(harmonics, state)
    if isinstance(scheme, RungeKutta4):
        speed = (math.sqrt(geopotential) + wind) / 2.83
    else:
        speed = wind / 1.05
        if reference_geopotential < geopotential / 2:
            raise StartError(
                "reference_geopotential must be at least half the largest geopotential "
                f"of {geopotential:.6g} m2/s2 for a semi-implicit step; got "
                f"{reference_geopotential:g}."
            )
    if speed == 0:
        return math.inf
    if not speed < math.inf:  # winds overflow
        return 0.0
    t = harmonics.truncation
    return harmonics.radius / (speed * math.sqrt(t * (t + 1)))


def _extremes(harmonics: SphericalHarmonics, state: State) -> tuple[float, float]:
    """Largest wind [m/s] and geopotential [m2/s2] of all members."""
    n = harmonics.truncation + 1
    fields = (state.vorticity, state.divergence, state.geopotential)
    flat = [torch.split(x.detach().reshape(-1, n, n), MEMBERS_AT_ONCE) for x in fields]
    speeds, highest = [], []
    for vorticity, divergence, geopotential in zip(*flat, strict=True):
        u, v = harmonics.wind(vorticity, divergence)
        speeds.append(torch.hypot(u, v).max())
        highest.append(harmonics.synthesise(geopotential).max())
    return float(torch.stack(speeds).max()), float(torch.stack(highest).max())
