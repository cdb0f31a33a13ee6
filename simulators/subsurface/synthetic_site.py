"""A drawn site of the size of the Hanford one, for machines without its data.

About 1500 square cells of 720 m inside an irregular outline; a river along half of it
gives heads between 103.6 and 120.7 m, 20 faces of the other half bring 10,823.46 m3/d
in. ln T is a Gaussian field with Matern-5/2 covariance, mean, deviation and length as
at Hanford. The outline, the river and where water enters are inventions.
"""

import hashlib
from typing import Any, NamedTuple

import numpy as np
import torch
from data.sources.aquifer import OUTSIDE, Aquifer
from numpy.typing import NDArray
from scipy.ndimage import label

from simulators.random_fields.covariance import (
    Covariance,
    cholesky_factor,
    covariance_matrix,
)
from simulators.subsurface.meshing import number_cells

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

N_CELLS = 1500
CELL_SIZE_M = 720.0
LENGTH_SCALE_M = 60_000.0
RIVER_HEADS_M = (120.7, 103.6)
TOTAL_INFLOW_M3_PER_DAY = 10_823.46
N_INFLOW_FACES = 20
N_WELLS = 323
OBSERVATION_SIZES = (10, 50, 100)
N_OBSERVATION_SETS = 10
LOG_TRANSMISSIVITY = Covariance("matern52", variance=1.71**2, correlation_length=0.04)
MEAN_LOG_TRANSMISSIVITY = 7.83


class _Faces(NamedTuple):
    cells: Indices  # (n_faces, 2)
    nodes: Indices  # (n_faces, 2), ids of the full grid
    normals: Floats  # (n_faces, 2), of unit length


def synthetic_aquifer(seed: int = 0) -> Aquifer:
    """The site of one seed; equal seeds give equal digests.

    Args:
        seed: draws the outline, ln T, the wells and the observed cells.
    """
    generator = np.random.default_rng(seed)
    mesh = _mesh_arrays(_sample_outline(generator))
    centroids, face_cells = mesh["cell_centroids"], mesh["face_cells"]
    n_cells = len(centroids)
    log_t = _sample_log_transmissivity(centroids, generator)
    river, heads, inlets = _place_boundary(
        face_cells, mesh["face_centroids"] - centroids.mean(axis=0)
    )
    arrays = mesh | {
        "head_faces": river,
        "head_values_m": heads,
        "inflow_faces": inlets,
        "inflow_values_m3_per_day": _share_inflow(log_t[face_cells[inlets].max(1)]),
        "well_cells": _draw_cells(n_cells, N_WELLS, generator),
        "reference_log_transmissivity": log_t,
    }
    observation_sets = {
        size: np.stack(
            [_draw_cells(n_cells, size, generator) for _ in range(N_OBSERVATION_SETS)]
        )
        for size in OBSERVATION_SIZES
    }
    content = arrays | {f"observations_{k}": v for k, v in observation_sets.items()}
    return Aquifer(
        name=f"synthetic aquifer {seed}",
        is_synthetic=True,
        **arrays,
        observation_sets=observation_sets,
        length_scale_m=LENGTH_SCALE_M,
        origin_m=np.zeros(2),
        digests={name: _digest(values) for name, values in content.items()},
    )


def _sample_outline(generator: np.random.Generator) -> NDArray[np.bool_]:
    """Mask of cells: the N_CELLS innermost of a wavy oval that hang together."""
    y, x = np.indices((80, 64)) - np.array([39.5, 31.5])[:, None, None]
    y /= 1.3
    angle, radius = np.arctan2(y, x), np.hypot(y, x)
    waves = np.arange(2, 7)[:, None, None]
    phase = generator.uniform(0, 2 * np.pi, waves.shape)
    edge = 1 + (0.25 / waves * np.cos(waves * angle + phase)).sum(axis=0)
    distance = radius / edge
    inside = distance < np.partition(distance.ravel(), N_CELLS)[N_CELLS]
    parts, _ = label(inside)
    active: NDArray[np.bool_] = parts == np.bincount(parts[parts > 0]).argmax()
    return active


def _mesh_arrays(active: NDArray[np.bool_]) -> dict[str, NDArray[Any]]:
    """The fields of `Aquifer` that describe its cells, nodes and faces."""
    spacing = CELL_SIZE_M / LENGTH_SCALE_M
    shape = (active.shape[0] + 1, active.shape[1] + 1)
    rows, cols = np.nonzero(active)
    corners = np.stack([rows, rows, rows + 1, rows + 1], axis=-1) * shape[1]
    corners += np.stack([cols, cols + 1, cols + 1, cols], axis=-1)  # counter-clockwise
    node_y, node_x = np.indices(shape) * spacing
    coordinates = np.stack([node_x.ravel(), node_y.ravel()], axis=-1)
    used, cell_nodes = np.unique(corners, return_inverse=True)
    faces = _list_faces(active)
    return {
        "cell_centroids": np.stack([cols + 0.5, rows + 0.5], axis=-1) * spacing,
        "cell_areas": np.full(len(rows), spacing**2),
        "cell_nodes": cell_nodes.reshape(corners.shape),
        "node_coordinates": coordinates[used],
        "face_cells": faces.cells,
        "face_nodes": np.searchsorted(used, faces.nodes),
        "face_centroids": coordinates[faces.nodes].mean(axis=1),
        "face_normals": faces.normals * spacing,
    }


def _list_faces(active: NDArray[np.bool_]) -> _Faces:
    """Faces of active cells: those crossed in x, then those crossed in y."""
    numbers = np.pad(
        number_cells(active.shape, active=active).numpy(), 1, constant_values=OUTSIDE
    )
    n_nodes = active.shape[1] + 1
    lists = []
    for axis in (1, 0):
        along = numbers[1:-1] if axis else numbers[:, 1:-1]
        before, after = (
            (along[:, :-1], along[:, 1:]) if axis else (along[:-1], along[1:])
        )
        row, col = np.nonzero((before >= 0) | (after >= 0))
        cells = np.stack([before[row, col], after[row, col]], axis=-1)
        first = row * n_nodes + col
        nodes = np.stack([first, first + (n_nodes if axis else 1)], axis=-1)
        normal = np.array([1.0, 0.0]) if axis else np.array([0.0, 1.0])
        lists.append((cells, nodes, np.tile(normal, (len(cells), 1))))
    return _Faces(*(np.concatenate(parts) for parts in zip(*lists, strict=True)))


def _sample_log_transmissivity(
    centroids: Floats, generator: np.random.Generator
) -> Floats:
    """One draw (n_cells,); rounded, so that its digest does not hang on the machine."""
    points = torch.from_numpy(centroids)
    root = cholesky_factor(covariance_matrix(points, points, LOG_TRANSMISSIVITY))
    field = root.numpy() @ generator.standard_normal(len(centroids))
    rounded: Floats = np.round(MEAN_LOG_TRANSMISSIVITY + field, 6)
    return rounded


def _place_boundary(
    face_cells: Indices, away: Floats
) -> tuple[Indices, Floats, Indices]:
    """River faces, their heads [m], and inflow faces; `away` is from the centre."""
    outer = np.flatnonzero((face_cells == OUTSIDE).any(axis=1))
    angle = np.arctan2(away[outer, 1], away[outer, 0])
    around = outer[np.argsort(angle, kind="stable")]
    river, dry = np.array_split(around, 2)
    progress = np.linspace(0, 1, len(river))
    upper, lower = RIVER_HEADS_M
    heads = np.round(lower + (upper - lower) * (1 + np.cos(np.pi * progress)) / 2, 3)
    # no cell carries both kinds
    is_free = ~np.isin(face_cells[dry].max(1), face_cells[river].max(1))
    dry = dry[is_free]
    inlets = dry[np.linspace(0, len(dry) - 1, N_INFLOW_FACES + 2).astype(int)[1:-1]]
    return river, heads, inlets


def _share_inflow(log_t: Floats) -> Floats:
    """Inflow of each face [m3/d], the more the easier its cell takes water."""
    weight = np.exp(log_t)
    shares: Floats = np.round(TOTAL_INFLOW_M3_PER_DAY * weight / weight.sum(), 2)
    shares[shares.argmax()] += TOTAL_INFLOW_M3_PER_DAY - shares.sum()
    return shares


def _draw_cells(n_cells: int, size: int, generator: np.random.Generator) -> Indices:
    cells: Indices = np.sort(generator.choice(n_cells, size, replace=False))
    return cells


def _digest(values: NDArray[np.generic]) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()
