"""Flow meshes of polygons and of rectangles, with their boundary faces."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from simulators.subsurface.mesh import FlowMesh

SIDES = ("north", "east", "south", "west")
_NEIGHBOUR = (
    (-1, 0),
    (0, 1),
    (1, 0),
    (0, -1),
)  # (row, col) steps in the order of SIDES


def unstructured_mesh(
    cell_centroids: ArrayLike,
    face_cells: ArrayLike,
    face_centroids: ArrayLike,
    face_normals: ArrayLike,
    head_faces: ArrayLike,
    inflow_faces: ArrayLike,
) -> FlowMesh:
    """Mesh of polygons; boundary faces without a condition are closed.

    Args:
        cell_centroids: (n_cells, 2), any length unit.
        face_cells: (n_faces, 2), the two cells of a face; -1 is outside.
        face_centroids: (n_faces, 2) midpoints.
        face_normals: (n_faces, 2) normals times face length; the sign is not used.
        head_faces: (n_head,) boundary faces with a prescribed head at the midpoint.
        inflow_faces: (n_inflow,) boundary faces with a prescribed inflow.

    Raises:
        ValueError: if a face index is out of range or a condition sits inside.
    """
    centroids, midpoints, normals = (
        np.asarray(x, dtype=np.float64)
        for x in (cell_centroids, face_centroids, face_normals)
    )
    cells, heads, inflows = (
        np.asarray(x, dtype=np.int64) for x in (face_cells, head_faces, inflow_faces)
    )
    _check_faces(cells, len(centroids), heads, inflows)

    def factor(faces: NDArray[np.int64], of: NDArray[np.int64]) -> Tensor:
        d = midpoints[faces] - centroids[of]
        projected = np.abs((d * normals[faces]).sum(axis=-1))
        return torch.from_numpy(projected / (d * d).sum(axis=-1))

    inner = np.flatnonzero((cells >= 0).all(axis=1))
    a, b = cells[inner].T
    head_cell = cells[heads].max(axis=1, initial=-1)
    return FlowMesh(
        n_cells=len(centroids),
        cell_a=torch.tensor(a),
        cell_b=torch.tensor(b),
        factor_a=factor(inner, a),
        factor_b=factor(inner, b),
        head_cell=torch.tensor(head_cell),
        head_factor=factor(heads, head_cell),
        inflow_cell=torch.tensor(cells[inflows].max(axis=1, initial=-1)),
        fixed_cell=torch.empty(0, dtype=torch.int64),
    )


def structured_mesh(
    shape: tuple[int, int],
    spacing: tuple[float, float],
    *,
    active: ArrayLike | None = None,
    head_faces: ArrayLike = (),
    fixed_cells: ArrayLike = (),
) -> FlowMesh:
    """Mesh of equal rectangles; cells are numbered by `number_cells`.

    Args:
        shape: (rows, columns).
        spacing: (dy between rows, dx between columns), one length unit.
        active: (rows, columns) mask; cells outside it have no unknown and no flow.
        head_faces: (n_head, 3) rows of (row, column, side), as `outer_faces` lists
            them, with `side` an index into `SIDES`: the head acts half a cell away
            from the centre.
        fixed_cells: (n_fixed, 2) rows of (row, column): head fixed at the centre.

    Raises:
        ValueError: if a face is not on the edge of the active cells, or a cell given
            by row and column is inactive.
    """
    numbers = number_cells(shape, active=active).numpy()
    dy, dx = spacing
    faces = np.asarray(head_faces, dtype=np.int64).reshape(-1, 3)
    fixed = np.asarray(fixed_cells, dtype=np.int64).reshape(-1, 2)
    known = {tuple(face) for face in outer_faces(shape, active=active).tolist()}
    for face in faces.tolist():
        if tuple(face) not in known:
            raise ValueError(
                f"a head face must be an outer face (row, column, side) of an active "
                f"cell; got {tuple(face)}. List them with outer_faces(shape, ...)."
            )
    east = np.stack([numbers[:, :-1].ravel(), numbers[:, 1:].ravel()])
    south = np.stack([numbers[:-1].ravel(), numbers[1:].ravel()])
    east, south = (pair[:, (pair >= 0).all(axis=0)] for pair in (east, south))
    a, b = torch.from_numpy(np.concatenate([east, south], axis=1))
    factor = torch.from_numpy(
        np.repeat([2 * dy / dx, 2 * dx / dy], [east.shape[1], south.shape[1]])
    )
    return FlowMesh(
        n_cells=int((numbers >= 0).sum()),
        cell_a=a,
        cell_b=b,
        factor_a=factor,
        factor_b=factor,
        head_cell=torch.from_numpy(numbers[faces[:, 0], faces[:, 1]]),
        head_factor=torch.from_numpy(
            np.where(faces[:, 2] % 2 == 1, 2 * dy / dx, 2 * dx / dy)
        ),
        inflow_cell=torch.empty(0, dtype=torch.int64),
        fixed_cell=torch.from_numpy(numbers[fixed[:, 0], fixed[:, 1]]),
    )


def number_cells(shape: tuple[int, int], *, active: ArrayLike | None = None) -> Tensor:
    """Cell number at each (row, column), row by row over active cells; -1 inactive.

    The way back: `(number_cells(...) >= 0).nonzero()[cell]` is (row, column).
    """
    mask = np.ones(shape, dtype=bool) if active is None else np.asarray(active) > 0
    if mask.shape != tuple(shape):
        raise ValueError(f"active must have the shape {shape}; got {mask.shape}.")
    numbers = np.full(shape, -1, dtype=np.int64)
    numbers[mask] = np.arange(mask.sum())
    return torch.from_numpy(numbers)


def outer_faces(
    shape: tuple[int, int],
    sides: Sequence[str] = SIDES,
    *,
    active: ArrayLike | None = None,
) -> Tensor:
    """Faces between an active cell and none, as (n, 3) rows (row, column, side)."""
    padded = np.pad(number_cells(shape, active=active).numpy(), 1, constant_values=-1)
    inside = padded[1:-1, 1:-1] >= 0
    found = []
    for name in sides:
        side = SIDES.index(name)
        row, col = _NEIGHBOUR[side]
        beyond = padded[1 + row : 1 + row + shape[0], 1 + col : 1 + col + shape[1]]
        where = np.argwhere(inside & (beyond < 0))
        found.append(np.pad(where, ((0, 0), (0, 1)), constant_values=side))
    return torch.from_numpy(np.concatenate(found))  # (n, 3)


def _check_faces(
    cells: NDArray[np.int64],
    n_cells: int,
    heads: NDArray[np.int64],
    inflows: NDArray[np.int64],
) -> None:
    """Refuse neighbours and boundary conditions that point nowhere."""
    if cells.min() < -1 or cells.max() >= n_cells or (cells < 0).all(axis=1).any():
        raise ValueError(
            f"face_cells must be in [-1, {n_cells - 1}] with a cell on one side at "
            f"least; got {cells.min()} to {cells.max()}. Are they 1-based?"
        )
    for name, faces in (("head_faces", heads), ("inflow_faces", inflows)):
        bad = faces[(faces < 0) | (faces >= len(cells))]
        if len(bad):
            raise ValueError(
                f"{name} must be in [0, {len(cells) - 1}]; got {bad[0]}. "
                "Are they 1-based?"
            )
        inside = faces[(cells[faces] >= 0).all(axis=1)]
        if len(inside):
            raise ValueError(
                f"{name} must lie on the boundary; got face {inside[0]} between two "
                "cells."
            )
