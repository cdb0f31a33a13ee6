"""A linear correction of a model, while the waves on a flow are small.

    x(t + D) = B x(t) + g(x) C(p(x)) x(t)

B is a coarse solver, or any other model of an interval. What it lacks in the waves of a
flow that has not broken is linear in them: truth and model, linearised about a zonal
flow, do not mix zonal orders m, and what the truncation or the model leaves out (small
scales, divergence, waves of gravity) follows what it holds. So C takes, for each m, all
degrees and fields of the wave to the defect of each, with matrices that depend linearly
on p, the leading principal components of the zonal flow. They come from a ridge
regression, each pair weighted by the inverse size of its defect, as defects grow by
orders of magnitude before a jet breaks. The defect of the zonal flow itself is a
polynomial in p. The gate g is 1 for a state of the kind that was learned from, and 0
else.

Where it stands beside T42 and T63 is printed by `benchmarks.shallow_water_surrogates`:
learned from 56 perturbed jets, it leaves 0.06 of T42's error of vorticity on day 2 and
0.49 +- 0.02 on day 5; from 40 jets 0.60 +- 0.11.
"""

from dataclasses import dataclass, fields
from itertools import combinations_with_replacement

import torch
from torch import Tensor

from surrogates.sphere.flow import Advance, carry_ahead

N_COMPONENTS = 2  # of the zonal flow; jets of two parameters have no more
ZONAL_DEGREE = 3  # of the polynomial
ZONAL_RIDGE = 1e-8  # as RIDGE; few jets do not determine all terms
# Waves of higher order carry little of what breaks a jet. Corrected too, rounding of
# float32 in them grows from step to step and ends the rollout on day 3.
LARGEST_ORDER = 12
RIDGE = 0.1  # of the mean square of the predictors; 0.03 to 0.3 do as well
# Root mean square of wave vorticity over that of the zonal flow. Jets pass it on day 3;
# learned from twice or three times as large waves, day 5 has 0.16 and 0.21.
LARGEST_WAVES = 0.1
REACH = 1.2  # how far p may be from its mean, in units of the farthest learned from


@dataclass(frozen=True, slots=True, eq=False)
class LinearCorrection:
    """What was learned; zonal coefficients are real, degrees from 0.

    Attributes:
        mean: zonal flow about which components are taken, (3, l), float64.
        size: root mean square of anomalies from it, by field, (3, 1), float64.
        patterns: its product with a zonal anomaly is p, (components, 3, l), float64.
        reach: largest |p| of each component, and last the largest anomaly in units of
            `size`, of flows that are corrected, (components + 1,), float64.
        waves: (1 + components, orders, 3, l, 3, l), from the wave to its defect.
        zonal: (terms, 3, l), float64.
    """

    mean: Tensor
    size: Tensor
    patterns: Tensor
    reach: Tensor
    waves: Tensor
    zonal: Tensor

    def __call__(self, state: Tensor) -> Tensor:
        """What to add to the model's state, for states (batch, 3, l, m)."""
        components = self.components(state)
        orders = range(1, 1 + self.waves.shape[1])
        weights = _with_one(components).to(self.waves.dtype)
        change = torch.zeros_like(state)
        change[..., orders] = torch.einsum(
            "nk,nclm,kmcldj->ndjm", weights, state[..., orders], self.waves
        )
        zonal = torch.einsum("nk,kcl->ncl", _terms(components), self.zonal)
        change[..., 0] = zonal.to(state.dtype)
        distances = _distances(self._anomaly(state), self.size, components)
        is_known = (distances <= self.reach).all(-1) & _has_small_waves(state)
        return torch.where(is_known[:, None, None, None], change, 0)

    def components(self, state: Tensor) -> Tensor:
        """p, (batch, components), of unit variance where it was learned."""
        return torch.einsum("ncl,kcl->nk", self._anomaly(state), self.patterns)

    def _anomaly(self, state: Tensor) -> Tensor:
        return state[..., 0].real.double() - self.mean

    def arrays(self) -> dict[str, Tensor]:
        """The tensors by name, from which `LinearCorrection(**arrays)` makes it."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def wave_ratio(state: Tensor) -> Tensor:
    """Root mean square of wave vorticity over that of its zonal mean, (...)."""
    square = state[..., 0, 1:, :].abs().double().square().sum(-2)
    return (2 * square[..., 1:].sum(-1) / square[..., 0]).sqrt()


def corrected(advance: Advance, correction: LinearCorrection) -> Advance:
    """A model with its correction, as one."""
    return lambda state: advance(state) + correction(state)


def fit_linear_correction(
    advance: Advance, before: Tensor, after: Tensor
) -> LinearCorrection:
    """Learns from pairs of states with small waves; other pairs are left out.

    Args:
        advance: B, the model over D.
        before: x(t), (pairs, 3, l, m).
        after: x(t + D), likewise.

    Raises:
        ValueError: hardly a pair has small waves, or the model fails with them.
    """
    kept = _has_small_waves(before)
    base = carry_ahead(advance, before[kept])
    state = before[kept].to(torch.complex128)
    defect = (after[kept] - base).to(torch.complex128)
    is_finite = defect.isfinite().flatten(1).all(-1)
    state, defect = state[is_finite], defect[is_finite]
    if len(state) <= N_COMPONENTS:
        raise ValueError(
            f"a linear correction needs more than {N_COMPONENTS} pairs of states whose "
            f"waves have at most {LARGEST_WAVES:g} of the zonal flow's vorticity, and "
            f"which the model can follow; got {len(state)} of {len(kept)} "
            "pairs. Simulate more jets."
        )
    mean = state[..., 0].real.mean(0)
    anomaly = state[..., 0].real - mean
    zonal_size = anomaly.square().mean((0, 2)).sqrt()[:, None]
    patterns = _principal_patterns(anomaly, zonal_size)
    components = torch.einsum("ncl,kcl->nk", anomaly, patterns)
    size = defect[:, 0, :, 1:].abs().square().sum((-1, -2)).sqrt()
    weights = torch.where(size > 0, 1 / size, 0)  # a flow without waves tells nothing
    predictors = _with_one(components).to(state.dtype)
    orders = range(1, 1 + min(LARGEST_ORDER, state.shape[-1] - 1))
    maps = [
        _wave_map(predictors, state[..., m], defect[..., m], weights) for m in orders
    ]
    terms = _terms(components)
    zonal = _regress(terms, defect[..., 0].real.flatten(1), ZONAL_RIDGE)
    zonal = zonal.reshape(-1, *state.shape[1:3])
    zonal[..., 0] = 0  # mass, and means of vorticity and divergence, stay
    return LinearCorrection(
        mean,
        zonal_size,
        patterns,
        REACH * _distances(anomaly, zonal_size, components).amax(0),
        torch.stack(maps, dim=1).to(before.dtype),
        zonal,
    )


def _principal_patterns(anomaly: Tensor, size: Tensor) -> Tensor:
    """Patterns whose products with anomalies (n, 3, l) are components."""
    _, values, patterns = torch.linalg.svd((anomaly / size).flatten(1), False)
    n = min(N_COMPONENTS, int((values > values[0] * 1e-6).sum()))
    scaled = patterns[:n] / (values[:n, None] / len(anomaly) ** 0.5)
    found: Tensor = scaled.reshape(-1, *anomaly.shape[1:]) / size
    return found


def _distances(anomaly: Tensor, size: Tensor, components: Tensor) -> Tensor:
    """How far a zonal flow is from the mean, (n, components + 1); see `reach`."""
    whole = (anomaly / size).square().mean((1, 2)).sqrt()
    return torch.cat((components.abs(), whole[:, None]), dim=1)


def _wave_map(
    predictors: Tensor, wave: Tensor, defect: Tensor, weights: Tensor
) -> Tensor:
    """Matrices (1 + components, 3, l, 3, l) of one order; wave, defect (n, 3, l)."""
    x, y = (value * weights[:, None, None] for value in (wave, defect))
    # each coefficient in units of its size; those of degrees below the order are zero
    size = x.abs().square().mean(0).sqrt()
    inverse = torch.where(size > 0, 1 / size, 0)
    columns = (predictors[:, :, None, None] * (x * inverse)[:, None]).flatten(1)
    found = _regress(columns, y.flatten(1), RIDGE)
    matrices = found.reshape(predictors.shape[1], *wave.shape[1:], *wave.shape[1:])
    return matrices * inverse[..., None, None]


def _regress(columns: Tensor, values: Tensor, ridge: float) -> Tensor:
    """Ridge regression of values (n, j) on columns (n, k), as (k, j).

    By normal equations: LAPACK's least squares differ from process to process in the
    last bits.
    """
    gram = columns.mH @ columns
    weight = ridge * gram.diagonal().real.mean()
    weight = weight.clamp(min=torch.finfo(weight.dtype).tiny)  # all columns are zero
    eye = torch.eye(len(gram), dtype=gram.dtype)
    found: Tensor = torch.linalg.solve(gram + weight * eye, columns.mH @ values)
    return found


def _has_small_waves(state: Tensor) -> Tensor:
    return wave_ratio(state) <= LARGEST_WAVES


def _with_one(components: Tensor) -> Tensor:
    return torch.cat((torch.ones_like(components[:, :1]), components), dim=1)


def _terms(components: Tensor) -> Tensor:
    """Monomials (n, terms) up to the degree of the zonal polynomial."""
    n = components.shape[1]
    powers = [
        power
        for degree in range(ZONAL_DEGREE + 1)
        for power in combinations_with_replacement(range(n), degree)
    ]
    return torch.stack([components[:, list(power)].prod(-1) for power in powers], -1)
