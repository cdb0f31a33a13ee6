"""States carried ahead by one fixed interval, as one array of their fields.

This is the form in which surrogates take a flow: what they imitate, and what they
correct when a coarse model runs below them.
"""

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from simulators.sphere.integration import IntegrationError, integrate
from simulators.sphere.model import SphereModel
from simulators.sphere.stepping import Scheme

Model = TypeVar("Model", bound=SphereModel[Any])  # whatever its states are


@dataclass(frozen=True, slots=True, eq=False)
class Propagator(Generic[Model]):
    """The model from one time to another; each call begins a run anew.

    Attributes:
        model: the equation with its states.
        scheme: with the longest step to take.
        interval_s: from input to output [s].
    """

    model: Model
    scheme: Scheme
    interval_s: float

    def __call__(self, fields: Tensor) -> Tensor:
        """Coefficients (members, fields, T+1, T+1) an interval later.

        Members for which the step is unstable, or that do not stay sound on the way,
        are NaN: a surrogate may lead a flow where the model cannot follow, and the
        other members go on.

        Raises:
            ValueError: if the coefficients are not those of this model.
        """
        rows = self._pack(fields)
        try:
            (later,) = integrate(
                self.model, self.model.unpack(rows), self.scheme, self.interval_s
            )
        except (ValueError, IntegrationError):
            if len(fields) == 1:
                return torch.full_like(fields, torch.nan)
            # not every error names the members: halves find them
            middle = len(fields) // 2
            halves = fields[:middle], fields[middle:]
            return torch.cat([self(half) for half in halves])
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
