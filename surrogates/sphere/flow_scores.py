"""Scores of rollouts against simulated flows: error, horizon, spectra, invariants."""

from typing import NamedTuple

import torch
from torch import Tensor

from simulators.shallow_water import ShallowWater, split_fields
from simulators.shallow_water.diagnostics import invariants
from simulators.sphere import power_spectrum

STATES_AT_ONCE = 64


def vorticity_error(found: Tensor, truth: Tensor) -> Tensor:
    """Relative l2 error of vorticity, sqrt(I((x - y)^2)/I(y^2)), (...), float64.

    Args:
        found: coefficients of vorticity, divergence, geopotential, (..., 3, l, m).
        truth: of the same shape, or one that broadcasts.
    """
    difference = power_spectrum((found - truth)[..., 0, :, :]).double().sum(-1)
    size = power_spectrum(truth[..., 0, :, :]).double().sum(-1)
    return (difference / size).sqrt()


def horizon(errors: Tensor, limits: Tensor) -> int:
    """Leads before the first one at which an error is above its limit, or not finite.

    Args:
        errors: by lead, (leads,).
        limits: likewise, such as the error of climatology.
    """
    beyond = (~(errors <= limits)).nonzero()
    return int(beyond[0]) if len(beyond) else len(errors)


class Drifts(NamedTuple):
    """Change since the first state as a share of it, (members, times), float64."""

    mass: Tensor
    energy: Tensor
    potential_enstrophy: Tensor


def invariant_drifts(model: ShallowWater, flows: Tensor) -> Drifts:
    """Drifts of flows (members, times, 3, l, m).

    Mass is read from its coefficient: a mean over the grid would add rounding.
    """
    n_at_once = max(1, STATES_AT_ONCE // flows.shape[1])
    parts = [
        invariants(model, split_fields(part)) for part in torch.split(flows, n_at_once)
    ]
    values = (
        flows[:, :, 2, 0, 0].real.double(),
        torch.cat([part.energy for part in parts]),
        torch.cat([part.potential_enstrophy for part in parts]),
    )
    return Drifts(*(x / x[:, :1] - 1 for x in values))
