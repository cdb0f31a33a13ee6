"""A guard over rollouts: where a network leaves what it knows, the model takes over.

Quantities of each state of the training flows span ranges, widened by a margin. An
interval that would leave them is done by a model instead, from the same state; then the
network goes on. Two quantities are integrals of the equations, as their change since
the first state: the energy above rest, I(h* |V|^2/2 + g (h* - H)^2/2) with H the mean
depth, and the potential enstrophy. Mass needs no guard, as the network keeps it.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from simulators.shallow_water import ShallowWater, split_fields
from simulators.shallow_water.constants import GRAVITY
from simulators.shallow_water.diagnostics import invariants
from simulators.sphere import power_spectrum
from surrogates.sphere.flow import Advance, FlowNetwork

QUANTITIES = (
    "energy above rest",
    "potential enstrophy",
    "largest vorticity",
    "largest divergence",
    "lowest depth",
    "highest depth",
    "enstrophy of small scales",
)
SMALL_SCALES = 2 / 3  # of the truncation; degrees above are small scales
MEMBERS_AT_ONCE = 32


class Guard(NamedTuple):
    """Least and largest values of the quantities, (quantities,), float64."""

    lowest: Tensor
    highest: Tensor

    def is_outside(self, quantities: Tensor) -> Tensor:
        """Which quantities (..., quantities) leave their range; NaN does."""
        return ~((quantities >= self.lowest) & (quantities <= self.highest))


class GuardedFlows(NamedTuple):
    """What a guarded rollout gave.

    Attributes:
        flows: (members, steps + 1, 3, l, m).
        outside: (members, steps, quantities), which ranges the network's step left;
            the model did the step where there is one.
    """

    flows: Tensor
    outside: Tensor


def guard_of(model: ShallowWater, flows: Tensor, margin: float) -> Guard:
    """The ranges of flows (members, times, 3, l, m), each widened by a share of it."""
    values = torch.stack(
        [
            flow_quantities(model, flows[:, time], flows[:, 0])
            for time in range(flows.shape[1])
        ]
    ).flatten(0, 1)
    lowest, highest = values.amin(0), values.amax(0)
    width = margin * (highest - lowest)
    return Guard(lowest - width, highest + width)


def flow_quantities(model: ShallowWater, states: Tensor, first: Tensor) -> Tensor:
    """The guarded quantities (members, quantities) of states, float64.

    Args:
        model: of their truncation, without mountain.
        states: (members, 3, l, m).
        first: with which their flows began, likewise.
    """
    parts = (torch.split(x, MEMBERS_AT_ONCE) for x in (states, first))
    return torch.cat([_quantities(model, *part) for part in zip(*parts, strict=True)])


def _quantities(model: ShallowWater, states: Tensor, first: Tensor) -> Tensor:
    fields = model.harmonics.synthesise(states).double().flatten(-2)  # (members, 3, n)
    energy, enstrophy = _integrals(model, states)
    first_energy, first_enstrophy = _integrals(model, first)
    square = power_spectrum(states[:, 0]).double()  # (members, l)
    n_large = int(SMALL_SCALES * model.harmonics.truncation) + 1
    return torch.stack(
        (
            energy / first_energy - 1,
            enstrophy / first_enstrophy - 1,
            fields[:, 0].abs().amax(-1),
            fields[:, 1].abs().amax(-1),
            fields[:, 2].amin(-1) / GRAVITY,
            fields[:, 2].amax(-1) / GRAVITY,
            square[:, n_large:].sum(-1) / square.sum(-1),
        ),
        dim=-1,
    )


def _integrals(model: ShallowWater, states: Tensor) -> tuple[Tensor, Tensor]:
    """Energy above rest and potential enstrophy, (members,)."""
    found = invariants(model, split_fields(states))
    return found.energy - GRAVITY * found.mass**2 / 2, found.potential_enstrophy


def roll_out_guarded(
    network: FlowNetwork,
    model: ShallowWater,
    guard: Guard,
    fallback: Advance,
    first: Tensor,
    n_steps: int,
) -> GuardedFlows:
    """Rolls the network out, with the model for the intervals that it cannot do.

    Args:
        network: of the flow.
        model: for the quantities.
        guard: of the training flows.
        fallback: the model over one interval of the network.
        first: (members, 3, l, m).
        n_steps: intervals.
    """
    states, outside = [first], []
    with torch.no_grad():
        for _ in range(n_steps):
            later = network(states[-1])
            quantities = flow_quantities(model, later, first)
            outside.append(guard.is_outside(quantities))
            stopped = outside[-1].any(dim=-1)
            if bool(stopped.any()):
                later[stopped] = fallback(states[-1][stopped])
            states.append(later)
    return GuardedFlows(torch.stack(states, dim=1), torch.stack(outside, dim=1))
