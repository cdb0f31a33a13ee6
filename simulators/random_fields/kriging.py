"""Maximum-likelihood covariance of a field from point values, and simple kriging.

With C the covariance (nugget included) of m observed values y and 1 a vector of ones:
mean b = 1^T C^-1 y / 1^T C^-1 1 (generalised least squares) and
log L = -1/2 [ (y - b)^T C^-1 (y - b) + ln det C + m ln 2 pi ].
Kriging with known mean b: E[Y|y] = b + K C^-1 (y - b), Cov = C_YY - K C^-1 K^T, where K
is the covariance between the points and the observed ones.
Source: form after Rasmussen and Williams (2006), chapters 2 and 5. All in float64.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from simulators.random_fields.covariance import (
    Covariance,
    Kernel,
    as_points,
    cholesky_factor,
    correlation,
    covariance_matrix,
    distances,
)

# the nugget's share stays off 0 and 1: smooth kernels need it to be factorised, and
# this much cannot be told from none (the published Hanford fits add it as noise)
LEAST_SHARE = math.sqrt(2.0**-52)
N_STARTS = 4
LEAST_OBSERVATIONS = 4


@dataclass(frozen=True, slots=True)
class FittedField:
    """Covariance, constant mean and log-likelihood at the optimum."""

    covariance: Covariance
    mean: float
    log_likelihood: float


@dataclass(frozen=True, slots=True, eq=False)
class Kriging:
    """Conditional mean (n,) and covariance (n, n) of a field, float64."""

    mean: Tensor
    covariance: Tensor


def fit_covariance(
    points: Tensor, values: Tensor, kernel: Kernel = "matern52"
) -> FittedField:
    """Variance, length, nugget and mean that make the values most likely.

    Mean and total variance have closed forms, so the search (L-BFGS-B, gradients by
    automatic differentiation) is over the length and the nugget's share alone, from
    four lengths between the spacing and half the extent of the points. The length stays
    between a tenth of the closest spacing and ten extents; data without structure, or
    with a trend, end at such a bound.

    Args:
        points: coordinates (m, d), no two equal, m >= 4.
        values: observed field (m,), not constant.
        kernel: shape of the correlation.

    Returns:
        The best of the four searches. Cost O(m^3) per step; 0.1 s for 100 points.

    Raises:
        ValueError: wrong shapes, too few, duplicate, constant or non-finite data.
    """
    x, y = _checked_observations(points.detach(), values.detach())
    if len(y) < LEAST_OBSERVATIONS or float(y.std()) == 0:
        raise ValueError(
            f"a fit needs {LEAST_OBSERVATIONS} or more values that differ; got "
            f"{len(y)} from {float(y.min())} to {float(y.max())}."
        )
    # a centred, unit-variance copy keeps the profile free of cancellation
    centre, scale = float(y.mean()), float(y.std())
    r, standard = distances(x, x), (y - centre) / scale
    best = _most_likely(kernel, r, standard)
    _, mean, total = _profile(kernel, r, standard, best)
    total_variance, share = float(total) * scale**2, float(best[1])
    model = Covariance(
        kernel,
        variance=(1 - share) * total_variance,
        correlation_length=math.exp(float(best[0])),
        nugget=share * total_variance,
    )
    field_mean = centre + scale * float(mean)
    return FittedField(model, field_mean, log_likelihood(x, y, model, field_mean))


def log_likelihood(
    points: Tensor, values: Tensor, model: Covariance, mean: float
) -> float:
    """Log-density of the values (m,) at points (m, d) under a Gaussian field."""
    x, y = _checked_observations(points, values)
    factor = cholesky_factor(covariance_matrix(x, x, model))
    whitened = torch.linalg.solve_triangular(factor, (y - mean)[:, None], upper=False)
    log_det = 2 * factor.diagonal().log().sum()
    square = whitened.square().sum()
    return -0.5 * float(square + log_det + len(y) * math.log(2 * math.pi))


def generalised_mean(points: Tensor, values: Tensor, model: Covariance) -> float:
    """Best linear unbiased estimate of a constant mean, 1'C⁻¹y / 1'C⁻¹1.

    Args:
        points: coordinates (m, d), no two equal.
        values: observed field (m,).
        model: covariance model.
    """
    x, y = _checked_observations(points, values)
    factor = cholesky_factor(covariance_matrix(x, x, model))
    weights = torch.cholesky_solve(torch.ones_like(y)[:, None], factor)[:, 0]
    return float(weights @ y / weights.sum())


def krige(
    points: Tensor,
    observed_points: Tensor,
    observed_values: Tensor,
    model: Covariance,
    mean: float,
) -> Kriging:
    """Simple kriging: the field given exact values at some points.

    The nugget is true small-scale variance: at an observed location (coordinates equal
    to the bit) the mean is the observed value and the variance exactly zero; everywhere
    else the variance includes the nugget. The covariance is symmetric, and positive
    semidefinite to round-off. Near-singular observation sets get the jitter of
    `cholesky_factor`, at most 1e-8 of the variance.

    Args:
        points: coordinates of the field (n, d).
        observed_points: coordinates (m, d), no two equal.
        observed_values: field at the observed points (m,).
        model: covariance model.
        mean: known mean of the field.

    Returns:
        Conditional mean (n,) and covariance (n, n).

    Raises:
        ValueError: wrong shapes, duplicate points, or input that is not finite.
    """
    if not math.isfinite(mean):
        raise ValueError(f"mean must be finite; got {mean}.")
    x, y = _checked_observations(observed_points, observed_values)
    factor = cholesky_factor(covariance_matrix(x, x, model))
    cross = covariance_matrix(x, points, model)  # (m, n)
    whitened = torch.linalg.solve_triangular(factor, cross, upper=False)
    anomaly = torch.linalg.solve_triangular(factor, (y - mean)[:, None], upper=False)
    prior = covariance_matrix(points, points, model)
    posterior = prior - whitened.mT @ whitened
    kriged = mean + (whitened.mT @ anomaly)[:, 0]
    return _pinned(kriged, posterior, distances(points.double(), x) == 0, y)


def _pinned(mean: Tensor, covariance: Tensor, is_same: Tensor, y: Tensor) -> Kriging:
    """Replace round-off (and jitter) at observed points (n, m) by what holds there."""
    is_observed = is_same.any(dim=1)
    observed = y[is_same.int().argmax(dim=1)]
    is_fixed = is_observed[:, None] | is_observed
    symmetric = (covariance + covariance.mT) / 2
    return Kriging(
        torch.where(is_observed, observed, mean), symmetric.masked_fill(is_fixed, 0.0)
    )


def _checked_observations(points: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Observations in float64; refused unless finite, matching and distinct."""
    x = as_points(points, "observed points")
    if values.shape != x.shape[:1]:
        raise ValueError(
            f"observed values must have shape ({len(x)},), one per point; got "
            f"{tuple(values.shape)}."
        )
    bad = (~torch.isfinite(values)).nonzero().flatten()
    if len(bad):
        raise ValueError(
            f"observed values must be finite; got {float(values[bad[0]])} at index "
            f"{int(bad[0])} ({len(bad)} such values). Leave such points out."
        )
    pairs = (distances(x, x) == 0).triu(diagonal=1).nonzero()
    if len(pairs):
        i, j = pairs[0].tolist()
        raise ValueError(
            f"observed points must be distinct; got {x[i].tolist()} at indices {i} and "
            f"{j} ({len(pairs)} such pairs). Keep one, or average their values."
        )
    return x, values.double()


def _profile(
    kernel: Kernel, r: Tensor, y: Tensor, parameters: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Negative log-likelihood without its constant, with its mean and total variance.

    `parameters` holds ln l and the nugget's share g of the total variance; mean and
    total variance t are at their optimum for R = (1 - g) rho(r/l) + g I:
    1/2 (m ln t + ln det R) with t = (y - b)^T R^-1 (y - b)/m.
    """
    log_length, share = parameters
    rho = correlation(kernel, r / log_length.exp())
    identity = torch.eye(len(y), dtype=r.dtype, device=r.device)
    factor = cholesky_factor((1 - share) * rho + share * identity)
    pair = torch.stack([y, torch.ones_like(y)], dim=1)  # (m, 2)
    white_y, white_one = torch.linalg.solve_triangular(factor, pair, upper=False).T
    mean = (white_one @ white_y) / white_one.square().sum()
    variance = (white_y - mean * white_one).square().mean()
    half_log_det = factor.diagonal().log().sum()
    return 0.5 * len(y) * variance.log() + half_log_det, mean, variance


def _most_likely(kernel: Kernel, r: Tensor, y: Tensor) -> Tensor:
    """Parameters (ln l, nugget's share) of the best of several searches."""
    spacing = r.clone().fill_diagonal_(math.inf).amin(dim=1)
    closest, extent = float(spacing.min()), float(r.max())

    def objective(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        leaf = torch.tensor(parameters, dtype=r.dtype, device=r.device)
        leaf.requires_grad_()
        with torch.enable_grad():
            loss = _profile(kernel, r, y, leaf)[0]
        (gradient,) = torch.autograd.grad(loss, leaf)
        return float(loss.detach()), gradient.cpu().numpy()

    bounds = [
        (math.log(closest / 10), math.log(10 * extent)),
        (LEAST_SHARE, 1 - LEAST_SHARE),
    ]
    lengths = np.geomspace(float(spacing.median()), extent / 2, N_STARTS)
    searches = [
        minimize(objective, (ln_l, 0.1), jac=True, method="L-BFGS-B", bounds=bounds)
        for ln_l in np.log(lengths)
    ]
    best = min(searches, key=lambda search: search.fun)
    return torch.tensor(best.x, dtype=r.dtype, device=r.device)
