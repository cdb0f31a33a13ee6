"""Flows carried ahead by one fixed interval, as one array of their three fields.

This is the form in which surrogates take a flow: what they imitate, and what they
correct when a coarse model runs below them.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from simulators.shallow_water.equations import ShallowWater
from simulators.shallow_water.integration import IntegrationError, integrate
from simulators.shallow_water.state import State
from simulators.shallow_water.stepping import RungeKutta4, SemiImplicit


def stack_fields(state: State) -> Tensor:
    """Coefficients (..., 3, T+1, T+1): vorticity, divergence, geopotential."""
    return torch.stack((state.vorticity, state.divergence, state.geopotential), dim=-3)


def split_fields(fields: Tensor) -> State:
    """The state of stacked coefficients (..., 3, T+1, T+1)."""
    return State(*fields.unbind(dim=-3))


@dataclass(frozen=True, slots=True, eq=False)
class Propagator:
    """The model from one time to another; each call begins a run anew.

    Attributes:
        model: the sphere.
        scheme: with the longest step to take.
        interval_s: from input to output [s].
    """

    model: ShallowWater
    scheme: RungeKutta4 | SemiImplicit
    interval_s: float

    def __call__(self, fields: Tensor) -> Tensor:
        """Stacked coefficients (members, 3, T+1, T+1) an interval later.

        Members for which the step is unstable, or that lose their fluid on the way,
        are NaN: a surrogate may lead a flow where the model cannot follow, and the
        other members go on.

        Raises:
            ValueError: if the coefficients are not those of this model.
        """
        n = self.model.harmonics.truncation + 1
        if fields.shape[1:] != (3, n, n):
            raise ValueError(
                f"fields must be (members, 3, {n}, {n}) for this model; got "
                f"{tuple(fields.shape)}."
            )
        return self._advance(fields)

    def _advance(self, fields: Tensor) -> Tensor:
        try:
            (later,) = integrate(
                self.model, split_fields(fields), self.scheme, self.interval_s
            )
        except (ValueError, IntegrationError):
            if len(fields) == 1:
                return torch.full_like(fields, torch.nan)
            # the error need not name the members: halves find them
            middle = len(fields) // 2
            halves = fields[:middle], fields[middle:]
            return torch.cat([self._advance(half) for half in halves])
        return stack_fields(later.state)
