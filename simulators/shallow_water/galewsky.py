"""A mid-latitude jet in balance, and the bump that makes it break (Galewsky et al.).

u = (u_max/e_n) exp(1/((phi-phi0)(phi-phi1))) between the edges phi0 and phi1, else 0,
with e_n = exp(-4/(phi1-phi0)^2); the depth balances it exactly and has the area mean
10 km. A bump h' = h_b cos(phi) exp(-(lambda/alpha)^2) exp(-((phi2-phi)/beta)^2) starts
the instability. Ensembles perturb jet and bump.
Source: Galewsky, Scott and Polvani (2004), Tellus A 56, 429,
doi:10.3402/tellusa.v56i5.14436.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from simulators.shallow_water.constants import EARTH_RADIUS, GRAVITY
from simulators.shallow_water.state import State
from simulators.shallow_water.zonal_flows import (
    as_field,
    balance_slope,
    integral_from,
    state_of,
)
from simulators.sphere import SphericalHarmonics

MEAN_DEPTH = 10_000.0  # [m]
HALF_WIDTH = math.pi / 4 - math.pi / 7  # of the jet [rad]
BUMP_WIDTH_EAST = 1 / 3  # alpha [rad]
BUMP_WIDTH_NORTH = 1 / 15  # beta [rad]; it is squared, as the paper has it


@dataclass(frozen=True, slots=True, eq=False)
class JetParameters:
    """A jet and its bump; the defaults are the published case.

    Tensors (...) give one member each. A bump of 0 m leaves the jet steady.

    Raises:
        ValueError: at construction, if a jet would reach over a pole.
    """

    speed: Tensor | float = 80.0  # u_max [m/s]
    latitude: Tensor | float = math.pi / 4  # of the middle of the jet [rad]
    bump_height: Tensor | float = 120.0  # [m]
    bump_latitude: Tensor | float = math.pi / 4  # phi2 [rad]
    bump_longitude: Tensor | float = 0.0  # [rad]

    def __post_init__(self) -> None:
        farthest = float(torch.as_tensor(self.latitude).abs().max())
        if not farthest <= math.pi / 2 - HALF_WIDTH:
            raise ValueError(
                "the jet must end before the pole: its middle must be within "
                f"{math.degrees(math.pi / 2 - HALF_WIDTH):.1f} degrees of the equator; "
                f"got {math.degrees(farthest):.1f}."
            )


def sample_jet_parameters(generators: Sequence[torch.Generator]) -> JetParameters:
    """Uniform draws around the published case, one member per generator.

    Speed 70 to 90 m/s, jet and bump up to 5 degrees off 45 N, bump of 60 to 180 m at
    any longitude. A member's draws come from its own generator, on the CPU.
    """
    off = math.radians(5)
    band = (math.pi / 4 - off, math.pi / 4 + off)
    ranges = ((70.0, 90.0), band, (60.0, 180.0), band, (0.0, 2 * math.pi))
    low, high = torch.tensor(ranges, dtype=torch.float64).T
    draws = torch.stack(
        [torch.rand(len(low), generator=g, dtype=torch.float64) for g in generators]
    )
    values = low + (high - low) * draws  # (member, parameter)
    names = [field.name for field in fields(JetParameters)]
    return JetParameters(**dict(zip(names, values.unbind(-1), strict=True)))


def galewsky_jet(
    transform: SphericalHarmonics, parameters: JetParameters | None = None
) -> State:
    """State of one jet, or of one per member of the parameters."""
    parameters = parameters or JetParameters()
    latitude = transform.grid.latitude[:, None]
    u = jet_wind(latitude, as_field(parameters.speed), as_field(parameters.latitude))
    height = jet_height(latitude, parameters, transform.radius)
    bump = _bump(latitude, transform.grid.longitude, parameters)
    return state_of(transform, u, torch.zeros_like(u), GRAVITY * (height + bump))


def jet_wind(latitude: Tensor, speed: Tensor, middle: Tensor) -> Tensor:
    """Zonal wind [m/s] of jets at latitudes [rad]; all broadcast."""
    # 1/((phi-phi0)(phi-phi1)) + 4/(phi1-phi0)^2 with the distance to the middle
    inside = HALF_WIDTH**2 - (latitude - middle) ** 2
    exponent = 1 / HALF_WIDTH**2 - 1 / inside.clamp(min=1e-9)
    return speed * exponent.exp()


def jet_height(
    latitude: Tensor, parameters: JetParameters, radius: float = EARTH_RADIUS
) -> Tensor:
    """Depth [m] that balances the jet, without the bump, (..., lat, 1).

    h = h0 - (1/g) int a u (f + u tan(phi)/a) dphi from the south, float64, with h0 such
    that the area mean is 10 km: h0 = 10158.186 m for the published jet.

    Args:
        latitude: (lat, 1) [rad], float64.
        parameters: of the jets, (...).
        radius: a [m].
    """
    speed, middle = as_field(parameters.speed), as_field(parameters.latitude)
    south, north = middle - HALF_WIDTH, middle + HALF_WIDTH

    def slope(phi: Tensor) -> Tensor:  # of g h, (..., lat, 1, nodes)
        wind = jet_wind(phi, speed[..., None], middle[..., None])
        return balance_slope(wind, phi, radius)

    def share_of_mean(phi: Tensor) -> Tensor:  # of the sphere, all north of phi is low
        return slope(phi) * (1 - phi.sin()) / 2

    mean_drop = integral_from(south, north, north, share_of_mean)
    drop = integral_from(south, north, latitude, slope)
    return MEAN_DEPTH + (mean_drop - drop) / GRAVITY


def _bump(latitude: Tensor, longitude: Tensor, parameters: JetParameters) -> Tensor:
    """Height of the bump [m], (..., lat, lon)."""
    east = longitude - as_field(parameters.bump_longitude)
    east = torch.remainder(east + math.pi, 2 * math.pi) - math.pi
    north = as_field(parameters.bump_latitude) - latitude
    shape = (-((east / BUMP_WIDTH_EAST) ** 2) - (north / BUMP_WIDTH_NORTH) ** 2).exp()
    return as_field(parameters.bump_height) * latitude.cos() * shape
