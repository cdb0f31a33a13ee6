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
RATE = REVOLUTION_SPEED / EARTH_RADIUS  # of the solid-body rotation [rad/s]

Vector = tuple[Tensor, Tensor, Tensor]  # x, y, z, each (..., 1, 1)


def carrying_wind(grid: Grid, angle: Tensor | float = 0.0) -> tuple[Tensor, Tensor]:
    """The solid-body wind (u, v) [m/s] that carries the bell around in 12 days."""
    u, v = solid_body_wind(grid, angle)
    return REVOLUTION_SPEED * u, REVOLUTION_SPEED * v


def cosine_bell(grid: Grid, angle: Tensor | float = 0.0, time: float = 0.0) -> Tensor:
    """(h0/2) (1 + cos(pi r/R)) [m] within R = a/3 of the moving centre, else 0."""
    _, centre, _ = _carried_frame(angle, time)
    distance = torch.acos(_component(grid, centre).clamp(-1, 1))
    share = (distance / BELL_RADIUS).clamp(max=1)
    return BELL_HEIGHT / 2 * (1 + (math.pi * share).cos())


def moving_vortices(grid: Grid, angle: Tensor | float, time: float) -> Tensor:
    """Exact tracer [-] at a time [s]: 1 - tanh((rho/5) sin(lambda' - w_r t)).

    rho = 3 cos(phi'), with (lambda', phi') about the centre of one vortex in a frame
    that is carried along; its azimuth stays that from the north for A = 0 alone.
    """
    east, _, south = _carried_frame(angle, time)
    x, y = _component(grid, south), _component(grid, east)
    turned = _spin(x, y) * time
    return 1 - (3 / 5 * (y * turned.cos() - x * turned.sin())).tanh()


def vortex_wind(
    grid: Grid, angle: Tensor | float
) -> Callable[[float], tuple[Tensor, Tensor]]:
    """Wind (u, v) [m/s] at a time [s]: solid-body rotation and two moving vortices."""
    carrying = carrying_wind(grid, angle)
    phi, lam = grid.latitude[:, None], grid.longitude

    def wind_at(time: float) -> tuple[Tensor, Tensor]:
        east, centre, south = _carried_frame(angle, time)
        rate = _spin(_component(grid, south), _component(grid, east))
        x, y, z = centre
        # of a rotation about the centre: its cross product with the point
        u = phi.cos() * z - phi.sin() * (lam.cos() * x + lam.sin() * y)
        v = lam.sin() * x - lam.cos() * y
        speed = EARTH_RADIUS * rate
        return carrying[0] + speed * u, carrying[1] + speed * v

    return wind_at


def _carried_frame(angle: Tensor | float, time: float) -> tuple[Vector, Vector, Vector]:
    """East, centre and south of what started on the equator at longitude 3 pi/2.

    The unit vectors (1, 0, 0), (0, -1, 0) and (0, 0, -1), turned by an angle RATE t
    about the axis (-sin A, 0, cos A).
    """
    angle, turned = as_field(angle), torch.tensor(RATE * time, dtype=torch.float64)
    s, c, sine, cosine = angle.sin(), angle.cos(), turned.sin(), turned.cos()
    mixed = s * c * (1 - cosine)
    east = (cosine + s**2 * (1 - cosine), c * sine, -mixed)
    centre = (c * sine, -cosine, s * sine)
    south = (mixed, -s * sine, -cosine - c**2 * (1 - cosine))
    return east, centre, south


def _component(grid: Grid, vector: Vector) -> Tensor:
    """Product of the unit vectors to the points with a vector, (..., lat, lon)."""
    x, y, z = vector
    phi, lam = grid.latitude[:, None], grid.longitude
    return phi.cos() * (lam.cos() * x + lam.sin() * y) + phi.sin() * z


def _spin(x: Tensor, y: Tensor) -> Tensor:
    """w_r = V_t/(a rho) [rad/s], V_t = u0 (3 sqrt(3)/2) sech^2(rho) tanh(rho).

    x and y are cos(phi') times the cosine and the sine of lambda'.
    """
    rho = 3 * torch.hypot(x, y)
    # tanh(rho)/rho tends to 1 at the centre
    ratio = torch.where(rho > 0, rho.tanh() / rho.clamp(min=1e-300), 1.0)
    return RATE * 1.5 * 3**0.5 * ratio / rho.cosh() ** 2
