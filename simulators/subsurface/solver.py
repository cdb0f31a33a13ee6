"""Steady flow by a sparse LDL' factorisation per member, with its exact adjoint.

A h = b is solved with one symbolic analysis per mesh and one numeric factorisation
per member. For a loss L, A lambda = dL/dh gives dL/dp = -lambda' dr/dp for every
input p of the residual r(h, p) (`flow.residual`; the products in `conductances`).
Works in float64 on the CPU; inputs from other devices are moved, heads moved back.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from simulators.subsurface.assembly import Block, FlowAssembly, Links
from simulators.subsurface.condensation import Floats, Indices, Pivots
from simulators.subsurface.conductances import InputGradients
from simulators.subsurface.factors import FactorPool, KeptFactors
from simulators.subsurface.flow import (
    Forcing,
    ForcingValues,
    check_values,
    flatten_members,
    forcing_values,
)
from simulators.subsurface.mesh import FlowMesh

# above this size of ln T, products of transmissivities overflow or vanish
_LARGEST_LOG = 230.0
# share of the gross boundary flow by which a member's water balance may stay open
BALANCE_TOLERANCE = 1e-7
# the factors of a batch are kept for the adjoint up to this size, else computed again
_KEPT_BYTES = 2**29


class FlowSolveError(ValueError):
    """Members of a batch without trustworthy heads: flat batch indices `members`."""

    def __init__(self, message: str, members: tuple[int, ...] = ()) -> None:
        super().__init__(message)
        self.members = members


class FlowSolver:
    """Solves the steady flow problem of one mesh for many members.

    Threads may share a solver: factors belong to one call at a time. It pickles as
    its mesh and is analysed anew in each process.

    Attributes:
        mesh: on the CPU.
        assembly: the matrices of the mesh, for steady and transient flow.
        factors: of their pattern.
    """

    def __init__(self, mesh: FlowMesh) -> None:
        self.mesh = mesh.to("cpu")
        self.assembly = FlowAssembly(self.mesh)
        self.factors = FactorPool(self.assembly.sample_matrix())

    def __reduce__(self) -> tuple[type["FlowSolver"], tuple[FlowMesh]]:
        return FlowSolver, (self.mesh,)

    def solve(self, log_transmissivity: Tensor, forcing: Forcing) -> Tensor:
        """Steady heads [m], shape (..., n_cells); batch dimensions broadcast.

        Differentiable once with respect to ln T and every value of the forcing.

        Args:
            log_transmissivity: ln T, T in m2/d, shape (..., n_cells), float64.
            forcing: heads and flows, each (..., its length), float64.

        Raises:
            FlowSolveError: if a member's ln T is not finite or larger than 230 in
                size, or its water balance does not close (failed factorisation,
                non-finite head); `members` names them.
            ValueError: if a shape does not fit the mesh.
            TypeError: if an input is not float64.
        """
        batch, inputs = self._flatten(log_transmissivity, forcing)
        # torch does not type the functions of autograd
        heads: Tensor = _SteadySolve.apply(self, *inputs)  # type: ignore[no-untyped-call]  # torch
        return heads.reshape(*batch, -1).to(log_transmissivity.device)

    def head_jacobian(
        self, log_transmissivity: Tensor, forcing: Forcing, cells: Tensor
    ) -> Tensor:
        """Sensitivity dh_w/d ln T_c [m], shape (len(cells), n_cells).

        One factorisation and one adjoint solve A lambda_w = e_w per cell.

        Args:
            log_transmissivity: ln T of one member, shape (n_cells,).
            forcing: heads and flows of one member.
            cells: (n_wells,) cells w whose heads are observed.

        Raises:
            ValueError: if there is a batch dimension, and as for `solve`.
        """
        batch, inputs = self._flatten(log_transmissivity.detach(), forcing)
        if batch:
            raise ValueError(f"one member is wanted; got batch shape {batch}.")
        head, kept = self.solve_members(inputs, keep=True)
        wells = torch.as_tensor(cells, device="cpu").reshape(-1)
        loads = torch.zeros(len(wells), self.mesh.n_cells, dtype=head.dtype)
        loads[torch.arange(len(wells)), wells] = 1.0
        adjoint = self._solve_loads(kept[0], loads)
        repeated = [x.expand(len(wells), -1) for x in inputs]
        head = head.expand(len(wells), -1)
        jacobian = self.pull_back(repeated, head, adjoint).log_transmissivity
        return jacobian.to(log_transmissivity.device)

    def solve_members(
        self, inputs: list[Tensor], *, keep: bool
    ) -> tuple[Tensor, list["_Kept"]]:
        """Heads of (members, ...) inputs, and their factors block by block if kept."""
        log_t = inputs[0]
        check_log_transmissivity(log_t)
        heads, all_kept, failed = torch.empty_like(log_t), [], []
        condensation = self.assembly.condensation
        for rows in self.assembly.blocks(len(log_t)):
            block = self._assemble(inputs, rows)
            rhs = condensation.reduce(block.load, block.pivots)
            if keep:
                x, factors = self.factors.solve_and_keep(block.data, rhs)
                all_kept.append(_Kept(block.pivots, factors))
            else:
                x = self.factors.solve(block.data, rhs)
            h = condensation.recover(x, block.load, block.pivots)
            load = block.load.sum(axis=0) - block.load[condensation.fixed].sum(axis=0)
            failed += (rows.start + _find_open_balances(h, load, block.links)).tolist()
            heads[rows] = torch.from_numpy(h.T)
        if failed:
            raise FlowSolveError(
                "the water balance of a solution must close to "
                f"{BALANCE_TOLERANCE:g} of its gross boundary flow; it is open in "
                f"members {failed[:10]} ({len(failed)} of {len(log_t)}). Leave them "
                "out, or narrow the range of ln T or of the forcing.",
                tuple(failed),
            )
        return heads, all_kept

    def solve_adjoint(
        self, inputs: list[Tensor], kept: list["_Kept"], loads: Tensor
    ) -> Tensor:
        """Adjoint lambda of A lambda = loads, zero in fixed cells, (members, cells)."""
        condensation, adjoints = self.assembly.condensation, []
        free = loads.index_fill(-1, self.mesh.fixed_cell, 0.0)
        for i, rows in enumerate(self.assembly.blocks(len(loads))):
            load = free[rows].numpy().T.copy()
            if kept:
                pivots, factors = kept[i]
                x = factors.solve(condensation.reduce(load, pivots))
            else:
                data, _, pivots, _ = self._assemble(inputs, rows)
                x = self.factors.solve(data, condensation.reduce(load, pivots))
            adjoints.append(condensation.recover(x, load, pivots).T)
        return torch.from_numpy(np.concatenate(adjoints))

    def pull_back(
        self, inputs: list[Tensor], head: Tensor, adjoint: Tensor
    ) -> InputGradients:
        """-lambda' dr/dp for ln T and each input p of the forcing, block by block."""
        pulled = [
            self.assembly.conductances.pull_back(
                [x[rows] for x in inputs], head[rows], adjoint[rows]
            )
            for rows in self.assembly.blocks(len(head))
        ]
        return InputGradients(
            *(torch.cat(parts) for parts in zip(*pulled, strict=True))
        )

    def keeps_factors(self, n_members: int) -> bool:
        """Whether the factors of so many members fit in memory until the adjoint."""
        return n_members * self.factors.bytes_per_factor <= _KEPT_BYTES

    def _flatten(
        self, log_transmissivity: Tensor, forcing: Forcing
    ) -> tuple[tuple[int, ...], list[Tensor]]:
        """Batch shape, and all inputs on the CPU as (members, values)."""
        check_values("log_transmissivity", log_transmissivity, self.mesh.n_cells)
        return flatten_members(
            [log_transmissivity, *forcing_values(self.mesh, forcing)]
        )

    def _solve_loads(self, kept: "_Kept", loads: Tensor) -> Tensor:
        """Adjoints (k, n_cells) of one member for many loads."""
        load = loads.index_fill(-1, self.mesh.fixed_cell, 0.0).numpy().T.copy()
        condensation = self.assembly.condensation
        x = kept.factors.solve_many(condensation.reduce(load, kept.pivots))
        return torch.from_numpy(condensation.recover(x, load, kept.pivots).T)

    def _assemble(self, inputs: list[Tensor], rows: slice) -> Block:
        log_t, *given = (x[rows] for x in inputs)
        return self.assembly.assemble(log_t, ForcingValues(*given))


class _Kept(NamedTuple):
    """What the adjoint of a block needs of its solution."""

    pivots: Pivots
    factors: KeptFactors


class _SteadySolve(torch.autograd.Function):
    """Heads (members, n_cells) of ln T, head, inflow, fixed head and source."""

    @staticmethod
    def forward(ctx: Any, solver: FlowSolver, *inputs: Tensor) -> Tensor:  # noqa: ANN401  # torch
        keep = any(ctx.needs_input_grad) and solver.keeps_factors(len(inputs[0]))
        heads, ctx.kept = solver.solve_members(list(inputs), keep=keep)
        ctx.solver = solver
        ctx.save_for_backward(heads, *inputs)
        return heads

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, head_gradient: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401  # torch
        solver, (heads, *inputs) = ctx.solver, ctx.saved_tensors
        adjoint = solver.solve_adjoint(inputs, ctx.kept, head_gradient)
        gradients = solver.pull_back(inputs, heads, adjoint)
        # a fixed head is also a head of the output
        gradients.fixed_head.add_(head_gradient[:, solver.mesh.fixed_cell])
        return None, *gradients


def check_log_transmissivity(log_t: Tensor) -> None:
    """Refuse values whose transmissivity overflows, vanishes or is not a number."""
    lowest, highest = torch.aminmax(log_t)  # nan if there is one
    if bool((lowest >= -_LARGEST_LOG) & (highest <= _LARGEST_LOG)):
        return
    usable = log_t.abs() <= _LARGEST_LOG  # false for nan
    members, cells = (~usable).nonzero(as_tuple=True)
    bad = sorted(set(members.tolist()))
    member, cell = int(members[0]), int(cells[0])
    raise FlowSolveError(
        f"ln T must be finite and within +-{_LARGEST_LOG:g} (T in m2/d); got "
        f"{float(log_t[member, cell])} in member {member}, cell {cell} ({len(bad)} of "
        f"{len(log_t)} members). Leave these members out.",
        tuple(bad),
    )


def _find_open_balances(head: Floats, load: Floats, links: Links) -> Indices:
    """Members of a block whose water balance is open or whose heads are not finite.

    qdldl does not report a zero pivot in `update`: it leaves the factor of the member
    before, and heads that are plausible. They are not in balance, though.

    Args:
        head: (n_cells, members) [m].
        load: all that drives the free cells, given heads included, (members,) [m3/d].
        links: the conductances to given heads.
    """
    at_links = head[links.cell]  # (links, members)
    net = (links.conductance * at_links).sum(axis=0) - load
    gross = links.conductance * (np.abs(at_links) + np.abs(links.given_head))
    is_closed = np.abs(net) <= BALANCE_TOLERANCE * gross.sum(axis=0)
    return np.flatnonzero(~(is_closed & np.isfinite(head.sum(axis=0))))
