"""A two-dimensional aquifer: unstructured cells, boundary conditions, observations.

One record for the published Hanford Site and for synthetic sites. Lengths are scaled:
X = origin + length_scale x. Every id is 0-based; -1 stands for "outside the mesh".
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

OUTSIDE = -1


@dataclass(frozen=True, slots=True, eq=False)
class Aquifer:
    """Mesh, boundary conditions and observations of one site.

    Attributes:
        name: name of the site, as it is printed.
        is_synthetic: whether the reference field was drawn rather than published.
        cell_centroids: scaled centroids [-], shape (n_cells, 2).
        cell_areas: scaled areas [-], shape (n_cells,).
        cell_nodes: node ids of each quadrilateral, counter-clockwise, (n_cells, 4).
        node_coordinates: scaled coordinates [-], shape (n_nodes, 2).
        face_cells: the two cells of each face, -1 = outside, shape (n_faces, 2).
        face_nodes: the two nodes of each face, shape (n_faces, 2).
        face_centroids: scaled midpoints [-], shape (n_faces, 2).
        face_normals: normal times scaled face length [-], shape (n_faces, 2), pointing
            from `face_cells[:, 0]` to `face_cells[:, 1]`.
        head_faces: boundary faces with a given head, shape (n_head,).
        head_values_m: heads on them [m], shape (n_head,).
        inflow_faces: boundary faces with a given inflow, shape (n_inflow,).
        inflow_values_m3_per_day: total inflow through each of them [m³/d], positive
            into the aquifer, shape (n_inflow,).
        well_cells: cells with a head observation well, shape (n_wells,).
        observation_sets: by number of observations, cells in which ln T is observed,
            shape (n_sets, n_observations).
        reference_log_transmissivity: ln T with T in m²/d [-], shape (n_cells,).
        length_scale_m: metres per scaled unit of length.
        origin_m: map coordinates of the scaled origin [m], shape (2,).
        digests: sha256 of each file, or of the content where there are no files.

    Raises:
        ValueError: an array has the wrong shape or kind, is not finite, or holds an
            id outside the mesh.
    """

    name: str
    is_synthetic: bool
    cell_centroids: NDArray[np.float64]
    cell_areas: NDArray[np.float64]
    cell_nodes: NDArray[np.int64]
    node_coordinates: NDArray[np.float64]
    face_cells: NDArray[np.int64]
    face_nodes: NDArray[np.int64]
    face_centroids: NDArray[np.float64]
    face_normals: NDArray[np.float64]
    head_faces: NDArray[np.int64]
    head_values_m: NDArray[np.float64]
    inflow_faces: NDArray[np.int64]
    inflow_values_m3_per_day: NDArray[np.float64]
    well_cells: NDArray[np.int64]
    observation_sets: Mapping[int, NDArray[np.int64]]
    reference_log_transmissivity: NDArray[np.float64]
    length_scale_m: float
    origin_m: NDArray[np.float64]
    digests: Mapping[str, str]

    def __post_init__(self) -> None:
        validate_aquifer(self)

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return len(self.cell_areas)


def validate_aquifer(aquifer: Aquifer) -> None:
    """Refuses what a damaged file or a slip of the index base would bring in.

    Raises:
        ValueError: see `Aquifer`.
    """
    _check_shapes(aquifer)
    _check_values(aquifer)
    _check_ids(aquifer)
    _check_boundary(aquifer)


def _check_shapes(aquifer: Aquifer) -> None:
    n_cells, n_nodes = len(aquifer.cell_areas), len(aquifer.node_coordinates)
    n_faces = len(aquifer.face_cells)
    expected: dict[str, tuple[int, ...]] = {
        "cell_areas": (n_cells,),
        "cell_centroids": (n_cells, 2),
        "cell_nodes": (n_cells, 4),
        "node_coordinates": (n_nodes, 2),
        "face_cells": (n_faces, 2),
        "face_nodes": (n_faces, 2),
        "face_centroids": (n_faces, 2),
        "face_normals": (n_faces, 2),
        "head_faces": (len(aquifer.head_faces),),
        "head_values_m": (len(aquifer.head_faces),),
        "inflow_faces": (len(aquifer.inflow_faces),),
        "inflow_values_m3_per_day": (len(aquifer.inflow_faces),),
        "well_cells": (len(aquifer.well_cells),),
        "reference_log_transmissivity": (n_cells,),
        "origin_m": (2,),
    }
    for field, shape in expected.items():
        found = getattr(aquifer, field).shape
        if found != shape:
            raise ValueError(
                f"{field} must have shape {shape} for {n_cells} cells, {n_faces} faces "
                f"and {n_nodes} nodes; got {found}. Take the arrays from one mesh."
            )
    for size, cells in aquifer.observation_sets.items():
        if cells.shape[1:] != (size,):
            raise ValueError(
                f"observation set {size} must have shape (n_sets, {size}); got "
                f"{cells.shape}. Store one set of cells per row."
            )


def _check_values(aquifer: Aquifer) -> None:
    fields = (
        "cell_centroids",
        "cell_areas",
        "node_coordinates",
        "face_centroids",
        "face_normals",
        "head_values_m",
        "inflow_values_m3_per_day",
        "reference_log_transmissivity",
        "origin_m",
    )
    for field in fields:
        n_bad = np.count_nonzero(~np.isfinite(getattr(aquifer, field)))
        if n_bad:
            raise ValueError(
                f"{field} must be finite; got {n_bad} values that are not. "
                "The source is damaged: fetch or generate it again."
            )
    smallest_area = aquifer.cell_areas.min(initial=np.inf)
    if smallest_area <= 0 or not aquifer.length_scale_m > 0:
        raise ValueError(
            "cell areas and the length scale [m] must be > 0; got a smallest area of "
            f"{smallest_area} and {aquifer.length_scale_m} m. Check the units."
        )


def _check_ids(aquifer: Aquifer) -> None:
    n_cells, n_nodes = aquifer.n_cells, len(aquifer.node_coordinates)
    n_faces = len(aquifer.face_cells)
    _check_range("cell_nodes", aquifer.cell_nodes, 0, n_nodes, "nodes")
    _check_range("face_nodes", aquifer.face_nodes, 0, n_nodes, "nodes")
    _check_range("face_cells", aquifer.face_cells, OUTSIDE, n_cells, "cells")
    _check_range("head_faces", aquifer.head_faces, 0, n_faces, "faces")
    _check_range("inflow_faces", aquifer.inflow_faces, 0, n_faces, "faces")
    _check_range("well_cells", aquifer.well_cells, 0, n_cells, "cells")
    for size, cells in aquifer.observation_sets.items():
        _check_range(f"observation set {size}", cells, 0, n_cells, "cells")


def _check_range(
    label: str, ids: NDArray[np.int64], lowest: int, count: int, kind: str
) -> None:
    if not np.issubdtype(ids.dtype, np.integer):
        raise ValueError(f"{label} must hold integers; got {ids.dtype}. Convert it.")
    wrong = ids[(ids < lowest) | (ids >= count)]
    if wrong.size:
        raise ValueError(
            f"{label} must hold ids in {lowest}..{count - 1}, as there are {count} "
            f"{kind}; got {wrong[0]}. Ids are 0-based here: shift 1-based ones."
        )


def _check_boundary(aquifer: Aquifer) -> None:
    is_outside = aquifer.face_cells == OUTSIDE
    if is_outside.all(axis=1).any():
        face = int(np.flatnonzero(is_outside.all(axis=1))[0])
        raise ValueError(f"a face must touch a cell; got face {face} without one.")
    conditions = np.concatenate([aquifer.head_faces, aquifer.inflow_faces])
    interior = conditions[~is_outside[conditions].any(axis=1)]
    if interior.size:
        raise ValueError(
            "boundary conditions must lie on faces with one cell; got face "
            f"{interior[0]}, which has two. Check the index base of the faces."
        )
    faces, counts = np.unique(conditions, return_counts=True)
    if (counts > 1).any():
        raise ValueError(
            "a face must carry at most one boundary condition; got several on face "
            f"{faces[counts > 1][0]}. Keep one of them."
        )
