"""States carried ahead by one fixed interval, as one array of their fields.

This is the form in which surrogates take a flow: what they imitate, and what they
correct when a coarse model runs below them.

Some members may be where a model cannot follow: not finite, not physical, or too fast
for the time step. These become NaN and the others go on. A step or model that no sound
member can be run with is an error of the set-up, and is refused.
"""

import math
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from simulators.sphere.integration import IntegrationError, fit_steps, integrate
from simulators.sphere.model import SphereModel, StartError, check_time_step
from simulators.sphere.stepping import Scheme

Model = TypeVar("Model", bound=SphereModel[Any])  # whatever its states are


@dataclass(frozen=True, slots=True, eq=False)
class Propagator(Generic[Model]):
    """The model from one time to another; each call begins a run anew.

    Attributes:
        model: the equation with its states.
        scheme: with the longest step to take.
        interval_s: from input to output [s].

    Raises:
        ValueError: if the interval is not positive and finite.
    """

    model: Model
    scheme: Scheme
    interval_s: float

    def __post_init__(self) -> None:
        if not 0 < self.interval_s < math.inf:
            raise ValueError(
                f"interval_s must be positive and finite [s]; got {self.interval_s}."
            )

    def __call__(self, fields: Tensor) -> Tensor:
        """Coefficients (members, fields, T+1, T+1) an interval later.

        Members that the model cannot follow are NaN.

        Raises:
            ValueError: if the set-up is wrong; see `check`.
        """
        self.check(fields)
        return self.follow(fields)

    def check(self, fields: Tensor) -> None:
        """Refuse a set-up with which no sound member can be run.

        Raises:
            ValueError: if the coefficients are not those of this model.
            StartError: if the time step is too long, or the model unfit, for every
                member that is finite and physical.
        """
        rows = self._pack(fields.detach())
        scheme, _ = fit_steps(self.scheme, self.interval_s)
        refused = []
        for member in range(len(fields)):
            part = rows[..., member : member + 1]
            if not self.model.is_sound(part).all():
                continue
            try:
                check_time_step(self.model, self.model.unpack(part), scheme)
            except StartError:
                refused.append(member)
            else:
                return
        if refused:
            check_time_step(self.model, self.model.unpack(rows[..., refused]), scheme)

    def follow(self, fields: Tensor) -> Tensor:
        """As a call, but with all members NaN where the model can follow none.

        For rollouts: a surrogate may lead every member where the model cannot follow,
        though the set-up is right. It is to be checked on the first states.

        Raises:
            ValueError: if the coefficients are not those of this model.
        """
        rows = self._pack(fields)
        try:
            (later,) = integrate(
                self.model, self.model.unpack(rows), self.scheme, self.interval_s
            )
        except (StartError, IntegrationError):
            if len(fields) == 1:
                return torch.full_like(fields, torch.nan)
            # not every error names the members: halves find them
            middle = len(fields) // 2
            halves = fields[:middle], fields[middle:]
            return torch.cat([self.follow(half) for half in halves])
        found = self.model.transform.unpack(self.model.pack(later.state))
        return found.transpose(0, 1).contiguous()

    def _pack(self, fields: Tensor) -> Tensor:
        """Rows (n_rows, fields, members)."""
        transform, n_fields = self.model.transform, self.model.n_fields
        n, dtype = transform.truncation + 1, transform.dtype.to_complex()
        if fields.shape[1:] != (n_fields, n, n):
            raise ValueError(
                f"fields must be (members, {n_fields}, {n}, {n}) for this model; got "
                f"{tuple(fields.shape)}."
            )
        if fields.dtype != dtype:
            raise TypeError(
                f"fields must be {dtype} for this model; got {fields.dtype}."
            )
        return transform.pack(fields.transpose(0, 1)).contiguous()
