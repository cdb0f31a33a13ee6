"""What the ranks of a training do together between backward pass and optimiser step."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


class Collectives(Protocol):
    """The ranks of one training; a strategy is an object of this protocol."""

    @property
    def rank(self) -> int:
        """Number of this process, from 0."""

    @property
    def size(self) -> int:
        """Number of processes."""

    def average_gradients(self, parameters: Sequence[Tensor]) -> None:
        """Replaces every `grad` by its mean over the ranks, or what stands for it."""


@dataclass(frozen=True, slots=True)
class OneProcess:
    """The only rank: its gradients are the mean, and stay as they are."""

    rank: int = 0
    size: int = 1

    def average_gradients(self, parameters: Sequence[Tensor]) -> None:
        """Does nothing."""


ONE_PROCESS = OneProcess()
