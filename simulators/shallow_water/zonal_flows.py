"""What the test cases share: rotated frames, winds as states, zonal balance.

Several cases turn their flow by an angle A away from the axis of the planet. Its pole
then has the sine of latitude k = sin(phi) cos A - cos(lambda) cos(phi) sin A, and the
Coriolis parameter 2 Omega k must turn with it (`coriolis_coefficients`).

Angles may be tensors (...): the fields are then (..., lat, lon), one member per angle.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from simulators.shallow_water.constants import ROTATION_RATE
from simulators.shallow_water.state import State
from simulators.sphere import Grid, SphericalHarmonics

# nodes between a jet's edge and a latitude; 64 reach round-off for the jets here
_QUADRATURE_NODES = 80


def rotated_sine(grid: Grid, angle: Tensor | float = 0.0) -> Tensor:
    """Sine k of the latitude about an axis turned by `angle` [rad], (..., lat, lon)."""
    angle = as_field(angle)
    latitude = grid.latitude[:, None]
    return latitude.sin() * angle.cos() - (
        grid.longitude.cos() * latitude.cos() * angle.sin()
    )


def solid_body_wind(grid: Grid, angle: Tensor | float = 0.0) -> tuple[Tensor, Tensor]:
    """Wind (u, v), (..., lat, lon), of the turned axis: 1 m/s on its equator."""
    angle = as_field(angle)
    latitude, longitude = grid.latitude[:, None], grid.longitude
    u = latitude.cos() * angle.cos() + longitude.cos() * latitude.sin() * angle.sin()
    v = -longitude.sin() * angle.sin() + torch.zeros_like(latitude)
    return u, v


def state_of(
    transform: SphericalHarmonics, u: Tensor, v: Tensor, geopotential: Tensor
) -> State:
    """State of a wind [m/s] and a fluid's g times depth [m2/s2], given on the grid.

    Fields are float64, (..., lat, lon), and broadcast; the state has the dtype and
    device of the transform.
    """
    u, v, geopotential = (
        field.to(dtype=transform.dtype, device=transform.device)
        for field in torch.broadcast_tensors(u, v, geopotential)  # type: ignore[no-untyped-call]  # torch
    )
    return State(*transform.vorticity_divergence(u, v), transform.analyse(geopotential))


def integral_from(
    south: Tensor | float,
    north: Tensor | float,
    latitude: Tensor,
    integrand: Callable[[Tensor], Tensor],
) -> Tensor:
    """Integral over latitude [rad] from `south` to each latitude, float64.

    By Gauss quadrature, as exact as float64 allows for the smooth jets here.

    Args:
        south: edge (...) south of which the integrand vanishes.
        north: edge (...) north of which it vanishes.
        latitude: upper ends (...) [rad]; all three broadcast.
        integrand: of latitudes (..., nodes).
    """
    nodes, weights = map(
        torch.from_numpy, np.polynomial.legendre.leggauss(_QUADRATURE_NODES)
    )
    start, end = (torch.as_tensor(x, dtype=torch.float64) for x in (south, north))
    half = (torch.minimum(torch.maximum(latitude, start), end) - start)[..., None] / 2
    phi = start[..., None] + half * (nodes + 1)  # (..., nodes)
    return (half * integrand(phi) * weights).sum(dim=-1)


def balance_slope(zonal_wind: Tensor, latitude: Tensor, radius: float) -> Tensor:
    """-d Phi/d phi = u (2 Omega a sin(phi) + u tan(phi)) of a balanced zonal wind."""
    rotation = 2 * ROTATION_RATE * radius * latitude.sin()
    return zonal_wind * (rotation + zonal_wind * latitude.tan())


def as_field(value: Tensor | float) -> Tensor:
    """A parameter (...) as a float64 field (..., 1, 1)."""
    return torch.as_tensor(value, dtype=torch.float64)[..., None, None]
