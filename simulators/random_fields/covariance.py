"""Stationary isotropic covariance models C(r) = s2 rho(a) + (nugget where r = 0).

With r the Euclidean distance and l the correlation length:
exponential (matern12) rho = exp(-a), a = r/l; matern32 rho = (1 + a) exp(-a),
a = sqrt(3) r/l; matern52 rho = (1 + a + a^2/3) exp(-a), a = sqrt(5) r/l;
squared_exponential rho = exp(-a^2/2), a = r/l.
Source: form after Rasmussen and Williams, Gaussian Processes for Machine Learning
(2006), chapter 4. All linear algebra is float64: these matrices are ill-conditioned.
"""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

Kernel = Literal["matern12", "matern32", "matern52", "squared_exponential"]

# relative to the mean variance; the last loses about half of float64's digits
JITTERS = (0.0, 1e-12, 1e-10, 1e-8)
POINT_TABLE_NDIM = 2


@dataclass(frozen=True, slots=True)
class Covariance:
    """Covariance model of one field.

    The nugget is true variance on scales below the spacing of the points, not noise of
    the measurement: a value observed at a location holds there exactly, and tells
    nothing of the small-scale part elsewhere.

    Attributes:
        kernel: shape of the correlation.
        variance: s2 of the correlated part, in the field's unit squared.
        correlation_length: l, in the unit of the coordinates.
        nugget: small-scale variance, in the field's unit squared.
    """

    kernel: Kernel
    variance: float
    correlation_length: float
    nugget: float = 0.0

    def __post_init__(self) -> None:
        known = get_args(Kernel)
        if self.kernel not in known:
            raise ValueError(
                f"kernel must be one of {', '.join(known)}; got {self.kernel!r}."
            )
        for name in ("variance", "correlation_length"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be positive and finite; got {value}.")
        if not (math.isfinite(self.nugget) and self.nugget >= 0):
            raise ValueError(f"nugget must be >= 0 and finite; got {self.nugget}.")


def as_points(points: Tensor, name: str) -> Tensor:
    """Coordinates in float64, refused unless finite and of shape (n, d)."""
    if points.ndim != POINT_TABLE_NDIM or 0 in points.shape:
        raise ValueError(
            f"{name} must have shape (n, d) with n, d >= 1; got {tuple(points.shape)}."
            " Give one-dimensional coordinates as x[:, None]."
        )
    bad = (~torch.isfinite(points).all(dim=-1)).nonzero().flatten()
    if len(bad):
        raise ValueError(
            f"{name} must be finite; got {points[bad[0]].tolist()} in row "
            f"{int(bad[0])} ({len(bad)} such rows)."
        )
    return points.double()


def distances(points_a: Tensor, points_b: Tensor) -> Tensor:
    """Euclidean distances (n, m), exactly zero for equal coordinates."""
    # the matrix-product form would leave round-off between equal points
    exact = "donot_use_mm_for_euclid_dist"
    return torch.cdist(points_a, points_b, compute_mode=exact)


def correlation(kernel: Kernel, scaled_distance: Tensor) -> Tensor:
    """Correlation rho [-] at r/l, without nugget; formulas in the module docstring."""
    if kernel == "matern12":
        return torch.exp(-scaled_distance)
    if kernel == "squared_exponential":
        return torch.exp(-(scaled_distance**2) / 2)
    if kernel == "matern32":
        a = math.sqrt(3) * scaled_distance
        return (1 + a) * torch.exp(-a)
    a = math.sqrt(5) * scaled_distance
    return (1 + a + a**2 / 3) * torch.exp(-a)


def covariance_matrix(points_a: Tensor, points_b: Tensor, model: Covariance) -> Tensor:
    """Covariance of the field between two sets of points.

    Two points are the same location when their coordinates are equal to the bit. The
    nugget counts for such pairs only: on the diagonal if both sets are the same points,
    and where a subset meets the set that it was taken from.

    Args:
        points_a: coordinates (n, d).
        points_b: coordinates (m, d).
        model: covariance model; its length is in the unit of the coordinates.

    Returns:
        Covariances (n, m) in float64, in the field's unit squared.

    Raises:
        ValueError: wrong shape, different d, or coordinates that are not finite.
    """
    a, b = as_points(points_a, "points_a"), as_points(points_b, "points_b")
    if a.shape[1] != b.shape[1]:
        raise ValueError(
            "points_a and points_b must have the same number of coordinates; got "
            f"{a.shape[1]} and {b.shape[1]}."
        )
    r = distances(a, b)
    smooth = model.variance * correlation(model.kernel, r / model.correlation_length)
    return smooth + model.nugget * (r == 0)


def cholesky_factor(matrix: Tensor) -> Tensor:
    """Lower Cholesky factor (m, m), with the least jitter that makes it exist.

    The matrix is tried as it is, then with 1e-12, 1e-10 and 1e-8 of its mean diagonal
    added to the diagonal.

    Raises:
        ValueError: no factor even so.
    """
    factor: Tensor
    scale = matrix.diagonal().mean()
    for jitter in JITTERS:
        shift = (jitter * scale).expand(matrix.shape[-1]).diag()
        factor, info = torch.linalg.cholesky_ex(matrix + shift)
        if info == 0:
            return factor
    raise ValueError(
        "the covariance of the observations must be positive definite to 1e-8 of its "
        f"variance; got leading minor {int(info)} of {len(matrix)} not positive. Add "
        "a nugget, shorten the correlation length or thin out close points."
    )
