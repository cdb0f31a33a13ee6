"""Initial states of the standard shallow-water cases 2, 3, 5 and 6.

Case 1 is in `tracer_cases`, case 4 in `translating_low`; case 7 needs observed states.
Formulas are evaluated in float64 on the grid of the transform and analysed once.
Source: Williamson et al. (1992), J. Comput. Phys. 102, 211,
doi:10.1016/S0021-9991(05)80016-6.
"""

import math

import torch
from torch import Tensor

from simulators.shallow_water.constants import (
    EARTH_RADIUS,
    GRAVITY,
    ROTATION_RATE,
)
from simulators.shallow_water.state import State
from simulators.shallow_water.zonal_flows import (
    balance_slope,
    integral_from,
    rotated_sine,
    solid_body_wind,
    state_of,
)
from simulators.sphere import SphericalHarmonics

DAY = 86400.0  # [s]
REVOLUTION_SPEED = 2 * math.pi * EARTH_RADIUS / (12 * DAY)  # [m/s], once in 12 days
MEAN_GEOPOTENTIAL = 2.94e4  # g h0 of cases 2 and 3 [m2/s2]

JET_EDGES = (-math.pi / 6, math.pi / 2)  # of case 3 [rad]
JET_WIDTH = 0.3  # x_e of case 3

MOUNTAIN_HEIGHT = 2000.0  # [m]
MOUNTAIN_RADIUS = math.pi / 9  # [rad]
MOUNTAIN_CENTRE = (math.pi / 6, 3 * math.pi / 2)  # latitude, longitude [rad]

WAVE_NUMBER = 4  # R of case 6
WAVE_RATE = 7.848e-6  # omega and K of case 6 [1/s]


def steady_zonal_flow(
    transform: SphericalHarmonics, angle: Tensor | float = 0.0
) -> State:
    """Case 2: solid-body flow about an axis turned by `angle` [rad], for all times.

    g h = g h0 - (a Omega u0 + u0^2/2) k^2, with k and the Coriolis parameter of the
    turned axis (`coriolis_coefficients`). Angles (...) give states (..., l, m).
    """
    return _solid_body_flow(transform, REVOLUTION_SPEED, MEAN_GEOPOTENTIAL, angle=angle)


def compact_jet(transform: SphericalHarmonics, angle: Tensor | float = 0.0) -> State:
    """Case 3: a steady jet that vanishes outside a band of the turned axis.

    u' = u0 b(x) b(x_e - x) exp(4/x_e), b(x) = exp(-1/x) for x > 0, else 0, with x the
    latitude about the turned axis scaled to 0..x_e between -30 and 90 degrees; g h by
    quadrature of its balance.
    """
    unit_u, unit_v = solid_body_wind(transform.grid, angle)
    sine = rotated_sine(transform.grid, angle).clamp(-1, 1)
    latitude = torch.asin(sine)
    # the wind vanishes faster than the cosine at the turned pole
    share = _compact_wind(latitude) / latitude.cos().clamp(min=1e-12)
    drop = integral_from(
        *JET_EDGES,
        latitude,
        lambda phi: balance_slope(_compact_wind(phi), phi, transform.radius),
    )
    return state_of(transform, share * unit_u, share * unit_v, MEAN_GEOPOTENTIAL - drop)


def mountain_geopotential(transform: SphericalHarmonics) -> Tensor:
    """Case 5: coefficients (l, m) of g h_s [m2/s2], a cone of 2000 m.

    The cone has a kink. It is truncated here once; model, energy and total height must
    all use this field.
    """
    latitude, longitude = MOUNTAIN_CENTRE
    squared = (transform.grid.latitude[:, None] - latitude) ** 2
    distance = (squared + (transform.grid.longitude - longitude) ** 2).sqrt()
    height = MOUNTAIN_HEIGHT * (1 - distance / MOUNTAIN_RADIUS).clamp(min=0)
    field = (GRAVITY * height).to(dtype=transform.dtype, device=transform.device)
    return transform.analyse(field)


def flow_over_mountain(transform: SphericalHarmonics) -> State:
    """Case 5: zonal flow of 20 m/s that meets `mountain_geopotential` at time 0."""
    flow = _solid_body_flow(transform, 20.0, GRAVITY * 5960.0)
    depth = flow.geopotential - mountain_geopotential(transform)
    return State(flow.vorticity, flow.divergence, depth)


def rossby_haurwitz_wave(transform: SphericalHarmonics) -> State:
    """Case 6: wave number 4, dynamically unstable after about 10 days.

    u = a w c + a K c^(R-1) (R sin^2(phi) - c^2) cos(R lambda) and
    v = -a K R c^(R-1) sin(phi) sin(R lambda), with c = cos(phi) and w = K.
    """
    grid, a, R, K = transform.grid, transform.radius, WAVE_NUMBER, WAVE_RATE
    sine, c = grid.latitude.sin()[:, None], grid.latitude.cos()[:, None]
    wave = R * grid.longitude
    amplitude = a * K * c ** (R - 1)
    u = a * K * c + amplitude * (R * sine**2 - c**2) * wave.cos()
    v = -amplitude * R * sine * wave.sin()
    return state_of(transform, u, v, _wave_geopotential(c, wave, a))


def _wave_geopotential(c: Tensor, wave: Tensor, radius: float) -> Tensor:
    """Geopotential of case 6 [m2/s2], (lat, lon), from c = cos(phi) and R lambda."""
    R, K = WAVE_NUMBER, WAVE_RATE
    zonal = K / 2 * (2 * ROTATION_RATE + K) * c**2 + K**2 / 4 * (
        c ** (2 * R) * ((R + 1) * c**2 + 2 * R**2 - R - 2) - 2 * R**2 * c ** (2 * R - 2)
    )
    first = 2 * (ROTATION_RATE + K) * K / ((R + 1) * (R + 2)) * c**R
    first = first * (R**2 + 2 * R + 2 - (R + 1) ** 2 * c**2)
    second = K**2 / 4 * c ** (2 * R) * ((R + 1) * c**2 - (R + 2))
    waves = first * wave.cos() + second * (2 * wave).cos()
    return GRAVITY * 8000.0 + radius**2 * (zonal + waves)


def _solid_body_flow(
    transform: SphericalHarmonics,
    speed: float,
    geopotential: float,
    angle: Tensor | float = 0.0,
) -> State:
    unit_u, unit_v = solid_body_wind(transform.grid, angle)
    sine = rotated_sine(transform.grid, angle)
    slope = transform.radius * ROTATION_RATE * speed + speed**2 / 2
    height = geopotential - slope * sine**2
    return state_of(transform, speed * unit_u, speed * unit_v, height)


def _compact_wind(latitude: Tensor) -> Tensor:
    """Zonal wind of case 3 [m/s] about its own axis."""
    south, north = JET_EDGES
    x = JET_WIDTH * (latitude - south) / (north - south)
    # b(x) b(x_e - x) exp(4/x_e) = exp(4/x_e - x_e/(x (x_e - x))) inside
    inside = (x * (JET_WIDTH - x)).clamp(min=1e-9)
    return REVOLUTION_SPEED * (4 / JET_WIDTH - JET_WIDTH / inside).exp()
