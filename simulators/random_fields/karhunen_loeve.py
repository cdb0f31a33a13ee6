"""Karhunen-Loeve expansion of a Gaussian field on cells.

Y = m + sum_k sqrt(lambda_k) xi_k phi_k with xi ~ N(0, I), where C W phi = lambda phi
and sum_i w_i phi_ik phi_ij = delta_kj, W = diag(w). With cell volumes as the weights w
this is the continuous eigenproblem (Nystrom, midpoint rule); with unit weights it is
the eigen-decomposition of the covariance matrix. Source: form after Ghanem and Spanos,
Stochastic Finite Elements (1991), chapter 2. Everything is float64: small eigenvalues
and the projection on their modes need it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from simulators.random_fields.members import member_generator


@dataclass(frozen=True, slots=True, eq=False)
class KarhunenLoeve:
    """A field's mean and leading modes; k modes on n cells, float64.

    Attributes:
        mean: mean of the field (n,), in the field's unit.
        modes: modes (n, k), orthonormal under the weights.
        eigenvalues: variances (k,) times weight, descending, all positive.
        weights: cell volumes, or ones (n,).
        total_variance: trace of C W, the sum of all eigenvalues before truncation.
    """

    mean: Tensor
    modes: Tensor
    eigenvalues: Tensor
    weights: Tensor
    total_variance: float

    @property
    def captured_share(self) -> float:
        """Share [-] of the total variance that the kept modes hold."""
        return float(self.eigenvalues.sum()) / self.total_variance


def karhunen_loeve(
    mean: Tensor,
    covariance: Tensor,
    *,
    variance_share: float | None = None,
    n_terms: int | None = None,
    weights: Tensor | None = None,
) -> KarhunenLoeve:
    """Leading modes of a covariance matrix.

    Give `variance_share` for the fewest modes that hold that share, `n_terms` for a
    number of modes, or neither for all. Eigenvalues below round-off (n eps times the
    largest) are dropped in any case: a field conditioned on m cells has n - m modes.

    Args:
        mean: mean of the field (n,).
        covariance: symmetric positive semidefinite (n, n), in the field's unit squared.
        variance_share: share [-] to hold, in (0, 1].
        n_terms: largest number of modes, 1 to n.
        weights: positive cell volumes (n,); ones if absent.

    Returns:
        The expansion. Each mode is positive at its first cell that reaches half of its
        largest magnitude, so signs do not depend on the LAPACK build; modes of equal
        eigenvalues are determined only up to a rotation among themselves.

    Raises:
        ValueError: wrong shapes or values, both truncations, or no variance at all.
    """
    w = torch.ones_like(mean) if weights is None else weights
    _check_problem(mean, covariance, w)
    _check_truncation(len(mean), variance_share, n_terms)
    root = w.double().sqrt()
    scaled = root[:, None] * covariance.double() * root
    ascending, vectors = torch.linalg.eigh(scaled)
    eigenvalues = _significant(ascending.flip(0))
    total = float(scaled.trace())
    k = _n_kept(eigenvalues, total, variance_share, n_terms)
    modes = _oriented(vectors.flip(1)[:, :k]) / root[:, None]
    return KarhunenLoeve(mean.double(), modes, eigenvalues[:k], w.double(), total)


def fields_from_coordinates(expansion: KarhunenLoeve, xi: Tensor) -> Tensor:
    """Fields m + sum_k sqrt(lambda_k) xi_k phi_k.

    Args:
        expansion: the expansion, n cells and k modes.
        xi: coordinates [-] (..., k); drawn on the CPU, they move to the modes' device.

    Returns:
        Fields (..., n) in float64; gradients flow to `xi`.
    """
    _check_last(xi, expansion.modes.shape[1], "xi", "mode")
    amplitudes = xi.to(expansion.modes) * expansion.eigenvalues.sqrt()
    return expansion.mean + amplitudes @ expansion.modes.mT  # (..., n)


def coordinates_of(expansion: KarhunenLoeve, fields: Tensor) -> Tensor:
    """Coordinates [-] (..., k) of fields (..., n), by projection on the modes.

    The inverse of `fields_from_coordinates` for fields in the span of the modes; of any
    other field it keeps the part in the span.
    """
    _check_last(fields, len(expansion.mean), "fields", "cell")
    anomalies = (fields.to(expansion.mean) - expansion.mean) * expansion.weights
    return anomalies @ expansion.modes / expansion.eigenvalues.sqrt()  # (..., k)


def sample_coordinates(
    expansion: KarhunenLoeve, generator: torch.Generator, n: int
) -> Tensor:
    """Standard normal coordinates (n, k), float64, on the CPU as the generator is."""
    k = len(expansion.eigenvalues)
    return torch.randn(n, k, generator=generator, dtype=torch.float64)


def sample_members(
    expansion: KarhunenLoeve, seed: int, members: Sequence[int]
) -> Tensor:
    """Coordinates (member, k) of the named members, each from its own stream.

    A row depends on the seed, the member's number and k only, whatever else is drawn.
    """
    k = len(expansion.eigenvalues)
    coordinates = torch.empty(len(members), k, dtype=torch.float64)
    for row, member in zip(coordinates, members, strict=True):
        row.copy_(sample_coordinates(expansion, member_generator(seed, member), 1)[0])
    return coordinates


def _check_problem(mean: Tensor, covariance: Tensor, weights: Tensor) -> None:
    """Refuse what is not a mean (n,), a covariance (n, n) and volumes (n,)."""
    n = mean.numel()
    shapes = tuple(mean.shape), tuple(covariance.shape), tuple(weights.shape)
    if n == 0 or shapes != ((n,), (n, n), (n,)):
        raise ValueError(
            "mean, covariance and weights must have shapes (n,), (n, n) and (n,); got "
            f"{shapes[0]}, {shapes[1]} and {shapes[2]}."
        )
    for name, values in (("mean", mean), ("covariance", covariance)):
        if not torch.isfinite(values).all():
            bad = int((~torch.isfinite(values)).sum())
            raise ValueError(f"{name} must be finite; got {bad} values that are not.")
    if not (torch.isfinite(weights) & (weights > 0)).all():
        worst = float(weights.min())
        raise ValueError(f"weights must be positive and finite; got {worst} at least.")
    asymmetry = float((covariance - covariance.mT).abs().max())
    if asymmetry > 1e-6 * float(covariance.abs().max()):
        raise ValueError(
            "covariance must be symmetric to 1e-6 of its largest value; got a "
            f"difference of {asymmetry}."
        )


def _check_truncation(
    n: int, variance_share: float | None, n_terms: int | None
) -> None:
    """Refuse two truncations at once, and shares or numbers out of range."""
    if variance_share is not None and n_terms is not None:
        raise ValueError(
            "variance_share or n_terms must be absent; got "
            f"{variance_share} and {n_terms}. Give one of them."
        )
    if variance_share is not None and not 0 < variance_share <= 1:
        raise ValueError(f"variance_share must be in (0, 1]; got {variance_share}.")
    if n_terms is not None and not 1 <= n_terms <= n:
        raise ValueError(f"n_terms must be 1 to {n}, the cells; got {n_terms}.")


def _check_last(values: Tensor, size: int, name: str, unit: str) -> None:
    """Refuse values whose last dimension is not `size`."""
    if values.ndim == 0 or values.shape[-1] != size:
        raise ValueError(
            f"{name} must end in one value per {unit}, (..., {size}); got "
            f"{tuple(values.shape)}."
        )


def _significant(descending: Tensor) -> Tensor:
    """Eigenvalues above round-off; refused when negative beyond 1e-8 of the largest."""
    largest, smallest = float(descending[0]), float(descending[-1])
    if largest <= 0 or smallest < -1e-8 * largest:
        raise ValueError(
            "covariance must be positive semidefinite and not zero; got eigenvalues "
            f"from {smallest} to {largest}."
        )
    return descending[descending > len(descending) * 2.0**-52 * largest]


def _n_kept(
    eigenvalues: Tensor, total: float, variance_share: float | None, n_terms: int | None
) -> int:
    """Number of modes that the truncation keeps."""
    if n_terms is not None:
        return min(n_terms, len(eigenvalues))
    if variance_share is None:
        return len(eigenvalues)
    short_of = eigenvalues.cumsum(0) < variance_share * total
    # the dropped eigenvalues may leave a share near 1 out of reach
    return min(int(short_of.sum()) + 1, len(eigenvalues))


def _oriented(vectors: Tensor) -> Tensor:
    """Columns signed so that the first large component is positive."""
    # not the largest one: an odd mode has two of equal magnitude and opposite sign
    is_large = vectors.abs() >= 0.5 * vectors.abs().amax(dim=0)
    first = is_large.int().argmax(dim=0, keepdim=True)  # (1, k)
    return vectors * vectors.gather(0, first).sign()
