"""Hyperdiffusion -K (-Laplacian)^p, p = 2 or 4; a model says of which fields."""

import math
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Diffusion:
    """Strength as the e-folding time of the shortest wave, l = T, in del^4 or del^8.

    Raises:
        ValueError: for another order, or a time that is not positive.
    """

    e_folding_time_s: float
    order: int = 4

    def __post_init__(self) -> None:
        if self.order not in {4, 8}:
            raise ValueError(f"order must be 4 or 8 (del^4, del^8); got {self.order}.")
        if not 0 < self.e_folding_time_s < math.inf:
            raise ValueError(
                "e_folding_time_s must be positive and finite; got "
                f"{self.e_folding_time_s}. Leave diffusion out for none."
            )

    def rate(self, degree: Tensor, truncation: int) -> Tensor:
        """Damping [1/s] of total wavenumbers l: (l(l+1)/(T(T+1)))^p / time."""
        share = degree * (degree + 1) / (truncation * (truncation + 1))
        return share ** (self.order // 2) / self.e_folding_time_s
