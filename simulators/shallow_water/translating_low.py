"""Williamson case 4: a low that travels along a jet unchanged, held up by a forcing.

The wind is ubar = u0 sin^14(2 phi) eastward plus the flow of the streamfunction
psi = -0.03 (g h0/f0) exp(-s (1-C)/(1+C)), where C is the cosine of the distance to the
centre, which moves eastward by u0/a a second; g h = g h0 - (balance of ubar) + f psi.
Whatever these fields miss in the equations of motion is the forcing, so they are the
exact solution. Everything travels at one rate: the forcing is found once and turned.
Source: form after Williamson et al. (1992), J. Comput. Phys. 102, 211.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from simulators.shallow_water.constants import ROTATION_RATE
from simulators.shallow_water.state import State
from simulators.shallow_water.zonal_flows import (
    balance_slope,
    integral_from,
    state_of,
)
from simulators.sphere import SphericalHarmonics

MEAN_GEOPOTENTIAL = 1.0e5  # g h0 [m2/s2]
CENTRE_LATITUDE = math.pi / 4  # the low starts at longitude 0
SHARPNESS = 12.74244**2  # s

Fields = tuple[Tensor, Tensor, Tensor]  # u, v [m/s] and g h [m2/s2]


def translating_low(
    transform: SphericalHarmonics, time: float = 0.0, speed: float = 20.0
) -> State:
    """The exact solution at a time [s]; `speed` is u0 [m/s], 20 or 40 in the suite."""
    latitude, longitude = _points(transform)
    u, v, wave = _fields(latitude, longitude, speed, transform.radius)
    zonal = _zonal_geopotential(transform, speed)
    return _turned(
        state_of(transform, u, v, zonal + wave), _angle(transform, time, speed)
    )


def translating_low_forcing(
    transform: SphericalHarmonics, speed: float = 20.0
) -> Callable[[float], State]:
    """The forcing at a time [s]: tendencies [1/s2, 1/s2, m2/s3] to add to the model's.

    The residual of the momentum and the depth equation at time 0, as curl, divergence
    and field; its derivatives are exact, by automatic differentiation of the formulas.
    """
    at_start = state_of(transform, *_residual(transform, speed))

    def forcing(time: float) -> State:
        return _turned(at_start, _angle(transform, time, speed))

    return forcing


def _residual(transform: SphericalHarmonics, speed: float) -> Fields:
    """What the equations of u, v [m/s2] and g h [m2/s3] lack at time 0."""
    a = transform.radius
    latitude, longitude = _points(transform)

    with torch.enable_grad():
        points = (latitude.requires_grad_(), longitude.requires_grad_())
        exact = _fields(*points, speed, a)
        # points do not mix, so that the gradient of a sum holds all derivatives
        slopes = [
            torch.autograd.grad(x.sum(), points, retain_graph=True) for x in exact
        ]
    (u_phi, u_lam), (v_phi, v_lam), (h_phi, h_lam) = slopes
    latitude, u, v = latitude.detach(), exact[0].detach(), exact[1].detach()
    coriolis = 2 * ROTATION_RATE * latitude.sin()
    jet = _jet(latitude, speed)
    # the balance of the jet alone, d(g h)/d phi [m2/s2]
    h_phi = h_phi - balance_slope(jet, latitude, a)
    # all travels eastward, d/dt = -(u0/a) d/d lambda, and flows without divergence
    east = u / (a * latitude.cos()) - speed / a
    turning = coriolis + u * latitude.tan() / a
    return (
        east * u_lam + v / a * u_phi - turning * v + h_lam / (a * latitude.cos()),
        east * v_lam + v / a * v_phi + turning * u + h_phi / a,
        east * h_lam + v / a * h_phi,
    )


def _fields(phi: Tensor, lam: Tensor, speed: float, radius: float) -> Fields:
    """u, v and f psi at time 0."""
    sine, cosine = math.sin(CENTRE_LATITUDE), math.cos(CENTRE_LATITUDE)
    amplitude = -0.03 * MEAN_GEOPOTENTIAL / (2 * ROTATION_RATE * sine)
    near = sine * phi.sin() + cosine * phi.cos() * lam.cos()  # C
    # the low has vanished long before the opposite point, where 1 + C = 0
    apart = (1 + near).clamp(min=1e-2)
    psi = amplitude * (-SHARPNESS * (2 - apart) / apart).exp()
    slope = psi * 2 * SHARPNESS / apart**2  # d psi/d C
    u = _jet(phi, speed) - slope / radius * (
        sine * phi.cos() - cosine * phi.sin() * lam.cos()
    )
    v = -slope / radius * cosine * lam.sin()
    return u, v, 2 * ROTATION_RATE * phi.sin() * psi


def _jet(latitude: Tensor, speed: float) -> Tensor:
    return speed * (2 * latitude).sin() ** 14


def _zonal_geopotential(transform: SphericalHarmonics, speed: float) -> Tensor:
    """Geopotential of the jet alone [m2/s2], (lat, 1)."""
    drop = integral_from(
        -math.pi / 2,
        math.pi / 2,
        transform.grid.latitude,
        lambda phi: balance_slope(_jet(phi, speed), phi, transform.radius),
    )
    return (MEAN_GEOPOTENTIAL - drop)[:, None]


def _points(transform: SphericalHarmonics) -> tuple[Tensor, Tensor]:
    grid = transform.grid
    latitude, longitude = torch.meshgrid(grid.latitude, grid.longitude, indexing="ij")
    return latitude.contiguous(), longitude.contiguous()


def _angle(transform: SphericalHarmonics, time: float, speed: float) -> float:
    return time * speed / transform.radius


def _turned(state: State, angle: float) -> State:
    """The state moved eastward by an angle [rad]: c_lm exp(-i m angle)."""
    m = torch.arange(state.vorticity.shape[-1], device=state.vorticity.device)
    phase = torch.polar(torch.ones_like(m, dtype=torch.float64), -angle * m.double())
    phase = phase.to(state.vorticity.dtype)
    return State(
        state.vorticity * phase, state.divergence * phase, state.geopotential * phase
    )
