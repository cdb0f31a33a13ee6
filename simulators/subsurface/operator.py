"""The flow operator A(Y) of a batch of members, matrix-free, in the dtype of Y.

(A h)_a = Σ_b t_ab (h_a - h_b) + Σ_f t_f h_a over the connections and head faces of cell
a; with the load b = Σ_f t_f h_f + q the steady flow problem is A h = b. For those who
iterate or learn with the equations; to solve them, use `FlowSolver`.
"""

from dataclasses import dataclass

from torch import Tensor

from simulators.subsurface.flow import Forcing, forcing_values, transmissibility
from simulators.subsurface.mesh import FlowMesh


@dataclass(frozen=True, slots=True, eq=False)
class FlowOperator:
    """A(Y) for a mesh without cells of fixed head.

    Attributes:
        mesh: the flow mesh.
        interior: t of each connection [m²/d], (..., n_conn).
        at_head_faces: t of each head face [m²/d], (..., n_head).
        diagonal: diagonal of A [m²/d], (..., n_cells).
    """

    mesh: FlowMesh
    interior: Tensor
    at_head_faces: Tensor
    diagonal: Tensor

    def apply(self, head: Tensor) -> Tensor:
        """A h [m³/d], (..., n_cells)."""
        mesh = self.mesh
        drop = head.index_select(-1, mesh.cell_a) - head.index_select(-1, mesh.cell_b)
        flow = self.interior * drop
        out = self.at_head_faces * head.index_select(-1, mesh.head_cell)
        result = flow.new_zeros(*flow.shape[:-1], mesh.n_cells)
        result = result.index_add(-1, mesh.cell_a, flow)
        result = result.index_add(-1, mesh.cell_b, -flow)
        return result.index_add(-1, mesh.head_cell, out)


def flow_operator(mesh: FlowMesh, log_transmissivity: Tensor) -> FlowOperator:
    """The operator of members with ln T (..., n_cells), T in m²/d."""
    interior = transmissibility(mesh, log_transmissivity)
    t_cell = log_transmissivity.index_select(-1, mesh.head_cell).exp()
    at_faces = t_cell * mesh.head_factor.to(t_cell.dtype)
    diagonal = interior.new_zeros(*interior.shape[:-1], mesh.n_cells)
    diagonal = diagonal.index_add(-1, mesh.cell_a, interior)
    diagonal = diagonal.index_add(-1, mesh.cell_b, interior)
    diagonal = diagonal.index_add(-1, mesh.head_cell, at_faces)
    return FlowOperator(mesh, interior, at_faces, diagonal)


def forcing_load(mesh: FlowMesh, operator: FlowOperator, forcing: Forcing) -> Tensor:
    """The load b [m³/d], (..., n_cells), of one forcing for all members."""
    given = forcing_values(mesh, forcing)
    dtype = operator.diagonal.dtype
    flow_in = operator.at_head_faces * given.head.to(dtype)
    load = given.source.to(dtype).expand_as(operator.diagonal)
    load = load.index_add(-1, mesh.head_cell, flow_in)
    inflow = given.inflow.to(dtype).expand(*load.shape[:-1], -1)
    return load.index_add(-1, mesh.inflow_cell, inflow)
