"""Error norms, invariants and spectra of shallow-water states.

Norms and integrals use area weights and float64 whatever the dtype of the fields, as a
mean in float32 drifts by 1e-7 by itself. Leading dimensions are members. I is the area
mean, h the height of the surface and h* the depth of the fluid, both times g here.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from simulators.shallow_water.constants import GRAVITY
from simulators.shallow_water.equations import ShallowWater
from simulators.shallow_water.state import State
from simulators.sphere import Grid, SphericalHarmonics, power_spectrum


class ErrorNorms(NamedTuple):
    """Relative errors [-] of each member, (...), float64."""

    l1: Tensor  # I(|x - y|)/I(|y|)
    l2: Tensor  # sqrt(I(|x - y|^2)/I(|y|^2))
    linf: Tensor  # max|x - y|/max|y|


class Invariants(NamedTuple):
    """What the equations keep, of each member, (...), float64."""

    mass: Tensor  # I(h*) [m]
    energy: Tensor  # I(h* |V|^2/2 + g (h^2 - h_s^2)/2) [m3/s2]
    potential_enstrophy: Tensor  # I((zeta + f)^2/(2 h*)) [1/(m s2)]
    mean_vorticity: Tensor  # I(zeta) [1/s], zero
    mean_divergence: Tensor  # I(delta) [1/s], zero
    potential_vorticity: Tensor  # max((zeta + f)/h*) [1/(m s)], without diffusion


def error_norms(grid: Grid, field: Tensor, reference: Tensor) -> ErrorNorms:
    """Errors of a field (..., lat, lon) against a reference that broadcasts."""
    reference = reference.double()
    return _norms(grid, (field.double() - reference).abs(), reference.abs())


def wind_error_norms(
    grid: Grid, wind: tuple[Tensor, Tensor], reference: tuple[Tensor, Tensor]
) -> ErrorNorms:
    """Errors of a wind (u, v), with the length of the difference of the vectors."""
    (u, v), (reference_u, reference_v) = wind, (x.double() for x in reference)
    difference = torch.hypot(u.double() - reference_u, v.double() - reference_v)
    return _norms(grid, difference, torch.hypot(reference_u, reference_v))


def invariants(model: ShallowWater, state: State) -> Invariants:
    """Integrals that a model keeps without diffusion and forcing."""
    transform = model.harmonics
    u, v = (x.double() for x in transform.wind(state.vorticity, state.divergence))
    depth = transform.synthesise(state.geopotential).double() / GRAVITY
    ground = transform.synthesise(model.mountain).double() / GRAVITY
    vorticity = transform.synthesise(state.vorticity).double()
    absolute = vorticity + transform.synthesise(model.coriolis)
    # h^2 - h_s^2 = h* (h* + 2 h_s) does not cancel
    energy = depth * ((u**2 + v**2) + GRAVITY * (depth + 2 * ground)) / 2
    mean = transform.grid.area_mean
    return Invariants(
        mass=mean(depth),
        energy=mean(energy),
        potential_enstrophy=mean(absolute**2 / (2 * depth)),
        mean_vorticity=mean(vorticity),
        mean_divergence=mean(transform.synthesise(state.divergence)),
        potential_vorticity=(absolute / depth).amax(dim=(-2, -1)),
    )


def kinetic_energy_spectrum(transform: SphericalHarmonics, state: State) -> Tensor:
    """E(l) [m2/s2], (..., T+1): sums to half the area mean of the squared wind.

    E(l) = a^2/(2 l (l+1)) (|zeta_l|^2 + |delta_l|^2); no energy at l = 0.
    """
    squares = power_spectrum(state.vorticity) + power_spectrum(state.divergence)
    l = torch.arange(squares.shape[-1], dtype=torch.float64, device=squares.device)
    factor = transform.radius**2 / (2 * l * (l + 1)).clamp(min=1)
    return squares.double() * torch.where(l > 0, factor, 0.0)


def _norms(grid: Grid, difference: Tensor, size: Tensor) -> ErrorNorms:
    mean = grid.area_mean
    return ErrorNorms(
        l1=mean(difference) / mean(size),
        l2=(mean(difference**2) / mean(size**2)).sqrt(),
        linf=difference.amax(dim=(-2, -1)) / size.amax(dim=(-2, -1)),
    )
