"""Elimination of half of the cells before the sparse factorisation.

Cells without a connection to each other are eliminated at once. With d the diagonal
of such a cell, t_p its conductances to neighbours p and w_p = t_p/d, the others keep

    A_pq -= t_p w_q,     b_p += w_p b,     and afterwards     h = b/d + sum_p w_p h_p.

This is Gaussian elimination in another order, vectorised over members; the sparse
factorisation that remains takes 15 to 25 % less time. Cells with fixed head are
no unknowns either. Arrays have members in the last dimension.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import reverse_cuthill_mckee

from simulators.subsurface.mesh import FlowMesh

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


class Pivots(NamedTuple):
    """What the elimination leaves to be used again, for a block of members."""

    diagonal: Floats  # (n_eliminated, members) [m2/d]
    weight: Floats  # (n_slots, members) [-], a slot = (eliminated cell, neighbour)


class Condensation:
    """Which cells are eliminated, and the constant maps to do it.

    Attributes:
        kept: cells that remain unknown, in the order of the unknowns.
        number: unknown of each cell, -1 where there is none, shape (n_cells,).
        eliminated: cells eliminated.
        pairs: the unknowns (2, n_pairs) between which elimination adds a value.
        pair_count: how often it does, (n_pairs,): 2 for parallel connections, which
            meet in one unknown from both ends of the pair.
        is_pair: where these stand among the losses, (most neighbours, n_slots).
    """

    def __init__(self, mesh: FlowMesh) -> None:
        self.fixed = mesh.fixed_cell.numpy()
        ends = np.stack([mesh.cell_a.numpy(), mesh.cell_b.numpy()])
        is_free = np.ones(mesh.n_cells, dtype=bool)
        is_free[self.fixed] = False
        order, is_eliminated = _choose_cells(ends, is_free)
        self.kept = order[is_free[order] & ~is_eliminated[order]]
        self.eliminated = np.flatnonzero(is_eliminated)
        self.number = np.full(mesh.n_cells, -1)
        self.number[self.kept] = np.arange(len(self.kept))

        conn = np.arange(ends.shape[1])
        from_end = np.concatenate([ends, ends[::-1]], axis=1)  # both directions
        is_slot = is_eliminated[from_end[0]] & is_free[from_end[1]]
        cell, neighbour = from_end[:, is_slot]
        by_cell = np.argsort(cell, kind="stable")
        self._slot_conn = np.tile(conn, 2)[is_slot][by_cell]
        self._slot_cell = np.searchsorted(self.eliminated, cell[by_cell])
        self._slot_unknown = self.number[neighbour[by_cell]]
        self._to_kept = scatter_map(self._slot_unknown, len(self.kept))
        self._to_eliminated = scatter_map(self._slot_cell, len(self.eliminated))
        # slots are sorted by cell: its k-th neighbours are k slots apart
        distance = np.arange(np.bincount(self._slot_cell, minlength=1).max())[:, None]
        first = np.arange(len(self._slot_cell))
        second = np.minimum(first + distance, len(first) - 1)
        of_one_cell = self._slot_cell[second] == self._slot_cell
        self.is_pair = of_one_cell & (second == first + distance)
        self.pairs = np.stack(
            [
                np.broadcast_to(self._slot_unknown, second.shape),
                self._slot_unknown[second],
            ]
        )[:, self.is_pair]
        is_parallel = (self.pairs[0] == self.pairs[1]) & (self.is_pair.nonzero()[0] > 0)
        self.pair_count = np.where(is_parallel, 2.0, 1.0)

    def eliminate(self, t: Floats, diagonal: Floats, losses: Floats) -> Pivots:
        """Pivots; fills `losses` with what pairs of unknowns lose in the matrix.

        Args:
            t: conductances (n_conn, members).
            diagonal: of the eliminated cells, (n_eliminated, members).
            losses: (most neighbours, n_slots, members), of use where `is_pair`.
        """
        t_slot = t[self._slot_conn]
        weight = t_slot / diagonal[self._slot_cell]
        for k, loss in enumerate(losses):
            n = len(t_slot) - k
            np.multiply(t_slot[:n], weight[k:], out=loss[:n])
            loss[n:] = 0.0
        return Pivots(diagonal, weight)

    def reduce(self, load: Floats, pivots: Pivots) -> Floats:
        """Right-hand sides (members, n_unknowns) from those of all cells."""
        passed_on = pivots.weight * load[self.eliminated][self._slot_cell]
        reduced = load[self.kept] + self._to_kept @ passed_on
        return np.ascontiguousarray(reduced.T)

    def recover(self, x: Floats, load: Floats, pivots: Pivots) -> Floats:
        """Values in all cells (n_cells, members) from unknowns (members, n_unknowns).

        In fixed cells they are those of `load`.
        """
        values, unknowns = np.empty_like(load), np.ascontiguousarray(x.T)
        received = self._to_eliminated @ (pivots.weight * unknowns[self._slot_unknown])
        values[self.kept] = unknowns
        values[self.eliminated] = load[self.eliminated] / pivots.diagonal + received
        values[self.fixed] = load[self.fixed]
        return values


def scatter_map(rows: Indices, n_rows: int) -> csr_matrix:
    """Sparse (n_rows, len(rows)) that adds value i to row rows[i]."""
    columns = np.arange(len(rows))
    shape = (n_rows, len(rows))
    return csr_matrix((np.ones(len(rows)), (rows, columns)), shape=shape)


def _choose_cells(
    ends: Indices, is_free: NDArray[np.bool_]
) -> tuple[Indices, NDArray[np.bool_]]:
    """Order of the cells, and those to eliminate: greedy, never two neighbours.

    The order is reverse Cuthill-McKee: on grids the greedy choice along it is a
    checkerboard, and the solver's own ordering fills in less when it starts from it.
    """
    n = len(is_free)
    graph = csr_matrix((np.ones(ends.shape[1]), tuple(ends)), shape=(n, n))
    graph = (graph + graph.T).tocsr()
    order = reverse_cuthill_mckee(graph, symmetric_mode=True).astype(np.int64)
    starts, neighbours = graph.indptr.tolist(), graph.indices
    is_eliminated, is_open = np.zeros(n, dtype=bool), is_free.copy()
    is_open[order[is_free[order]][0]] = False  # one unknown has to remain
    for cell in order.tolist():
        if is_open[cell]:
            is_eliminated[cell] = True
            is_open[neighbours[starts[cell] : starts[cell + 1]]] = False
    return order, is_eliminated
