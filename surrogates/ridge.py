"""Ridge regression of head on Karhunen-Loeve coordinates: the linear baseline.

h ≈ c + (x - x̄) B with B = (X'X + p I)⁻¹ X'H. The number of leading coordinates and the
penalty p are chosen on held-out training members, then the fit uses all of them. A
network has learned something only where it beats this.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

MIN_MEMBERS = 5
HELD_OUT_SHARE = 0.2
PENALTIES = tuple(10.0 ** (0.5 * k) for k in range(-4, 11))


@dataclass(frozen=True, slots=True, eq=False)
class Ridge:
    """A fitted linear map from k coordinates to n heads.

    Attributes:
        coefficients: B (k, n) [m].
        centre: mean coordinates x̄ (k,) [-].
        mean: mean head c (n,) [m].
        penalty: p [-].
    """

    coefficients: Tensor
    centre: Tensor
    mean: Tensor
    penalty: float

    @property
    def n_coordinates(self) -> int:
        """Number of leading coordinates that the map reads."""
        return len(self.coefficients)

    def predict(self, coordinates: Tensor) -> Tensor:
        """Heads (..., n) [m] of members with coordinates (..., K), K >= k."""
        x = coordinates[..., : self.n_coordinates] - self.centre
        return self.mean + x @ self.coefficients


def fit_ridge(coordinates: Tensor, head: Tensor, n_candidates: Sequence[int]) -> Ridge:
    """Fits the map with the number of coordinates and the penalty that predict best.

    Args:
        coordinates: (members, K), in order of falling variance and scaled by its root,
            so that one penalty serves all of them.
        head: (members, n) [m].
        n_candidates: numbers of leading coordinates to try; those above K mean K.

    Raises:
        ValueError: fewer than 5 members, or a row for one but not for the other.
    """
    n_members, n_all = coordinates.shape
    if n_members < MIN_MEMBERS or len(head) != n_members:
        raise ValueError(
            f"ridge regression needs at least {MIN_MEMBERS} members with coordinates "
            f"and heads; got {n_members} and {len(head)}. Train on more members."
        )
    n_fit = n_members - max(1, int(HELD_OUT_SHARE * n_members))
    trials = []
    for n_kept in sorted({min(n, n_all) for n in n_candidates}):
        x = coordinates[:, :n_kept]
        for fit in ridge_path(x[:n_fit], head[:n_fit], PENALTIES):
            error = float((fit.predict(x[n_fit:]) - head[n_fit:]).square().mean())
            trials.append((error, n_kept, fit.penalty))
    _, n_kept, penalty = min(trials)
    return ridge_path(coordinates[:, :n_kept], head, [penalty])[0]


def ridge_path(x: Tensor, head: Tensor, penalties: Sequence[float]) -> list[Ridge]:
    """One map per penalty from one eigen-decomposition.

    With fewer members than coordinates the smaller matrix is decomposed:
    (X'X + p I)⁻¹ X'H = X'(XX' + p I)⁻¹ H.
    """
    centre, mean = x.mean(0), head.mean(0)
    deviation, target = x - centre, head - mean
    if len(x) < x.shape[1]:
        values, vectors = torch.linalg.eigh(deviation @ deviation.mT)
        basis, projected = deviation.mT @ vectors, vectors.mT @ target
    else:
        values, vectors = torch.linalg.eigh(deviation.mT @ deviation)
        basis, projected = vectors, vectors.mT @ (deviation.mT @ target)
    return [
        Ridge(basis @ (projected / (values + p)[:, None]), centre, mean, p)
        for p in penalties
    ]
