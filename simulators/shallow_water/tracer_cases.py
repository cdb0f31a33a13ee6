"""Tracers with exact solutions: the cosine bell and the moving vortices.

Both are carried once around the sphere in 12 days by a solid-body wind about an axis
turned by an angle A. The bell (Williamson et al. 1992, case 1) keeps its shape, which
is once differentiable; two vortices (Nair and Jablonowski 2008, Mon. Weather Rev. 136,
699, doi:10.1175/2007MWR2105.1) wind a smooth tracer up around centres that move.
Angles (...) give fields (..., lat, lon), in float64.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from simulators.shallow_water.constants import EARTH_RADIUS
from simulators.shallow_water.williamson import REVOLUTION_SPEED
from simulators.shallow_water.zonal_flows import as_field, solid_body_wind
from simulators.sphere import Grid

BELL_HEIGHT = 1000.0  # [m]
BELL_RADIUS = 1 / 3  # of the sphere's radius
START = (0.0, 3 * math.pi / 2)  # latitude, longitude of bell and vortex [rad]
RATE = REVOLUTION_SPEED / EARTH_RADIUS  # of the solid-body rotation [rad/s]


def carrying_wind(grid: Grid, angle: Tensor | float = 0.0) -> tuple[Tensor, Tensor]:
    """The solid-body wind (u, v) [m/s] that carries the bell around in 12 days."""
    u, v = solid_body_wind(grid, angle)
    return REVOLUTION_SPEED * u, REVOLUTION_SPEED * v


def cosine_bell(grid: Grid, angle: Tensor | float = 0.0, time: float = 0.0) -> Tensor:
    """(h0/2) (1 + cos(pi r/R)) [m] within R = a/3 of the moving centre, else 0."""
    latitude, longitude = centre(angle, time)
    phi, east = grid.latitude[:, None], grid.longitude - longitude
    near = phi.sin() * latitude.sin() + phi.cos() * latitude.cos() * east.cos()
    distance = torch.acos(near.clamp(-1, 1))
    share = (distance / BELL_RADIUS).clamp(max=1)
    return BELL_HEIGHT / 2 * (1 + (math.pi * share).cos())


def centre(angle: Tensor | float, time: float) -> tuple[Tensor, Tensor]:
    """Latitude and longitude [rad], (..., 1, 1), of what started at (0, 3 pi/2).

    The point -y on the equator turned by RATE t about the axis (-sin A, 0, cos A).
    """
    angle, turned = as_field(angle), torch.tensor(RATE * time, dtype=torch.float64)
    # -y turns towards axis x (-y), which is (cos A, 0, sin A)
    x, z = turned.sin() * angle.cos(), turned.sin() * angle.sin()
    return torch.asin(z), torch.atan2(-turned.cos(), x)


def moving_vortices(grid: Grid, angle: Tensor | float, time: float) -> Tensor:
    """Exact tracer [-] at a time [s]: 1 - tanh((rho/5) sin(lambda' - w_r t)).

    rho = 3 cos(phi'), with (lambda', phi') about the centre of the vortex.
    """
    x, y = _about(grid, *centre(angle, time))
    turned = _spin(x, y) * time
    return 1 - (3 / 5 * (y * turned.cos() - x * turned.sin())).tanh()


def vortex_wind(
    grid: Grid, angle: Tensor | float
) -> Callable[[float], tuple[Tensor, Tensor]]:
    """Wind (u, v) [m/s] at a time [s]: solid-body rotation and two moving vortices."""
    carrying = carrying_wind(grid, angle)

    def wind_at(time: float) -> tuple[Tensor, Tensor]:
        latitude, longitude = centre(angle, time)
        east, phi = grid.longitude - longitude, grid.latitude[:, None]
        speed = EARTH_RADIUS * _spin(*_about(grid, latitude, longitude))
        u = latitude.sin() * phi.cos() - latitude.cos() * east.cos() * phi.sin()
        v = latitude.cos() * east.sin()
        return carrying[0] + speed * u, carrying[1] + speed * v

    return wind_at


def _about(grid: Grid, latitude: Tensor, longitude: Tensor) -> tuple[Tensor, Tensor]:
    """cos(phi') times the cosine and the sine of lambda', (..., lat, lon)."""
    phi, east = grid.latitude[:, None], grid.longitude - longitude
    x = phi.cos() * latitude.sin() * east.cos() - latitude.cos() * phi.sin()
    return x, phi.cos() * east.sin()


def _spin(x: Tensor, y: Tensor) -> Tensor:
    """w_r = V_t/(a rho) [rad/s], V_t = u0 (3 sqrt(3)/2) sech^2(rho) tanh(rho)."""
    rho = 3 * torch.hypot(x, y)
    # tanh(rho)/rho tends to 1 at the centre
    ratio = torch.where(rho > 0, rho.tanh() / rho.clamp(min=1e-300), 1.0)
    return RATE * 1.5 * 3**0.5 * ratio / rho.cosh() ** 2
