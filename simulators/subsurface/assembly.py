"""From log-transmissivities to sparse matrices, for a block of members at once.

The matrix of a flow problem has one pattern for all members, and storage adds to its
diagonal alone. Values are computed with members in the last dimension, where a gather
copies whole rows and constant sparse maps do all sums.
"""

from typing import NamedTuple

import numpy as np
import torch
from scipy.sparse import csc_matrix, csr_matrix

from simulators.subsurface.condensation import (
    Condensation,
    Floats,
    Indices,
    Pivots,
    members_first,
    scatter_map,
)
from simulators.subsurface.conductances import Conductances
from simulators.subsurface.flow import ForcingValues
from simulators.subsurface.mesh import FlowMesh

# connections times members of a block
_BLOCK_VALUES = 192_000


class Links(NamedTuple):
    """Conductances to given heads, through which all water enters or leaves."""

    conductance: Floats  # (n_links, members) [m2/d]
    given_head: Floats  # (n_links, members) [m]
    cell: Indices  # (n_links,) the cell at the other end


class Block(NamedTuple):
    """The linear systems of some members."""

    data: Floats  # (members, nnz) upper triangles
    load: Floats  # (n_cells, members) [m3/d]; in fixed cells their head [m]
    pivots: Pivots
    links: Links


class FlowAssembly:
    """Pattern and constant maps of a mesh; assembles blocks of members."""

    def __init__(self, mesh: FlowMesh) -> None:
        self.n_cells = mesh.n_cells
        self.conductances = Conductances(mesh)
        self.condensation = Condensation(mesh)
        self._head_cell, self._fixed = mesh.head_cell.numpy(), mesh.fixed_cell.numpy()
        self._build_matrix_maps(mesh.cell_a.numpy(), mesh.cell_b.numpy())
        self._build_load_maps(mesh)

    def assemble(
        self,
        log_transmissivity: torch.Tensor,
        given: ForcingValues,
        storage_rate: Floats | None = None,
    ) -> Block:
        """The systems of members (members, n_cells), checked before.

        Args:
            log_transmissivity: ln T, (members, n_cells).
            given: the forcing, (members, values) each.
            storage_rate: added to the diagonal, (n_cells, members) [m2/d].
        """
        _, resistance = self.conductances.resistances(log_transmissivity)
        t, data, pivots = self._matrix_values(resistance, storage_rate)
        load, links = self.drive(t[self._link_row], given)
        return Block(members_first(data).numpy(), load, pivots, links)

    def drive(self, conductance: Floats, given: ForcingValues) -> tuple[Floats, Links]:
        """Load and links of a forcing, for conductances to given heads."""
        head, inflow, fixed_head, source = (x.numpy().T for x in given)
        given_head = np.concatenate([head, fixed_head[self._link_fixed]])
        entering = np.concatenate([conductance * given_head, inflow])
        load = self._entry_map @ entering
        load += source
        load[self._fixed] = fixed_head
        return load, Links(conductance, given_head, self._link_cell)

    def sample_matrix(self) -> csc_matrix:
        """Upper triangle of a uniform aquifer, in the order of the unknowns."""
        uniform = torch.zeros(1, self.n_cells, dtype=torch.float64)
        _, resistance = self.conductances.resistances(uniform)
        _, data, _ = self._matrix_values(resistance)
        n = len(self.condensation.kept)
        return csc_matrix((data[:, 0], self._indices, self._indptr), shape=(n, n))

    def blocks(self, n_members: int) -> list[slice]:
        """Consecutive members whose arrays are assembled together."""
        size = max(1, _BLOCK_VALUES // max(1, self.conductances.n_conn))
        return [slice(i, min(i + size, n_members)) for i in range(0, n_members, size)]

    def _matrix_values(
        self, resistance: Floats, storage_rate: Floats | None = None
    ) -> tuple[Floats, Floats, Pivots]:
        """Conductances, upper triangle and pivots; members in the last dimension."""
        n_t, n_members = resistance.shape
        parts = np.empty((self._matrix_map.shape[1], n_members))
        t = np.reciprocal(resistance, out=parts[:n_t])
        diagonal = self._pivot_map @ t
        if storage_rate is not None:
            diagonal += storage_rate[self.condensation.eliminated]
        pivots = self.condensation.eliminate(t, diagonal, losses=parts[n_t:])
        data = self._matrix_map @ parts
        if storage_rate is not None:
            data[self._diagonal_rows] += storage_rate[self.condensation.kept]
        return t, data, pivots

    def _build_matrix_maps(self, a: Indices, b: Indices) -> None:
        """Maps from conductances to the values of the upper triangle and pivots."""
        plan, number = self.condensation, self.condensation.number
        n_conn, face_rows = len(a), self.conductances.face_rows
        n, n_t = len(plan.kept), n_conn + len(face_rows)
        cells = np.concatenate([a, b, self._head_cell])  # whose diagonal holds t
        columns = np.concatenate([np.tile(np.arange(n_conn), 2), face_rows])
        at_unknown = number[cells] >= 0

        coupled = np.flatnonzero((number[a] >= 0) & (number[b] >= 0))
        keys = _triangle_keys(number[a[coupled]], number[b[coupled]], n)
        diagonal_keys = number[cells[at_unknown]] * (n + 1)
        loss_keys = _triangle_keys(plan.pairs[0], plan.pairs[1], n)
        every = (keys, np.arange(n) * (n + 1), loss_keys)
        pattern = np.unique(np.concatenate(every))  # column by column
        self._indices = (pattern % n).astype(np.int32)
        self._indptr = np.searchsorted(pattern, np.arange(n + 1) * n).astype(np.int32)
        self._diagonal_rows = np.searchsorted(pattern, np.arange(n) * (n + 1))

        entries = (keys, loss_keys, diagonal_keys)
        losses = n_t + np.arange(len(plan.pair_count))
        sources = np.concatenate([coupled, losses, columns[at_unknown]])
        rows = np.searchsorted(pattern, np.concatenate(entries))
        signs = np.concatenate(
            [-np.ones(len(keys)), -plan.pair_count, np.ones(len(diagonal_keys))]
        )
        shape = (len(pattern), n_t + len(losses))
        self._matrix_map = csr_matrix((signs, (rows, sources)), shape=shape)

        pivot = np.full(self.n_cells, -1)
        pivot[plan.eliminated] = np.arange(len(plan.eliminated))
        at_pivot = pivot[cells] >= 0
        rows = pivot[cells[at_pivot]]
        self._pivot_map = csr_matrix(
            (np.ones(len(rows)), (rows, columns[at_pivot])),
            shape=(len(plan.eliminated), n_t),
        )

    def _build_load_maps(self, mesh: FlowMesh) -> None:
        """Links to given heads, and maps from them and from inflow faces to loads."""
        a, b = mesh.cell_a.numpy(), mesh.cell_b.numpy()
        fixed_number = np.full(self.n_cells, -1)
        fixed_number[self._fixed] = np.arange(len(self._fixed))
        to_a, to_b = fixed_number[a], fixed_number[b]
        from_a = np.flatnonzero((to_a < 0) & (to_b >= 0))
        from_b = np.flatnonzero((to_b < 0) & (to_a >= 0))
        self._link_row = np.concatenate([self.conductances.face_rows, from_a, from_b])
        self._link_fixed = np.concatenate([to_b[from_a], to_a[from_b]])
        self._link_cell = np.concatenate([self._head_cell, a[from_a], b[from_b]])
        entries = np.concatenate([self._link_cell, mesh.inflow_cell.numpy()])
        self._entry_map = scatter_map(entries, self.n_cells)


def _triangle_keys(i: Indices, j: Indices, n: int) -> Indices:
    """Sort keys of entries of the upper triangle, column by column."""
    keys: Indices = np.maximum(i, j) * n + np.minimum(i, j)
    return keys
