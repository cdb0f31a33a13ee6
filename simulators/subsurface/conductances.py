"""Conductances of all connections and head faces, and how a loss depends on them.

A connection or head face is halves in series: with rho = 1/T of the cells c at its
ends, 1/t = sum_c rho_c/f_c. As dt/d ln T_c = t^2 rho_c/f_c, a loss with adjoint lambda
has the gradient

    dL/d ln T_c = -rho_c sum t^2/f_c (drop of h)(drop of lambda)

over the connections and head faces of c. The drop is that of `flow.residual`: from
cell_a to cell_b, or from a cell to its head face, where lambda is zero. Arrays have
members in the last dimension.
"""

from typing import NamedTuple

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor

from simulators.subsurface.condensation import Floats, members_first, members_last
from simulators.subsurface.mesh import FlowMesh


class InputGradients(NamedTuple):
    """Gradients of a loss in ln T and in the values of the forcing."""

    log_transmissivity: Tensor
    head: Tensor
    inflow: Tensor
    fixed_head: Tensor
    source: Tensor


class Conductances:
    """Constant maps of a mesh between cells and its n_t conductances.

    Attributes:
        n_conn: connections; the head faces come after them.
        face_rows: rows of the head faces among the conductances.
    """

    def __init__(self, mesh: FlowMesh) -> None:
        self.n_conn = len(mesh.cell_a)
        self.face_rows = self.n_conn + np.arange(len(mesh.head_cell))
        self._inflow_cell = mesh.inflow_cell.numpy()
        factors = torch.cat([mesh.factor_a, mesh.factor_b, mesh.head_factor]).numpy()
        signs = np.repeat(
            [1.0, -1.0, 1.0], [self.n_conn, self.n_conn, len(mesh.head_cell)]
        )
        self._series = self._map_of_ends(mesh, 1 / factors)
        self._drop = self._map_of_ends(mesh, signs)
        self._to_cells = self._series.T.tocsr()
        self._to_fixed = -self._drop[:, mesh.fixed_cell.numpy()].T.tocsr()

    def resistances(self, log_transmissivity: Tensor) -> tuple[Floats, Floats]:
        """The resistivity rho (n_cells, members) and 1/t (n_t, members).

        Args:
            log_transmissivity: ln T (members, n_cells).
        """
        # torch's exp is vectorised where numpy's is not
        resistivity = members_last((-log_transmissivity).exp_())
        return resistivity, self._series @ resistivity

    def pull_back(
        self, inputs: list[Tensor], head: Tensor, adjoint: Tensor
    ) -> InputGradients:
        """Gradients -lambda' dr/dp (members, values) for every input p of the residual.

        Args:
            inputs: ln T and the forcing, (members, values) each.
            head: the solution, (members, n_cells).
            adjoint: lambda (members, n_cells), zero in fixed cells.
        """
        resistivity, resistance = self.resistances(inputs[0])
        flow_adjoint = self._drop @ members_last(adjoint)
        flow_adjoint /= resistance  # t times the drop of lambda
        drop = self._drop @ members_last(head)
        drop[self.face_rows] -= inputs[1].numpy().T
        drop *= flow_adjoint
        drop /= resistance
        log_t = self._to_cells @ drop
        log_t *= -resistivity
        return InputGradients(
            log_transmissivity=members_first(log_t),
            head=members_first(flow_adjoint[self.face_rows]),
            inflow=adjoint[:, self._inflow_cell],
            fixed_head=members_first(self._to_fixed @ flow_adjoint),
            source=adjoint,
        )

    def _map_of_ends(self, mesh: FlowMesh, values: Floats) -> csr_matrix:
        """Sparse (n_t, n_cells) with `values` for ends a, ends b and head faces."""
        connections = np.arange(self.n_conn)
        rows = np.concatenate([connections, connections, self.face_rows])
        cells = torch.cat([mesh.cell_a, mesh.cell_b, mesh.head_cell]).numpy()
        shape = (self.n_conn + len(self.face_rows), mesh.n_cells)
        return csr_matrix((values, (rows, cells)), shape=shape)
