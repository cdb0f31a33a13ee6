"""Critics: networks that tell generated sensor readings from simulated ones.

Wasserstein critics f with gradient penalty: they maximise E f(real) - E f(generated)
- p E (|∇f| - 1)², the gradient taken on the lines between pairs. A stack holds one
critic per subdomain, evaluated together as batched matrix products. Source:
arXiv:1704.00028.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class CriticStack(nn.Module):
    """One critic per set of sensors: two hidden layers of SiLU units.

    Args:
        sensors: of each critic, the sensors it sees; shorter lists are padded with a
            reading that is always zero.
        n_sensors: sensors of the group.
        width: of the hidden layers.
    """

    seen: Tensor
    is_read: Tensor

    def __init__(self, sensors: Sequence[Tensor], n_sensors: int, width: int) -> None:
        super().__init__()
        longest = max(len(part) for part in sensors)
        seen = torch.full((len(sensors), longest), n_sensors)
        for row, part in zip(seen, sensors, strict=True):
            row[: len(part)] = part
        self.register_buffer("seen", seen, persistent=False)
        # a padded reading never moves: the slope along it means nothing
        is_read = (seen < n_sensors).float()[:, None]  # (critics, 1, seen)
        self.register_buffer("is_read", is_read, persistent=False)
        n = len(sensors)
        self.first = _uniform(n, longest, width)
        self.first_bias = nn.Parameter(torch.zeros(n, 1, width))
        self.second = _uniform(n, width, width)
        self.second_bias = nn.Parameter(torch.zeros(n, 1, width))
        self.last = _uniform(n, width, 1)

    def gather(self, readings: Tensor) -> Tensor:
        """What each critic sees (critics, members, seen) of readings (members, all)."""
        padded = torch.nn.functional.pad(readings, (0, 1))
        return padded[:, self.seen].transpose(0, 1)

    def score(self, seen: Tensor) -> Tensor:
        """Scores f (critics, members) of what each critic sees."""
        silu = torch.nn.functional.silu
        hidden = silu(torch.baddbmm(self.first_bias, seen, self.first))
        hidden = silu(torch.baddbmm(self.second_bias, hidden, self.second))
        return (hidden @ self.last)[..., 0]

    def gradient(self, seen: Tensor) -> Tensor:
        """∇f (critics, members, seen), in closed form.

        ∇f = W₁ (σ'(a₁) ⊙ W₂ (σ'(a₂) ⊙ w₃)): one more forward pass, where automatic
        differentiation of a gradient takes several.
        """
        before = torch.baddbmm(self.first_bias, seen, self.first)
        hidden = torch.nn.functional.silu(before)
        after = torch.baddbmm(self.second_bias, hidden, self.second)
        back = (_silu_slope(after) * self.last.mT) @ self.second.mT
        return (_silu_slope(before) * back) @ self.first.mT * self.is_read

    def loss(self, real: Tensor, fake: Tensor, mix: Tensor, penalty: float) -> Tensor:
        """What the critics minimise, (critics,).

        Args:
            real: squashed readings of snapshots (members, sensors).
            fake: generated ones, as many.
            mix: where on the line of each pair the gradient is taken, (members, 1).
            penalty: p, weight of (|∇f| - 1)².
        """
        real, fake = self.gather(real), self.gather(fake)
        gap = self.score(fake).mean(-1) - self.score(real).mean(-1)
        slope = self.gradient(fake + mix * (real - fake))
        # the root of 0 has no derivative
        norm = (slope.square().sum(-1) + 1e-12).sqrt()
        return gap + penalty * (norm - 1).square().mean(-1)


def _silu_slope(x: Tensor) -> Tensor:
    s = torch.sigmoid(x)
    return s * (1 + x * (1 - s))


def _uniform(n: int, n_in: int, n_out: int) -> nn.Parameter:
    """Weights (n, n_in, n_out) as `nn.Linear` draws them."""
    bound = 1 / math.sqrt(n_in)
    return nn.Parameter(torch.empty(n, n_in, n_out).uniform_(-bound, bound))
