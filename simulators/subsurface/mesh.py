"""Cells, connections and boundary faces of a two-point-flux flow mesh.

A face with length-weighted normal n and midpoint x_f, seen from the centroid x_c of a
cell, has d = x_f - x_c and the projected half transmissibility T_c |d·n|/(d·d); the
mesh stores the geometric factor |d·n|/(d·d). In two dimensions it has no unit, so
coordinates may be scaled.
"""

from dataclasses import dataclass, fields

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

_INDICES = ("cell_a", "cell_b", "head_cell", "inflow_cell", "fixed_cell")
_FACTORS = (
    ("factor_a", "cell_a"),
    ("factor_b", "cell_b"),
    ("head_factor", "head_cell"),
)


@dataclass(frozen=True, slots=True, eq=False)
class FlowMesh:
    """A mesh as the flow equations see it: indices int64, factors float64 [-].

    A connection has the transmissibility t = t_a t_b/(t_a + t_b) with
    t_a = T_a factor_a. Fixed cells have their head prescribed at the cell centre.

    Raises:
        ValueError: at construction, if an index is out of range, a factor is not
            positive, or a connected part has neither a head face nor a fixed cell.
    """

    n_cells: int
    cell_a: Tensor  # (n_conn,)
    cell_b: Tensor  # (n_conn,)
    factor_a: Tensor  # (n_conn,)
    factor_b: Tensor  # (n_conn,)
    head_cell: Tensor  # (n_head,)
    head_factor: Tensor  # (n_head,)
    inflow_cell: Tensor  # (n_inflow,)
    fixed_cell: Tensor  # (n_fixed,)

    def __post_init__(self) -> None:
        _check_mesh(self)

    def to(self, device: torch.device | str) -> "FlowMesh":
        """The same mesh with its tensors on `device`."""
        tensors = {f.name: getattr(self, f.name) for f in fields(self)[1:]}
        moved = {name: tensor.to(device) for name, tensor in tensors.items()}
        return FlowMesh(self.n_cells, **moved)


def _check_mesh(mesh: FlowMesh) -> None:
    """Refuse indices out of range, bad factors and parts without a fixed head."""
    for name in _INDICES:
        _check_indices(name, getattr(mesh, name), mesh.n_cells)
    if mesh.cell_a.shape != mesh.cell_b.shape:
        raise ValueError(
            f"cell_a and cell_b must have one length; got {len(mesh.cell_a)} and "
            f"{len(mesh.cell_b)}."
        )
    if bool((mesh.cell_a == mesh.cell_b).any()):
        raise ValueError("a connection must join two different cells.")
    for name, cells in _FACTORS:
        _check_factors(name, getattr(mesh, name), len(getattr(mesh, cells)))
    _check_fixed_cells(mesh)
    _check_every_part_has_a_head(mesh)


def _check_indices(name: str, cells: Tensor, n_cells: int) -> None:
    if cells.dtype != torch.int64 or cells.ndim != 1:
        raise ValueError(
            f"{name} must be a vector of int64; got {cells.dtype} of shape "
            f"{tuple(cells.shape)}."
        )
    bad = cells[(cells < 0) | (cells >= n_cells)]
    if len(bad):
        raise ValueError(f"{name} must be in [0, {n_cells - 1}]; got {int(bad[0])}.")


def _check_factors(name: str, factor: Tensor, length: int) -> None:
    if factor.shape != (length,) or factor.dtype != torch.float64:
        raise ValueError(
            f"{name} must be float64 of shape ({length},); got {factor.dtype} of shape "
            f"{tuple(factor.shape)}."
        )
    bad = factor[~((factor > 0) & factor.isfinite())]
    if len(bad):
        raise ValueError(f"{name} must be positive and finite; got {float(bad[0])}.")


def _check_fixed_cells(mesh: FlowMesh) -> None:
    fixed = mesh.fixed_cell
    if len(fixed) >= mesh.n_cells:
        raise ValueError(
            f"one cell at least must be free; got {len(fixed)} fixed of {mesh.n_cells}."
        )
    if len(set(fixed.tolist())) != len(fixed):
        raise ValueError("fixed_cell must not repeat a cell.")
    for name in ("head_cell", "inflow_cell"):
        both = fixed[torch.isin(fixed, getattr(mesh, name))]
        if len(both):
            raise ValueError(
                f"a cell with fixed head must not carry a boundary face ({name}); got "
                f"cell {int(both[0])}."
            )


def _check_every_part_has_a_head(mesh: FlowMesh) -> None:
    """Without a head in each connected part the heads are free up to a constant."""
    a, b = mesh.cell_a.cpu().numpy(), mesh.cell_b.cpu().numpy()
    shape = (mesh.n_cells, mesh.n_cells)
    graph = coo_array((np.ones(len(a)), (a, b)), shape=shape)
    n_parts, part = connected_components(graph, directed=False)
    anchors = torch.cat([mesh.head_cell, mesh.fixed_cell]).cpu().numpy()
    for loose in np.setdiff1d(np.arange(n_parts), part[anchors])[:1]:
        cells = np.flatnonzero(part == loose)
        raise ValueError(
            f"every connected part of the mesh must have a head face or a fixed cell; "
            f"got a part of {len(cells)} cells without one: {cells[:5].tolist()}. "
            "Give it a head or leave its cells out."
        )
