"""Spherical harmonic transforms of scalars and winds on a grid.

A field is sum_lm c_lm P_lm(mu) exp(i m lambda) over the triangle 0 <= |m| <= l <= T;
the coefficients with m >= 0 are kept, (..., l, m). P_lm is orthonormal on [-1, 1] and
the Fourier sum is a mean, so that a constant k has c_00 = sqrt(2) k. Derivatives in
latitude are taken in spectral space, where (1-mu^2) d/dmu couples l - 1 and l + 1; a
wind times cos(latitude) therefore holds degrees up to T + 1.
"""

import torch
from torch import Tensor

from simulators.sphere.grid import Grid
from simulators.sphere.legendre import legendre_functions, recursion_factor

EARTH_RADIUS = 6.37122e6  # [m]


class SphericalHarmonics:
    """Transforms between a grid and the triangular truncation T.

    Differentiable; any leading dimensions are batch. Fields are (..., lat, lon), real;
    coefficients (..., T+1 (l), T+1 (m)), complex.

    Args:
        grid: with an even number of latitudes, symmetric about the equator.
        truncation: T, such that a field of the triangle is transformed exactly.
        radius: of the sphere [m].
        dtype: float32 or float64, of the fields; tables are built in float64.
        device: of the fields.

    Raises:
        ValueError: for an odd number of latitudes, or a grid too coarse for T.
    """

    def __init__(
        self,
        grid: Grid,
        truncation: int,
        radius: float = EARTH_RADIUS,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
    ) -> None:
        _check_grid(grid, truncation)
        self.grid, self.truncation, self.radius = grid, truncation, radius
        self.dtype, self.device = dtype, torch.device(device)

        def table(values: Tensor) -> Tensor:
            return values.to(dtype=dtype, device=self.device)

        latitude = grid.latitude
        functions = legendre_functions(latitude, truncation + 1, truncation)
        weighted = 2 * grid.weights * functions
        self._synthesis = table(functions.permute(1, 2, 0))  # (m, lat, l)
        self._analysis = table(weighted.permute(1, 0, 2))  # (m, l, lat)
        self._cosine = table(latitude.cos())[:, None]  # (lat, 1)
        l = torch.arange(truncation + 2, dtype=torch.float64)[:, None]
        m = torch.arange(truncation + 1, dtype=torch.float64)
        inside = (m <= l).double()
        self._order = table(m)
        eps, eps_above = recursion_factor(l, m), recursion_factor(l + 1, m)
        # (1-mu^2) dP_l/dmu = to_above P_(l+1) + to_below P_(l-1), (l, m)
        self._to_above = table(-l * eps_above * inside)
        self._to_below = table((l + 1) * eps * inside)
        self._eigenvalue = table(-l[:-1] * (l[:-1] + 1) / radius**2)  # (l, 1)

    def analyse(self, field: Tensor) -> Tensor:
        """Coefficients of a field (..., lat, lon).

        Raises:
            ValueError: if the field does not lie on the grid.
            TypeError: if its dtype is not that of the transform.
        """
        return self._analyse(field)[..., :-1, :]

    def synthesise(self, coefficients: Tensor) -> Tensor:
        """Field (..., lat, lon) of coefficients; entries with m > l are ignored.

        Raises:
            ValueError: if the coefficients are not of this truncation.
            TypeError: if their dtype is not that of the transform.
        """
        self._check_coefficients(coefficients)
        return self._synthesise(_with_row(coefficients))

    def gradient(self, coefficients: Tensor) -> tuple[Tensor, Tensor]:
        """Eastward and northward derivative [1/m] on the grid."""
        self._check_coefficients(coefficients)
        parts = torch.stack((self._zonal(coefficients), self._meridional(coefficients)))
        east, north = self._synthesise(parts) / (self.radius * self._cosine)
        return east, north

    def wind(self, vorticity: Tensor, divergence: Tensor) -> tuple[Tensor, Tensor]:
        """Wind (u, v) [m/s] on the grid from coefficients of its curl and divergence.

        a u cos(phi) = d chi/d lambda - (1-mu^2) d psi/d mu and a v cos(phi) =
        d psi/d lambda + (1-mu^2) d chi/d mu, where psi and chi are the inverse
        Laplacians of vorticity and divergence [1/s]. Their l = 0 modes have no wind.
        """
        self._check_coefficients(vorticity)
        self._check_coefficients(divergence)
        psi, chi = self.inverse_laplacian(vorticity), self.inverse_laplacian(divergence)
        parts = torch.stack(
            (
                self._zonal(chi) - self._meridional(psi),
                self._zonal(psi) + self._meridional(chi),
            )
        )
        u, v = self._synthesise(parts) / (self.radius * self._cosine)
        return u, v

    def vorticity_divergence(self, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Coefficients of the curl and the divergence [1/s] of a wind (u, v) [m/s]."""
        a, b = self._analyse(torch.stack((u, v)) / self._cosine)
        vorticity = self._zonal(b)[..., :-1, :] + self._against_derivative(a)
        divergence = self._zonal(a)[..., :-1, :] - self._against_derivative(b)
        return vorticity / self.radius, divergence / self.radius

    def laplacian(self, coefficients: Tensor) -> Tensor:
        """Coefficients of the Laplacian [1/m2]: -l(l+1)/a^2 times the coefficients."""
        return coefficients * self._eigenvalue

    def inverse_laplacian(self, coefficients: Tensor) -> Tensor:
        """Coefficients whose Laplacian is given; their l = 0 mode is zero."""
        inverse = torch.cat((self._eigenvalue[:1], 1 / self._eigenvalue[1:]))
        return coefficients * inverse

    def _analyse(self, field: Tensor) -> Tensor:
        """Coefficients (..., T+2 (l), m)."""
        if field.shape[-2:] != self.grid.shape:
            raise ValueError(
                "a field must lie on the grid of the transform, "
                f"{' x '.join(map(str, self.grid.shape))}; got {tuple(field.shape)}."
            )
        if field.dtype != self.dtype:
            raise TypeError(
                f"a field must have the transform's dtype {self.dtype}; got "
                f"{field.dtype}. Build SphericalHarmonics with dtype={field.dtype}."
            )
        fourier = torch.fft.rfft(field, norm="forward")[..., : self.truncation + 1]
        pairs = torch.view_as_real(fourier)
        pairs = pairs.reshape(-1, *pairs.shape[-3:])  # (batch, lat, m, 2)
        rows = self._analysis @ pairs.permute(2, 1, 0, 3).flatten(-2)
        rows = rows.reshape(*rows.shape[:2], -1, 2).permute(2, 1, 0, 3)
        coefficients = torch.view_as_complex(rows.contiguous())  # (batch, l, m)
        return coefficients.view(*field.shape[:-2], *coefficients.shape[-2:])

    def _synthesise(self, coefficients: Tensor) -> Tensor:
        """Field of coefficients (..., T+2 (l), m)."""
        pairs = torch.view_as_real(coefficients)
        pairs = pairs.reshape(-1, *pairs.shape[-3:])  # (batch, l, m, 2)
        rows = self._synthesis @ pairs.permute(2, 1, 0, 3).flatten(-2)
        rows = rows.reshape(*rows.shape[:2], -1, 2).permute(2, 1, 0, 3)
        fourier = torch.view_as_complex(rows.contiguous())  # (batch, lat, m)
        field: Tensor = torch.fft.irfft(fourier, n=self.grid.shape[1], norm="forward")
        return field.reshape(*coefficients.shape[:-2], *self.grid.shape)

    def _zonal(self, coefficients: Tensor) -> Tensor:
        """d/d lambda, (..., T+2 (l), m)."""
        rows = _with_row(coefficients) if self._is_short(coefficients) else coefficients
        return 1j * self._order * rows

    def _meridional(self, coefficients: Tensor) -> Tensor:
        """(1-mu^2) d/d mu of coefficients (..., T+1, m), (..., T+2 (l), m)."""
        zero = torch.zeros_like(coefficients[..., :1, :])
        up = torch.cat((zero, coefficients * self._to_above[:-1]), dim=-2)
        down = (coefficients * self._to_below[:-1])[..., 1:, :]
        return up + torch.cat((down, zero, zero), dim=-2)

    def _against_derivative(self, coefficients: Tensor) -> Tensor:
        """Sums of a field against (1-mu^2) dP_lm/dmu, from those against P_lm.

        (..., T+2 (l), m) to (..., T+1 (l), m): the transpose of `_meridional`.
        """
        above = coefficients[..., 1:, :] * self._to_above[:-1]
        below = coefficients[..., :-2, :] * self._to_below[1:-1]
        return above + torch.cat((torch.zeros_like(below[..., :1, :]), below), dim=-2)

    def _is_short(self, coefficients: Tensor) -> bool:
        return coefficients.shape[-2] == self.truncation + 1

    def _check_coefficients(self, coefficients: Tensor) -> None:
        n = self.truncation + 1
        if coefficients.shape[-2:] != (n, n):
            raise ValueError(
                f"coefficients must be (..., {n}, {n}) at truncation "
                f"{self.truncation}; got {tuple(coefficients.shape)}. "
                "change_truncation(...) cuts or pads them."
            )
        if coefficients.dtype != self.dtype.to_complex():
            raise TypeError(
                f"coefficients must be {self.dtype.to_complex()} for a transform in "
                f"{self.dtype}; got {coefficients.dtype}."
            )


def _with_row(coefficients: Tensor) -> Tensor:
    """Coefficients with a zero row l = T + 1."""
    zero = torch.zeros_like(coefficients[..., :1, :])
    return torch.cat((coefficients, zero), dim=-2)


def _check_grid(grid: Grid, truncation: int) -> None:
    n_lat, n_lon = grid.shape
    if n_lat % 2:
        raise ValueError(
            f"the number of latitudes must be even; got {n_lat}. Use {n_lat + 1}."
        )
    largest = min((n_lon - 1) // 2, grid.exact_degree // 2)
    if not 1 <= truncation <= largest:
        raise ValueError(
            "a truncation must be at least 1 and exact on its grid: n_lon >= 2 T + 1 "
            "and exact latitude sums up to degree 2 T are needed; got T = "
            f"{truncation} on {n_lat} x {n_lon}. Use T <= {largest} there."
        )
