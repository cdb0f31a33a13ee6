"""State of the shallow-water model: spectral coefficients of its three fields."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """Coefficients (..., T+1 (l), T+1 (m)), complex, in the convention of `sphere`.

    Leading dimensions are members.
    """

    vorticity: Tensor  # relative [1/s]
    divergence: Tensor  # [1/s]
    geopotential: Tensor  # g times the depth of the fluid, without mountain [m2/s2]


def stack_fields(state: State) -> Tensor:
    """Coefficients (..., 3, T+1, T+1): vorticity, divergence, geopotential."""
    return torch.stack((state.vorticity, state.divergence, state.geopotential), dim=-3)


def split_fields(fields: Tensor) -> State:
    """The state of stacked coefficients (..., 3, T+1, T+1)."""
    return State(*fields.unbind(dim=-3))
