"""The rotating shallow-water equations in vorticity-divergence form.

    d zeta/dt  = - div((zeta + f) V)                                          + F_zeta
    d delta/dt =   curl((zeta + f) V) - Laplacian(Phi + g hs + |V|^2/2)       + F_delta
    d Phi/dt   = - div(Phi V)                                                 + F_Phi

Phi is g times the depth of the fluid and g hs that of the mountain. The l = 0 modes of
all three fields can only change by the forcing F: mass is conserved to rounding. Time
loops work on packed rows (n_rows, 3, members), see `sphere.packed`; products are formed
on an alias-free grid, and curls and divergences by recursion in spectral space.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from simulators.shallow_water.constants import GRAVITY, ROTATION_RATE
from simulators.shallow_water.stability import largest_time_step
from simulators.shallow_water.state import State
from simulators.sphere import Diffusion, Scheme, SphericalHarmonics, check_dealiasing
from simulators.sphere.compiling import compile_if
from simulators.sphere.legendre import recursion_factor
from simulators.sphere.packed import PackedTransform, mirror


def coriolis_coefficients(
    harmonics: SphericalHarmonics,
    rotation_rate: float = ROTATION_RATE,
    axis_angle: float = 0.0,
) -> Tensor:
    """Coefficients of f = 2 Omega k about an axis that is tilted by an angle [rad].

    k = -cos(lambda) cos(phi) sin(angle) + sin(phi) cos(angle).
    """
    n = harmonics.truncation + 1
    dtype = harmonics.dtype.to_complex()
    coefficients = torch.zeros(n, n, dtype=dtype, device=harmonics.device)
    # sin(phi) = P_10/sqrt(3/2), cos(phi) = P_11/sqrt(3/4)
    coefficients[1, 0] = 2 * rotation_rate * math.cos(axis_angle) / math.sqrt(1.5)
    coefficients[1, 1] = -rotation_rate * math.sin(axis_angle) / math.sqrt(0.75)
    return coefficients


Table = tuple[Tensor, ...]  # of three


class ShallowWater:
    """Shallow water on one sphere: what is equal for all members and all times.

    Args:
        harmonics: of the truncation; its grid must not alias quadratic products.
        coriolis: coefficients of f [1/s]; default 2 Omega sin(latitude).
        mountain: coefficients of g times its height [m2/s2]; default none. A field
            on a grid is truncated once, by `harmonics.analyse`.
        forcing: tendencies of the three fields at a time [s] (per s), the same for all
            members, (T+1, T+1); default none.
        diffusion: of vorticity and divergence; default none. Mass is not diffused: over
            a mountain that would damp the balanced state.
        reference_geopotential: Phi of the linear gravity waves [m2/s2], which a
            semi-implicit step treats implicitly: at least half the largest Phi.
        compiled: whether steps go through torch.compile: up to twice as fast, after
            some 20 s for each number of members in a chunk. Needs a C++ compiler.

    Raises:
        ValueError: if the grid aliases, or does not suit the packed transform, or a
            value is out of range.
    """

    n_fields = 3
    requirement = "finite with a positive depth everywhere"

    def __init__(
        self,
        harmonics: SphericalHarmonics,
        coriolis: Tensor | None = None,
        mountain: Tensor | None = None,
        forcing: Callable[[float], State] | None = None,
        diffusion: Diffusion | None = None,
        reference_geopotential: float = 1e4 * GRAVITY,
        *,
        compiled: bool = False,
    ) -> None:
        check_dealiasing(harmonics.grid, harmonics.truncation)
        if not 0 < reference_geopotential < math.inf:
            raise ValueError(
                "reference_geopotential must be positive and finite [m2/s2]; got "
                f"{reference_geopotential}."
            )
        if coriolis is None:
            coriolis = coriolis_coefficients(harmonics)
        if mountain is None:
            mountain = torch.zeros_like(coriolis)
        self.harmonics, self.forcing, self.diffusion = harmonics, forcing, diffusion
        self.coriolis, self.mountain = coriolis, mountain
        self.reference_geopotential = reference_geopotential
        self.compiled = compiled
        self.transform = PackedTransform(
            harmonics.grid, harmonics.truncation, harmonics.dtype, harmonics.device
        )
        self._build_tables()

    def tendency(self, state: State, time_s: float = 0.0) -> State:
        """Tendencies of the three fields [1/s2, 1/s2, m2/s3], without diffusion."""
        packed = self.pack(state)
        rows = packed.reshape(*packed.shape[:2], -1)
        result = self.explicit(rows) + self.implicit(rows)
        if self.forcing is not None:
            result = result + self.pack(self.forcing(time_s))[..., None]
        return self.unpack(result.reshape(packed.shape))

    def pack(self, state: State) -> Tensor:
        """Rows (n_rows, 3, ...) of a state, whose leading dimensions come last.

        Raises:
            ValueError: if the fields are of another truncation, or differ in shape.
            TypeError: if their dtype is not that of the harmonics.
        """
        fields = (state.vorticity, state.divergence, state.geopotential)
        n = self.harmonics.truncation + 1
        for field in fields:
            if field.shape != fields[0].shape or field.shape[-2:] != (n, n):
                raise ValueError(
                    f"the three fields of a state must all be (..., {n}, {n}); got "
                    f"{[tuple(x.shape) for x in fields]}. change_truncation(...) cuts "
                    "or pads coefficients."
                )
            if field.dtype != self.coriolis.dtype:
                raise TypeError(
                    f"a state must be {self.coriolis.dtype} for this model; got "
                    f"{field.dtype}."
                )
        return self.transform.pack(torch.stack(fields)).contiguous()

    def unpack(self, rows: Tensor) -> State:
        """State of rows (n_rows, 3, ...)."""
        return State(*self.transform.unpack(rows))

    def explicit(self, rows: Tensor) -> Tensor:
        """All but the gravity waves of `implicit`, (n_rows, 3, members)."""
        return compile_if(self.compiled, ShallowWater._explicit)(self, rows)

    def implicit(self, rows: Tensor) -> Tensor:
        """(0, -Laplacian(Phi), -reference_geopotential delta), (n_rows, 3, members)."""
        _, divergence, geopotential = rows.unbind(1)
        return torch.stack(
            (
                torch.zeros_like(divergence),
                self.eigenvalue * geopotential,
                -self.reference_geopotential * divergence,
            ),
            dim=1,
        )

    def implicit_inverse(
        self, before: Tensor, tendency: Tensor, interval_s: float, weight: float
    ) -> Tensor:
        """Rows after an interval with implicit gravity waves and diffusion."""
        constants = (interval_s, weight, self.reference_geopotential)
        return compile_if(self.compiled, _solved)(
            before,
            tendency,
            self.eigenvalue,
            self.damping,
            # tensors: torch.compile would compile again for each number
            [torch.tensor(x, dtype=torch.float64) for x in constants],
        )

    def is_sound(self, rows: Tensor) -> Tensor:
        """Which members (members,) are finite and have fluid everywhere.

        Depth is looked at on the points where products are formed.
        """
        depth = mirror(self.transform.synthesise(rows[:, 2])).amin(dim=(0, 1, 2))
        return rows.isfinite().all(dim=0).all(dim=0) & (depth > 0)

    def largest_time_step(self, state: State, scheme: Scheme) -> float:
        """Largest safe step [s] for the winds and depths of a state; see `stability`.

        Raises:
            StartError: if the reference of a semi-implicit step is too low.
        """
        return largest_time_step(
            self.harmonics, self.reference_geopotential, state, scheme
        )

    def _explicit(self, rows: Tensor) -> Tensor:
        n_members = rows.shape[-1]
        fields = _grid_fields(
            rows, self._neighbours, self._wind_factors, self._reference_rows
        )
        parts = self.transform.synthesise(fields.flatten(1))
        products = _products(
            mirror(parts).view(*parts.shape[:-1], 4, n_members),
            self._coriolis_points,
            self._inverse_square_cosine,
        )
        spectra = self.transform.analyse(mirror(products.flatten(-2)))
        return _divergences(
            spectra.view(-1, 5, n_members),
            self._neighbours,
            self._flux_factors,
            self.eigenvalue,
            self._mountain_rows,
        )

    def _build_tables(self) -> None:
        transform, radius = self.transform, self.harmonics.radius
        l, m = transform.degree.double(), transform.order.double()
        other, is_other = transform.find_rows(
            transform.degree, 1 - transform.is_imaginary
        )
        above, is_above = transform.find_rows(
            transform.degree + 1, transform.is_imaginary
        )
        below, is_below = transform.find_rows(
            transform.degree - 1, transform.is_imaginary
        )

        def column(values: Tensor, where: Tensor) -> Tensor:
            used = torch.where(where, values, 0)[:, None]
            return used.to(dtype=self.harmonics.dtype, device=self.harmonics.device)

        self._neighbours = tuple(
            x.to(self.harmonics.device) for x in (other, above, below)
        )
        is_row, is_kept = (
            transform.is_row,
            transform.is_row & (transform.degree <= transform.truncation),
        )
        zonal = m * (2 * transform.is_imaginary - 1) / radius
        eps, eps_above = recursion_factor(l, m), recursion_factor(l + 1, m)
        # the recursion of (1-mu^2) d/dmu, applied to potentials -a^2/(l(l+1)) zeta
        self._wind_factors = (
            column(zonal * _inverse_laplacian(l, radius), is_other & is_row),
            column(
                (l + 2) * eps_above * _inverse_laplacian(l + 1, radius) / radius,
                is_above & is_row,
            ),
            column(
                -(l - 1) * eps * _inverse_laplacian(l - 1, radius) / radius,
                is_below & is_row,
            ),
        )
        # its transpose, applied to products
        self._flux_factors = (
            column(zonal, is_other & is_kept),
            column(-l * eps_above / radius, is_above & is_kept),
            column((l + 1) * eps / radius, is_below & is_kept),
        )
        self.eigenvalue = column(l * (l + 1) / radius**2, is_kept)  # of -Laplacian
        self.damping = None
        if self.diffusion is not None:
            rate = column(self.diffusion.rate(l, transform.truncation), is_kept)
            self.damping = torch.stack((rate, rate, torch.zeros_like(rate)), dim=1)
        self._mountain_rows = transform.pack(self.mountain)[:, None]
        constant = torch.zeros_like(self.coriolis)
        constant[0, 0] = math.sqrt(2) * self.reference_geopotential
        self._reference_rows = transform.pack(constant)[:, None]
        coriolis = mirror(transform.synthesise(transform.pack(self.coriolis)[:, None]))
        self._coriolis_points = coriolis  # (8, lon/4, lat/2, 1)
        cosine, _ = transform.images()
        self._inverse_square_cosine = (cosine[:, None] ** -2).to(
            coriolis[0]
        )  # (lat/2, 1)


def _grid_fields(
    rows: Tensor, neighbours: Table, factors: Table, reference: Tensor
) -> Tensor:
    """Rows of u cos(phi), v cos(phi), zeta and Phi - its reference, (., 4, .)."""
    vorticity, divergence, geopotential = rows.unbind(1)
    other, above, below = neighbours
    zonal, from_above, from_below = factors
    u = zonal * divergence[other] - (
        from_above * vorticity[above] + from_below * vorticity[below]
    )
    v = zonal * vorticity[other] + (
        from_above * divergence[above] + from_below * divergence[below]
    )
    return torch.stack((u, v, vorticity, geopotential - reference), dim=1)


def _products(
    images: Tensor, coriolis: Tensor, inverse_square_cosine: Tensor
) -> Tensor:
    """The five products at the points, (8, lon/4, lat/2, 5, members).

    With s = 1/cos^2(phi) and U = u cos(phi): (zeta+f) U s, (zeta+f) V s, Phi U s,
    Phi V s and (U^2 + V^2) s/2, where Phi is the anomaly.
    """
    u, v, vorticity, anomaly = images.unbind(-2)
    absolute = (vorticity + coriolis) * inverse_square_cosine
    mass = anomaly * inverse_square_cosine
    energy = (u * u + v * v) * (0.5 * inverse_square_cosine)
    return torch.stack((absolute * u, absolute * v, mass * u, mass * v, energy), dim=-2)


def _divergences(
    spectra: Tensor,
    neighbours: Table,
    factors: Table,
    eigenvalue: Tensor,
    mountain: Tensor,
) -> Tensor:
    """Tendencies from the rows of the five products, (n_rows, 5, members)."""
    x, y, mass_x, mass_y, energy = spectra.unbind(1)
    other, above, below = neighbours
    zonal, from_above, from_below = factors

    def against_derivative(values: Tensor) -> Tensor:
        return from_above * values[above] + from_below * values[below]

    rotation = zonal * y[other] + against_derivative(x)
    return torch.stack(
        (
            against_derivative(y) - zonal * x[other],
            rotation + eigenvalue * (energy + mountain),
            against_derivative(mass_y) - zonal * mass_x[other],
        ),
        dim=1,
    )


def _solved(
    before: Tensor,
    tendency: Tensor,
    eigenvalue: Tensor,
    damping: Tensor | None,
    constants: list[Tensor],
) -> Tensor:
    """Rows after the interval of an implicit step; damping is (n_rows, 3, 1).

    With c = l(l+1)/a^2, PhiBar the reference and a weight alpha:

        dzeta = dt N_zeta,  ddelta = dt [N_delta + c (alpha Phi+ + (1-alpha) Phi-)]
        dPhi  = dt [N_Phi - PhiBar (alpha delta+ + (1-alpha) delta-)]

    which is a division per coefficient.
    """
    interval, alpha, reference = constants
    vorticity, divergence, geopotential = (before + interval * tendency).unbind(1)
    implicit, explicit = interval * alpha, interval * (1 - alpha)
    divergence = divergence + explicit * eigenvalue * before[:, 2]
    geopotential = geopotential - explicit * reference * before[:, 1]
    scale = 1 + (implicit**2 * reference) * eigenvalue
    if damping is not None:
        vorticity = vorticity / (1 + interval * damping[:, 0])
        scale = scale + interval * damping[:, 1]
    divergence = (divergence + implicit * eigenvalue * geopotential) / scale
    geopotential = geopotential - implicit * reference * divergence
    return torch.stack((vorticity, divergence, geopotential), dim=1)


def _inverse_laplacian(l: Tensor, radius: float) -> Tensor:
    """-a^2/(l(l+1)), zero for l = 0."""
    return torch.where(l > 0, -(radius**2) / (l * (l + 1)).clamp(min=1), 0)
