"""Potential vorticity carried along by the wind: a forecast that nothing was fitted to.

    dq/dt = 0      q = zeta + f - (f^2/Phi) psi,  zeta = laplacian psi
    phi(t + D) = phi(t) + f [psi(t + D) - psi(t)]

The balanced approximation of shallow water by Verkley (2009), doi:10.1175/
2008JAS2837.1, where the wind has no divergence, in steps of up to six hours.
Convolutions see a few grid points, and the wind crosses several in such a step; a
network that adds to what is carried along has to learn the rest only: waves of gravity,
divergence, and what depends on the depth. Without the stretching term the longest waves
run west by thousands of kilometres in a step (Cressman, 1958).

Departure points lie a step upstream along the wind at half time (two-time-level
semi-Lagrangian scheme), on great circles that touch the wind in their middle: a zonal
flow keeps its latitudes, and nearly stays as it is. The middle is found by iteration,
which needs D/2 |grad V| < 1; breaking jets reach that in six hours, and steps of three
would halve their error for twice the time. Values between points come from torch's
cubic kernel (a = -3/4), whose error is of first order in the spacing: displacements of
a small part of it are 12 % too long.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from simulators.shallow_water import ROTATION_RATE
from simulators.sphere import (
    Grid,
    SphericalHarmonics,
    equiangular_grid,
    without_mean,
)

LONGEST_STEP_S = 6 * 3600.0
FINER = 3 / 2  # latitudes of the grid that values are read from, over the network's
ITERATIONS = (3, 1, 1)  # for the middle, with the wind now, then twice at half time
PADDING = 2  # points that cubic interpolation needs around its grid


class PotentialVorticityAdvection:
    """x(t + D) of flows whose potential vorticity moves with the wind; differentiable.

    Divergence and the means of all fields stay as they are.

    Args:
        harmonics: of the coefficients (batch, 3, l, m).
        geopotential: Phi, of the mean depth [m2/s2].
        interval_s: D [s].
    """

    def __init__(
        self, harmonics: SphericalHarmonics, geopotential: float, interval_s: float
    ) -> None:
        self.harmonics = harmonics
        self.n_steps = math.ceil(interval_s / LONGEST_STEP_S)
        self.step_s = interval_s / self.n_steps
        # enough for the transform too, whatever grid the network has
        least = max(FINER * harmonics.grid.shape[0], 2 * harmonics.truncation + 1)
        n_lat = 2 * math.ceil(least / 2)
        grid = equiangular_grid(n_lat, 2 * n_lat)
        self._finer = SphericalHarmonics(
            grid,
            harmonics.truncation,
            radius=harmonics.radius,
            dtype=harmonics.dtype,
            device=harmonics.device,
        )
        points, _, _ = _directions(harmonics.grid)
        _, east, north = _directions(grid)
        self._points = self._here(points)[None]
        self._east, self._north = self._here(east), self._here(north)
        self._coriolis = self._here(_coriolis(harmonics.grid))
        stretched = _stretched(harmonics, geopotential)
        self._stretched = self._here(stretched).to(harmonics.dtype.to_complex())
        inverse = torch.linalg.inv(stretched)
        self._balanced = self._here(inverse).to(harmonics.dtype.to_complex())

    def _here(self, values: Tensor) -> Tensor:
        return values.to(self.harmonics.device, self.harmonics.dtype)

    def __call__(self, state: Tensor) -> Tensor:
        """The state an interval later, (batch, 3, l, m)."""
        for _ in range(self.n_steps):
            state = self._step(state)
        return state

    def _step(self, state: Tensor) -> Tensor:
        now = state[:, 0]
        places = self._points.expand(len(state), -1, -1, -1)
        relative = self._finer.synthesise(_by_order(self._stretched, now))[:, None]
        # what interpolation alone does to a flow at rest is taken off
        at_rest = self._read(relative, places, "bicubic")
        middle, change = places, torch.zeros_like(now)
        for n_iterations in ITERATIONS:
            wind = self._wind(now + change / 2)
            for _ in range(n_iterations):
                middle = self._half_way(wind, middle)
            along = (places * middle).sum(1, keepdim=True)
            departure = 2 * along * middle - places
            carried = self._read(relative, departure, "bicubic") - at_rest
            planetary = 2 * ROTATION_RATE * (departure - places)[:, 2:]
            carried = self.harmonics.analyse((carried + planetary)[:, 0])
            change = without_mean(_by_order(self._balanced, carried))
        streamfunction = self.harmonics.synthesise(
            self.harmonics.inverse_laplacian(change)
        )
        geopotential = self.harmonics.analyse(self._coriolis * streamfunction)
        still = torch.zeros_like(change)
        return state + torch.stack((change, still, without_mean(geopotential)), dim=1)

    def _wind(self, vorticity: Tensor) -> Tensor:
        """Its wind without divergence, Cartesian, on the unit sphere [1/s]."""
        u, v = self._finer.wind(vorticity, torch.zeros_like(vorticity))
        cartesian = u[:, None] * self._east + v[:, None] * self._north
        return cartesian / self.harmonics.radius

    def _half_way(self, wind: Tensor, middle: Tensor) -> Tensor:
        """Half a step upstream of the points, along the wind at the last middle."""
        found = self._read(wind, middle, "bilinear")
        along = (found * middle).sum(1, keepdim=True)
        upstream = self._points - self.step_s / 2 * (found - along * middle)
        return upstream * upstream.square().sum(1, keepdim=True).rsqrt()

    def _read(self, fields: Tensor, places: Tensor, mode: str) -> Tensor:
        """Fields (batch, channels, finer lat, lon) at unit vectors (batch, 3, ...)."""
        padded = _pad(fields)
        n_lat, n_lon = fields.shape[2:]
        x, y, z = places.unbind(1)
        colatitude = torch.atan2((x.square() + y.square()).sqrt(), z)
        longitude = torch.atan2(y, x).remainder(2 * math.pi)
        row = colatitude * (n_lat / math.pi) - 0.5 + PADDING
        column = longitude * (n_lon / (2 * math.pi)) + PADDING
        last_row, last_column = (n - 1 for n in padded.shape[2:])
        where = torch.stack((2 * column / last_column - 1, 2 * row / last_row - 1), -1)
        read: Tensor = functional.grid_sample(
            padded, where, mode=mode, align_corners=True
        )
        return read


def _by_order(matrices: Tensor, coefficients: Tensor) -> Tensor:
    """Matrices (m, l, l) times coefficients (batch, l, m)."""
    return torch.einsum("mkl,blm->bkm", matrices, coefficients)


def _coriolis(grid: Grid) -> Tensor:
    """Coriolis parameter 2 Omega sin(latitude) [1/s], (lat, 1)."""
    return 2 * ROTATION_RATE * grid.latitude.sin()[:, None]


def _stretched(harmonics: SphericalHarmonics, geopotential: float) -> Tensor:
    """1 - (f^2/Phi) laplacian^-1 on the degrees of each order, (m, l, l), float64."""
    exact = SphericalHarmonics(harmonics.grid, harmonics.truncation, harmonics.radius)
    n = harmonics.truncation + 1
    degrees = torch.eye(n, dtype=torch.float64)
    # one coefficient of every order at once: orders do not mix
    single = degrees[:, :, None].expand(n, n, n).to(torch.complex128)
    single = exact.inverse_laplacian(without_mean(single))
    square = _coriolis(harmonics.grid) ** 2 / geopotential
    stretching = exact.analyse(square * exact.synthesise(single))
    by_order = stretching.real.permute(2, 1, 0)  # (m, to l, from l)
    return degrees - by_order


def _pad(fields: Tensor) -> Tensor:
    """More points on each side: beyond a pole lies the other side of the sphere."""
    half = fields.shape[-1] // 2
    north, south = fields[..., :PADDING, :], fields[..., -PADDING:, :]
    north, south = (part.flip(-2).roll(half, -1) for part in (north, south))
    tall = torch.cat((north, fields, south), dim=-2)
    return torch.cat((tall[..., -PADDING:], tall, tall[..., :PADDING]), dim=-1)


def _directions(grid: Grid) -> tuple[Tensor, Tensor, Tensor]:
    """Unit vectors to the points, to their east and north, each (3, lat, lon)."""
    latitude, longitude = torch.meshgrid(grid.latitude, grid.longitude, indexing="ij")
    cos_lat, sin_lat = latitude.cos(), latitude.sin()
    cos_lon, sin_lon = longitude.cos(), longitude.sin()
    up = torch.stack((cos_lat * cos_lon, cos_lat * sin_lon, sin_lat))
    east = torch.stack((-sin_lon, cos_lon, torch.zeros_like(latitude)))
    north = torch.stack((-sin_lat * cos_lon, -sin_lat * sin_lon, cos_lat))
    return up, east, north
