"""Scores of predicted fields against simulated ones, with their uncertainty.

Members are the independent draws, cells are not: every interval resamples members.
"""

import torch
from torch import Tensor

N_RESAMPLES = 2000


def rmse(predicted: Tensor, target: Tensor) -> Tensor:
    """Root mean square error over all members and cells, in the unit of the fields."""
    return (predicted - target).square().mean().sqrt()


def rmse_interval(
    predicted: Tensor, target: Tensor, generator: torch.Generator
) -> tuple[float, float]:
    """90 % interval of the RMSE by the percentile bootstrap over members.

    Args:
        predicted: (members, cells).
        target: (members, cells), in the same unit.
        generator: CPU generator of the resamples.
    """
    per_member = (predicted - target).square().mean(-1)  # (members,)
    low, high = mean_interval(per_member, generator)
    return low**0.5, high**0.5


def mean_interval(values: Tensor, generator: torch.Generator) -> tuple[float, float]:
    """90 % interval of a mean over members by the percentile bootstrap.

    Args:
        values: of each member, (members,).
        generator: CPU generator of the resamples.
    """
    n = len(values)
    picks = torch.randint(n, (N_RESAMPLES, n), generator=generator)
    levels = torch.tensor([0.05, 0.95], dtype=values.dtype)
    low, high = torch.quantile(values[picks].mean(-1), levels).tolist()
    return low, high


def coverage(target: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Share [-] of target values inside [low, high]."""
    return ((target >= low) & (target <= high)).double().mean()
