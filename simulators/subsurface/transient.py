"""Transient confined flow by backward Euler, with its exact discrete adjoint.

    (S V/dt) (h^{n+1} - h^n) = -A h^{n+1} + b

A and b are those of steady flow (`flow`), S the storage coefficient [-], V the area of
a cell [m2]. One factorisation per member serves all steps of equal length. For a loss
L, A + S V/dt = M being symmetric, the adjoint runs backwards with the same factors:
M lambda^n = dL/dh^n + (S V/dt) lambda^{n+1}, and dL/dp = -sum_n lambda^n' dr^n/dp.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from simulators.subsurface.assembly import Links
from simulators.subsurface.condensation import (
    Condensation,
    Floats,
    Pivots,
    members_first,
    members_last,
)
from simulators.subsurface.conductances import InputGradients
from simulators.subsurface.factors import KeptFactors
from simulators.subsurface.flow import (
    Forcing,
    ForcingValues,
    check_values,
    flatten_members,
    forcing_values,
)
from simulators.subsurface.mesh import FlowMesh
from simulators.subsurface.solver import (
    BALANCE_TOLERANCE,
    FlowSolveError,
    FlowSolver,
    check_log_transmissivity,
)

# share of the water in storage that round-off may add to an open balance
_STORAGE_ROUND_OFF = 1e-12


@dataclass(frozen=True, slots=True, eq=False)
class StressPeriod:
    """Equal time steps under a forcing that does not change.

    Raises:
        ValueError: at construction, if there is no step or no time in a step.
    """

    forcing: Forcing
    time_step: float  # [d]
    n_steps: int

    def __post_init__(self) -> None:
        if not (math.isfinite(self.time_step) and self.time_step > 0):
            raise ValueError(
                f"time_step must be positive and finite [d]; got {self.time_step}."
            )
        if self.n_steps < 1:
            raise ValueError(f"n_steps must be at least 1; got {self.n_steps}.")


def well_source(mesh: FlowMesh, cells: Sequence[int] | Tensor, rates: Tensor) -> Tensor:
    """The source of a forcing, (..., n_cells) [m3/d], from the rates of wells.

    Args:
        mesh: the flow mesh.
        cells: (n_wells,) cells of the wells; wells in one cell add up.
        rates: (..., n_wells) [m3/d], positive into the aquifer, negative for pumping.

    Raises:
        ValueError: if a well is outside the mesh or in a cell of fixed head, which
            would supply whatever the well takes, or if rates do not fit the wells.
        TypeError: if rates are not float64.
    """
    index = torch.as_tensor(cells, dtype=torch.int64)
    outside = index[(index < 0) | (index >= mesh.n_cells)]
    if len(outside):
        raise ValueError(
            f"a well must stand in a cell 0..{mesh.n_cells - 1} of the mesh; got "
            f"{int(outside[0])}. number_cells(...) gives -1 for inactive cells."
        )
    fixed = index[torch.isin(index, mesh.fixed_cell.cpu())]
    if len(fixed):
        raise ValueError(
            "a well must not stand in a cell of fixed head, where it has no effect; "
            f"got cell {int(fixed[0])}."
        )
    check_values("rates of the wells", rates, len(index))
    source = rates.new_zeros(*rates.shape[:-1], mesh.n_cells)
    return source.index_add(-1, index.to(rates.device), rates)


def solve_transient(
    solver: FlowSolver,
    log_transmissivity: Tensor,
    storage: Tensor,
    initial_head: Tensor,
    periods: Sequence[StressPeriod],
) -> Tensor:
    """Heads [m] after each time step, (..., n_steps of all periods, n_cells).

    Batch dimensions broadcast. Heads of fixed cells are those of the period from its
    first step on. Differentiable once with respect to ln T, storage, initial head and
    every value of the forcings; factors of all members, and so about as many bytes as
    50 steps of their heads, are then held until the gradient is taken. Float64, on the
    CPU; heads are moved back to the device of ln T.

    Args:
        solver: of the mesh.
        log_transmissivity: ln T, T in m2/d, (..., n_cells).
        storage: water that a cell takes up per metre of head [m2], (..., n_cells): its
            storage coefficient [-] times its area; zero is allowed.
        initial_head: [m], (..., n_cells).
        periods: one after the other.

    Raises:
        FlowSolveError: if a member's ln T is not finite or larger than 230 in size, its
            storage negative or not finite, its initial head not finite, or a water
            balance does not close; `members` names them.
        ValueError: if a shape does not fit the mesh, or there is no period.
        TypeError: if an input is not float64.
    """
    if not periods:
        raise ValueError("periods must hold one StressPeriod at least; got none.")
    fields = {
        "log_transmissivity": log_transmissivity,
        "storage": storage,
        "initial_head": initial_head,
    }
    for name, values in fields.items():
        check_values(name, values, solver.mesh.n_cells)
    forcings = [x for p in periods for x in forcing_values(solver.mesh, p.forcing)]
    batch, inputs = flatten_members([*fields.values(), *forcings])
    check_log_transmissivity(inputs[0])
    _check_members("storage must be finite and at least 0 [m2]", inputs[1], lowest=0.0)
    _check_members("initial_head must be finite [m]", inputs[2], lowest=-math.inf)
    heads, failed = [], []
    for rows in solver.assembly.blocks(len(inputs[0])):
        block, open_balances = _solve_block(solver, [x[rows] for x in inputs], periods)
        heads.append(block)
        failed += [rows.start + member for member in sorted(open_balances)]
    if failed:
        raise FlowSolveError(
            f"the water balance of every step must close to {BALANCE_TOLERANCE:g} of "
            f"its gross flow; it is open in members {failed[:10]} ({len(failed)} of "
            f"{len(inputs[0])}). Leave them out, or narrow the range of ln T, of "
            "storage or of the forcing.",
            tuple(failed),
        )
    steps = torch.cat(heads)  # (members, steps, cells)
    return steps.reshape(*batch, *steps.shape[-2:]).to(log_transmissivity.device)


@dataclass(slots=True, eq=False)
class _System:
    """The factorised matrices of a block of members for one length of step."""

    condensation: Condensation
    pivots: Pivots
    factors: KeptFactors
    conductance: Floats  # of the links to given heads, (n_links, members)
    rate: Floats  # S V/dt (n_cells, members), zero in fixed cells
    failed: set[int] = field(default_factory=set)  # members with an open balance

    def solve(self, load: Floats) -> Floats:
        """Values (n_cells, members); in fixed cells those of the load."""
        x = self.factors.solve(self.condensation.reduce(load, self.pivots))
        return self.condensation.recover(x, load, self.pivots)

    def advance(self, head: Floats, load: Floats, links: Links) -> Floats:
        """Heads one step later, (n_cells, members)."""
        later = self.solve(load + self.rate * head)
        self.failed.update(self._find_open_balances(head, later, load, links))
        return later

    def _find_open_balances(
        self, head: Floats, later: Floats, load: Floats, links: Links
    ) -> list[int]:
        """Members whose storage does not change by what flows in.

        A failed factorisation leaves the factors of the member before (`solver`).
        """
        free = load.sum(axis=0) - load[self.condensation.fixed].sum(axis=0)
        stored = self.rate * (later - head)
        at_links = later[links.cell]
        net = (links.conductance * at_links).sum(axis=0) + stored.sum(axis=0) - free
        gross = links.conductance * (np.abs(at_links) + np.abs(links.given_head))
        allowed = BALANCE_TOLERANCE * (gross.sum(axis=0) + np.abs(stored).sum(axis=0))
        allowed += _STORAGE_ROUND_OFF * (self.rate * np.abs(later)).sum(axis=0)
        is_closed = np.abs(net) <= allowed  # false for nan
        return [int(i) for i in np.flatnonzero(~is_closed)]


def _solve_block(
    solver: FlowSolver, inputs: list[Tensor], periods: Sequence[StressPeriod]
) -> tuple[Tensor, set[int]]:
    """Heads (members, steps, cells) of a block, and its members that failed."""
    log_t, storage, head, *forcings = inputs
    heads, failed, system, last_step = [], set[int](), None, 0.0
    for i, period in enumerate(periods):
        given = ForcingValues(*forcings[4 * i : 4 * i + 4])
        rate = storage / period.time_step
        if system is None or period.time_step != last_step:
            system = _factorise(solver, log_t.detach(), rate.detach(), given)
            last_step = period.time_step
        # torch does not type the functions of autograd
        steps: Tensor = _Steps.apply(  # type: ignore[no-untyped-call]  # torch
            solver, system, period.n_steps, log_t, rate, head, *given
        )
        heads.append(steps)
        head = steps[:, -1]
        failed |= system.failed
    return torch.cat(heads, dim=1), failed


def _factorise(
    solver: FlowSolver, log_t: Tensor, rate: Tensor, given: ForcingValues
) -> _System:
    free = members_last(rate.index_fill(-1, solver.mesh.fixed_cell, 0.0))
    detached = ForcingValues(*(x.detach() for x in given))
    block = solver.assembly.assemble(log_t, detached, free)
    factors = solver.factors.factorise(block.data)
    condensation, conductance = solver.assembly.condensation, block.links.conductance
    return _System(condensation, block.pivots, factors, conductance, free)


class _Steps(torch.autograd.Function):
    """Heads (members, n_steps, n_cells) of ln T, S V/dt, initial head and forcing."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401  # torch
        solver: FlowSolver,
        system: _System,
        n_steps: int,
        *inputs: Tensor,
    ) -> Tensor:
        log_t, _, initial, *forcing = inputs
        load, links = solver.assembly.drive(system.conductance, ForcingValues(*forcing))
        heads = log_t.new_empty(len(log_t), n_steps, log_t.shape[-1])
        head = members_last(initial)
        for i in range(n_steps):
            head = system.advance(head, load, links)
            heads[:, i] = torch.from_numpy(head.T)
        ctx.solver, ctx.system = solver, system
        ctx.save_for_backward(heads, *inputs)
        return heads

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401  # torch
        heads, log_t, rate, initial, *forcing = ctx.saved_tensors
        solver, system = ctx.solver, ctx.system
        fixed = solver.mesh.fixed_cell
        free = gradient.index_fill(-1, fixed, 0.0)
        carried, rate_gradient = torch.zeros_like(initial), torch.zeros_like(rate)
        total = InputGradients(*(torch.zeros_like(x) for x in (log_t, *forcing)))
        for i in reversed(range(heads.shape[1])):
            adjoint = members_first(system.solve(members_last(free[:, i] + carried)))
            pulled = solver.pull_back([log_t, *forcing], heads[:, i], adjoint)
            before = heads[:, i - 1] if i else initial
            rate_gradient -= adjoint * (heads[:, i] - before)
            carried = rate * adjoint
            for total_gradient, of_step in zip(total, pulled, strict=True):
                total_gradient.add_(of_step)
        # a fixed head is also a head of the output
        total.fixed_head.add_(gradient[..., fixed].sum(1))
        log_t_gradient, *forcing_gradients = total
        return (
            None,
            None,
            None,
            log_t_gradient,
            rate_gradient,
            carried,
            *forcing_gradients,
        )


def _check_members(rule: str, values: Tensor, lowest: float) -> None:
    """Refuse members (members, n_cells) with a value that is not finite or too low."""
    usable = values.isfinite() & (values >= lowest)
    if bool(usable.all()):
        return
    members, cells = (~usable).nonzero(as_tuple=True)
    bad = sorted(set(members.tolist()))
    member, cell = int(members[0]), int(cells[0])
    raise FlowSolveError(
        f"{rule}; got {float(values[member, cell])} in member {member}, cell {cell} "
        f"({len(bad)} of {len(values)} members). Leave these members out.",
        tuple(bad),
    )
