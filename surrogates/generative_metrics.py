"""Scores of a generated ensemble of fields against a simulated one, held out.

All ensembles are (members, cells) and may differ in their number of members. Heads have
heavy tails: scales are robust (half of the 16 to 84 % range), and a covariance is taken
of z = asinh((h - median) / scale), both from the reference. No score of a finite
ensemble is exactly that of a perfect model: read it against `calibrate`.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from surrogates.scores import coverage

N_AXES = 2  # member, cell
MIN_MEMBERS = 10
MIN_REPEATS = 20
N_LEVELS = 200
N_COVARIANCE_CELLS = 200
BLOCK_MEMBERS = 1000
FLAT = 1e-6  # share of the largest spread; float32 fields carry no more
ROUND_OFF = 1e-12


@dataclass(frozen=True, slots=True, eq=False)
class _Ensemble:
    """Fields (members, cells) and what one sort of them gives, all [m]."""

    fields: Tensor
    median: Tensor  # (cell,)
    spread: Tensor  # (cell,)
    interval: Tensor  # 5 and 95 % quantiles, (2, cell)
    quantiles: Tensor  # at the levels (k + 1/2) / N_LEVELS, (level, cell)


def robust_spread(fields: Tensor) -> Tensor:
    """Half of the 16 to 84 % range of each cell: 0.994 σ of a Gaussian.

    Args:
        fields: (members, cells), finite, at least 10 members.

    Returns:
        Spread (cells,) in the unit of the fields, float64.
    """
    _check_ensembles(fields=fields)
    return _quantiles(fields, [0.16, 0.84]).diff(dim=0)[0] / 2


def effective_rank(fields: Tensor) -> float:
    """Participation ratio (tr C)² / tr C² of the covariance C of the fields [-].

    Numerator and denominator are the U-statistics, unbiased whatever the distribution:
    with the sample covariance S of n members and Q = Σ |x_i - x̄|⁴ / (n - 1),
    tr C² ∝ (n - 1)(n - 2) tr S² + (tr S)² - n Q and
    (tr C)² ∝ 2 tr S² + (n² - 3n + 1)(tr S)² - n Q.
    Their ratio keeps a bias of order 1/n. Form after Himeno & Yamada (2014), J.
    Multivariate Anal.; the test compares it with the sum over all quadruples.

    Returns:
        Between 1 and the number of cells up to sampling error; 0 where at
        most one member differs from the others.
    """
    _check_ensembles(fields=fields)
    n = len(fields)
    x = fields.double() - fields[0].double()  # exact zeros where all members are equal
    x = x - x.mean(0)
    gram = (x @ x.mT if n < x.shape[1] else x.mT @ x) / (n - 1)
    trace_of_square = gram.square().sum()
    square_of_trace = (x.square().sum() / (n - 1)).square()
    fourth = n * x.square().sum(-1).square().sum() / (n - 1)
    below = (n - 1) * (n - 2) * trace_of_square + square_of_trace - fourth
    above = 2 * trace_of_square + (n * n - 3 * n + 1) * square_of_trace - fourth
    has_rank = float(below) > ROUND_OFF * n * n * float(square_of_trace)
    return float(above / below) if has_rank else 0.0


def score_fields(
    generated: Tensor, reference: Tensor, unseen_cells: Tensor
) -> dict[str, float]:
    """Distances between the distributions of two ensembles, all dimensionless.

    Cells without spread in the reference, as those of known values, are left out of the
    scores that divide by it.

    mean_error: rms difference of mean fields over rms standard deviation.
    deviation_error: relative L2 error of the standard deviation field; one wild member
        can decide it, so it is descriptive where tails are heavy.
    spread_error: the same of the robust spread; tails do not count.
    covariance_error: relative Frobenius error of the covariance of z in 200 cells.
    rank_ratio: effective rank of z, generated over reference, of equal many members.
    wasserstein_1: W₁ = ∫ |F⁻¹ - G⁻¹| dp of a cell over its robust spread, mean.
    coverage_90: share of reference values at the unseen cells in the 5 to 95 % interval
        of the generated members there; 0.9 (n - 1) / (n + 1) is expected of n members.

    Args:
        generated: (members, cells) [m].
        reference: (other members, cells) [m], simulated and never trained on.
        unseen_cells: indices (k,) of cells that no sensor reads.

    Raises:
        ValueError: fewer than 10 members, different numbers of cells, a non-finite
            value, a reference without any spread, or no such unseen cells.
    """
    _check_ensembles(generated=generated, reference=reference)
    _check_cells(unseen_cells, reference.shape[1])
    target = _summarise(reference)
    _check_varies("reference", target.spread.amax()[None])
    return _score(_summarise(generated), target, unseen_cells)


def score_statistics(
    mean: Tensor, deviation: Tensor, spread: Tensor, reference: Tensor
) -> dict[str, float]:
    """The first three scores of `score_fields`, for statistics without members.

    Args:
        mean: mean field (cells,) [m].
        deviation: standard deviation (cells,) [m].
        spread: robust spread (cells,) [m].
        reference: (members, cells) [m].
    """
    _check_ensembles(reference=reference)
    members = reference.double()
    sigma = members.std(0)
    return {
        "mean_error": float(_rms(mean - members.mean(0)) / _rms(sigma)),
        "deviation_error": _relative(deviation, sigma),
        "spread_error": _relative(spread, robust_spread(reference)),
    }


def consistency(head: Tensor, solved_head: Tensor, reference_spread: Tensor) -> float:
    """How far heads are from solving their own fields: rms(h - solve(Y)) / rms(spread).

    Args:
        head: generated heads (members, cells) [m].
        solved_head: the simulator's heads of the generated fields Y, same shape [m].
        reference_spread: robust spread of simulated heads (cells,) [m].
    """
    shapes = [tuple(t.shape) for t in (head, solved_head, reference_spread)]
    if shapes[0] != shapes[1] or shapes[0][-1:] != shapes[2]:
        raise ValueError(
            "heads, solved heads and spread must be (members, cells) twice and (cells,)"
            f"; got {shapes}. Solve every generated member."
        )
    _check_finite("heads, solved heads and spread", head, solved_head, reference_spread)
    _check_varies("reference", reference_spread.amax()[None])
    return float(_rms(head.double() - solved_head) / _rms(reference_spread.double()))


def memorisation_ratio(generated: Tensor, training: Tensor, held_out: Tensor) -> float:
    """Median distance to the nearest training member, generated over held-out [-].

    About 1 for a faithful model, 0 where training members are repeated. A narrow or
    blurred ensemble is also below 1, so read it beside `spread_error`.

    Args:
        generated: sensor readings (members, sensors) [m].
        training: readings of the training members, which also set each sensor's scale.
        held_out: readings of simulated members outside `training`.
    """
    _check_ensembles(generated=generated, training=training, held_out=held_out)
    scale = robust_spread(training)
    _check_varies("training", scale)
    known = training / scale
    usual = _nearest_distance(held_out / scale, known).median()
    if float(usual) == 0:
        raise ValueError(
            "held-out members must differ from training members; got a median distance "
            "of 0. Hold out members that were not trained on."
        )
    return float(_nearest_distance(generated / scale, known).median() / usual)


def calibrate(
    simulated: Tensor,
    reference: Tensor,
    unseen_cells: Tensor,
    n_members: int,
    n_repeats: int,
    generator: torch.Generator,
) -> dict[str, tuple[float, float]]:
    """Scores of simulation against simulation: the 90 % interval of every key.

    With f = n_members / simulated members, subsets differ less from each other, by
    √(1 - f), than a fresh ensemble from the pool, √(1 + f). The 5 and 95 % quantiles of
    their scores are moved away from the median by the ratio of both.

    A generated ensemble of `n_members` is distinguishable from simulation where an
    error is above its interval, or a ratio or a coverage outside. Each key alone
    misses one perfect model in ten, so one miss of seven keys is no finding.

    Args:
        simulated: (members, cells) [m], none of them in `reference`.
        reference: (other members, cells) [m], as in `score_fields`.
        unseen_cells: as in `score_fields`.
        n_members: size of a subset, that of the generated ensemble, at most half.
        n_repeats: number of subsets, without replacement, at least 20; of r repeats
            an interval holds 0.9 (r - 1) / (r + 1).
        generator: CPU generator of the subsets.
    """
    _check_ensembles(simulated=simulated, reference=reference)
    _check_cells(unseen_cells, reference.shape[1])
    if not MIN_MEMBERS <= n_members <= len(simulated) // 2 or n_repeats < MIN_REPEATS:
        raise ValueError(
            f"calibration needs {MIN_MEMBERS} to {len(simulated) // 2} of the "
            f"{len(simulated)} simulated members and {MIN_REPEATS} repeats; got "
            f"{n_members} and {n_repeats}. Simulate more or score fewer members."
        )
    target = _summarise(reference)
    _check_varies("reference", target.spread.amax()[None])
    scores = []
    for _ in range(n_repeats):
        picks = torch.randperm(len(simulated), generator=generator)[:n_members]
        subset = _summarise(simulated[picks.to(simulated.device)])
        scores.append(_score(subset, target, unseen_cells))
    columns = torch.tensor([list(score.values()) for score in scores]).double()
    quantiles = _quantiles(columns, [0.05, 0.5, 0.95])  # (level, key)
    share = n_members / len(simulated)
    wider = ((1 + share) / (1 - share)) ** 0.5
    bounds = quantiles[1] + wider * (quantiles - quantiles[1])
    low, _, high = bounds.clamp(min=0).tolist()
    return dict(zip(scores[0], zip(low, high, strict=True), strict=True))


def _summarise(fields: Tensor) -> _Ensemble:
    middles = ((torch.arange(N_LEVELS) + 0.5) / N_LEVELS).tolist()
    q = _quantiles(fields, [0.05, 0.95, 0.16, 0.5, 0.84, *middles])  # (level, cell)
    return _Ensemble(fields, q[3], (q[4] - q[2]) / 2, q[:2], q[5:])


def _score(
    generated: _Ensemble, reference: _Ensemble, unseen: Tensor
) -> dict[str, float]:
    ours, theirs = generated.fields.double(), reference.fields.double()
    z, target = _squash(ours, reference), _squash(theirs, reference)
    n = min(len(z), len(target))
    distance = (generated.quantiles - reference.quantiles).abs().mean(0)  # (cell,)
    varies = _varies(reference)
    low, high = generated.interval[:, unseen]
    return {
        "mean_error": float(_rms(ours.mean(0) - theirs.mean(0)) / _rms(theirs.std(0))),
        "deviation_error": _relative(ours.std(0), theirs.std(0)),
        "spread_error": _relative(generated.spread, reference.spread),
        "covariance_error": _relative(_covariance(z), _covariance(target)),
        "rank_ratio": effective_rank(z[:n]) / effective_rank(target[:n]),
        "wasserstein_1": float((distance / reference.spread)[varies].mean()),
        "coverage_90": float(coverage(theirs[:, unseen], low, high)),
    }


def _quantiles(fields: Tensor, levels: list[float]) -> Tensor:
    """Quantiles over members, linear between order statistics, (level, cell)."""
    ordered = fields.sort(0).values  # torch.quantile refuses more than 16 M elements
    position = fields.new_tensor(levels, dtype=torch.float64) * (len(fields) - 1)
    below, above = position.floor(), position.ceil()
    first, second = (ordered[i.long()].double() for i in (below, above))
    return torch.lerp(first, second, (position - below)[:, None])


def _squash(fields: Tensor, reference: _Ensemble) -> Tensor:
    varies = _varies(reference)
    deviation = fields[:, varies] - reference.median[varies]
    return (deviation / reference.spread[varies]).asinh()


def _varies(reference: _Ensemble) -> Tensor:
    """Cells (mask) whose spread is more than round-off, as it is at known values."""
    return reference.spread > FLAT * reference.spread.amax()


def _covariance(z: Tensor) -> Tensor:
    """Covariance of at most 200 cells; the stride is not whole, so no grid column."""
    n_cells = z.shape[1]
    n_kept = min(n_cells, N_COVARIANCE_CELLS)
    cells = torch.linspace(0, n_cells - 1, n_kept, device=z.device).round().long()
    deviation = z[:, cells] - z[:, cells].mean(0)
    return deviation.mT @ deviation / (len(z) - 1)


def _nearest_distance(members: Tensor, known: Tensor) -> Tensor:
    """Distance (members,) to the nearest known one; exactly 0 for a copy."""
    exact = "donot_use_mm_for_euclid_dist"
    return torch.cat(
        [
            torch.cdist(block, known, compute_mode=exact).amin(1)
            for block in torch.split(members, BLOCK_MEMBERS)
        ]
    )


def _rms(values: Tensor) -> Tensor:
    return values.square().mean().sqrt()


def _relative(value: Tensor, target: Tensor) -> float:
    return float((value - target).norm() / target.norm())


def _check_ensembles(**ensembles: Tensor) -> None:
    for name, members in ensembles.items():
        is_table = members.ndim == N_AXES and members.numel() > 0
        if not is_table or len(members) < MIN_MEMBERS:
            raise ValueError(
                f"{name} must be (members, cells) with at least {MIN_MEMBERS} members; "
                f"got shape {tuple(members.shape)}. Give more members, one a row."
            )
        _check_finite(name, members)
    widths = {name: members.shape[1] for name, members in ensembles.items()}
    if len(set(widths.values())) > 1:
        raise ValueError(
            f"ensembles must have the same cells; got numbers of cells {widths}. "
            "Read them on one mesh."
        )


def _check_finite(name: str, *tensors: Tensor) -> None:
    n_bad = sum(int((~t.isfinite()).sum()) for t in tensors)
    if n_bad:
        raise ValueError(
            f"{name} must be finite; got {n_bad} values that are not. "
            "Drop or repair these members."
        )


def _check_varies(name: str, spread: Tensor) -> None:
    n_flat = int((spread <= 0).sum())
    if n_flat:
        raise ValueError(
            f"every cell of the {name} must have a robust spread > 0; got {n_flat} "
            "cells without. Leave them out."
        )


def _check_cells(cells: Tensor, n_cells: int) -> None:
    is_index = cells.dtype == torch.int64 and cells.ndim == 1 and len(cells) > 0
    if not is_index or int(cells.min()) < 0 or int(cells.max()) >= n_cells:
        raise ValueError(
            f"unseen cells must be int64 indices (k,) in [0, {n_cells}), k > 0; got "
            f"{cells.dtype} of shape {tuple(cells.shape)}. Use mask.nonzero()[:, 0]."
        )
