"""Latitude-longitude grids of the sphere with quadrature in latitude.

A grid integrates sum_j w_j f(mu_j), mu = sin(latitude), exactly for polynomials up to
its `exact_degree`: 2 n_lat - 1 on Gauss-Legendre latitudes, n_lat - 1 with Fejer's
first rule on equally spaced ones. Both have no point at a pole.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Extended = NDArray[np.floating]

# usual truncations and their smallest grids without aliasing of quadratic products
# whose longitudes suit a transform: truncation -> (n_lat, n_lon)
GAUSS_GRIDS = {
    21: (32, 64),
    31: (48, 96),
    42: (64, 128),
    63: (96, 192),
    85: (128, 256),
    106: (160, 320),
    127: (192, 384),
    170: (256, 512),
    341: (512, 1024),
}


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """Points of a tensor-product grid; build it with `gauss_grid` and its fellows."""

    latitude: Tensor  # (n_lat,) [rad], float64, north to south
    longitude: Tensor  # (n_lon,) [rad], float64, equally spaced from 0
    weights: Tensor  # (n_lat,) float64, of the area mean: they sum to 1
    exact_degree: int  # of the polynomials in sin(latitude) that are summed exactly

    @property
    def shape(self) -> tuple[int, int]:
        """(n_lat, n_lon)."""
        return len(self.latitude), len(self.longitude)

    def area_mean(self, field: Tensor) -> Tensor:
        """Area mean (...) of a field (..., lat, lon), accumulated in float64."""
        zonal = field.double().mean(dim=-1)
        return (zonal * self.weights.to(field.device)).sum(dim=-1)


def gauss_grid(n_lat: int, n_lon: int) -> Grid:
    """Gauss-Legendre latitudes and equally spaced longitudes.

    Raises:
        ValueError: without a latitude or a longitude.
    """
    _check_counts(n_lat, n_lon)
    latitude, weights = _gauss_rule(n_lat)
    return Grid(latitude, _longitude(n_lon), weights, 2 * n_lat - 1)


def equiangular_grid(n_lat: int, n_lon: int) -> Grid:
    """Equally spaced cell-centred latitudes pi/2 - (j + 1/2) pi/n_lat.

    The weights are those of Fejer's first rule: with theta the colatitude,
    w_j = (1/n) [1 - 2 sum_{k=1}^{n/2} cos(2 k theta_j)/(4 k^2 - 1)].

    Raises:
        ValueError: without a latitude or a longitude.
    """
    _check_counts(n_lat, n_lon)
    latitude = (torch.arange(n_lat, dtype=torch.float64) - (n_lat - 1) / 2) * (
        -math.pi / n_lat
    )
    theta = math.pi / 2 - latitude
    k = torch.arange(1, n_lat // 2 + 1, dtype=torch.float64)
    terms = torch.cos(2 * k * theta[:, None]) / (4 * k**2 - 1)
    weights = (1 - 2 * terms.sum(dim=1)) / n_lat
    weights = (weights + weights.flip(0)) / 2
    return Grid(latitude, _longitude(n_lon), weights / weights.sum(), n_lat - 1)


def gauss_grid_for(truncation: int) -> Grid:
    """Smallest usual Gauss grid on which quadratic products do not alias.

    That needs n_lon >= 3 T + 1 and n_lat >= (3 T + 1)/2. Truncations without a usual
    grid get the next multiple of 8 longitudes and half as many latitudes.

    Raises:
        ValueError: if the truncation is below 1.
    """
    if truncation < 1:
        raise ValueError(f"truncation must be at least 1; got {truncation}.")
    n_lon = 8 * math.ceil((3 * truncation + 1) / 8)
    return gauss_grid(*GAUSS_GRIDS.get(truncation, (n_lon // 2, n_lon)))


def check_dealiasing(grid: Grid, truncation: int) -> None:
    """Refuse a truncation whose quadratic products alias on the grid.

    Raises:
        ValueError: naming the largest truncation that the grid holds.
    """
    n_lat, n_lon = grid.shape
    largest = min((n_lon - 1) // 3, grid.exact_degree // 3)
    if truncation > largest:
        raise ValueError(
            "quadratic products must not alias: n_lon >= 3 T + 1 and exact latitude "
            f"sums up to degree 3 T are needed; got T = {truncation} on a grid of "
            f"{n_lat} x {n_lon}. Use T <= {largest} there, or "
            f"gauss_grid_for({truncation})."
        )


def _gauss_rule(n: int) -> tuple[Tensor, Tensor]:
    """Latitudes of the roots of P_n and their weights w = 1/(dP_n/dtheta)^2.

    Newton's method in the colatitude theta, not in cos(theta): next to a pole that
    would lose as many digits of cos(latitude) as it is smaller than one. Extended
    precision where the platform has it: in float64 polar weights err by 3e-13 at T85.
    """
    nodes = np.polynomial.legendre.leggauss(n)[0][::-1]
    theta = np.arccos(nodes.astype(np.longdouble))
    for _ in range(2):
        value, slope = _legendre_polynomial(n, theta)
        theta = theta - value / slope
    latitude = np.arccos(np.longdouble(0)) - theta
    # exactly symmetric about the equator, which the transforms rely on
    latitude = (latitude - latitude[::-1]) / 2
    weights = _legendre_polynomial(n, theta)[1] ** -2
    weights = weights + weights[::-1]
    rule = latitude, weights / weights.sum()
    return (
        torch.from_numpy(rule[0].astype(np.float64)),
        torch.from_numpy(rule[1].astype(np.float64)),
    )


def _legendre_polynomial(n: int, theta: Extended) -> tuple[Extended, Extended]:
    """P_n(cos(theta)) and its derivative by theta."""
    mu, below, value = np.cos(theta), np.zeros_like(theta), np.ones_like(theta)
    for l in range(n):
        below, value = value, ((2 * l + 1) * mu * value - l * below) / (l + 1)
    return value, n * (mu * value - below) / np.sin(theta)


def _longitude(n_lon: int) -> Tensor:
    return torch.arange(n_lon, dtype=torch.float64) * (2 * math.pi / n_lon)


def _check_counts(n_lat: int, n_lon: int) -> None:
    if n_lat < 1 or n_lon < 1:
        raise ValueError(
            f"a grid needs a latitude and a longitude at least; got {n_lat} x {n_lon}."
        )
