"""Meshes shared by the flow tests; tolerances: float64 direct solves, 1e-9 relative."""

import os
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import pytest
import torch
from torch import Tensor

from simulators.subsurface import (
    FlowMesh,
    FlowSolver,
    Forcing,
    outer_faces,
    structured_mesh,
    unstructured_mesh,
)

REFERENCE = Path(__file__).parents[3].parent / "shared/reference"


class Hanford(NamedTuple):
    mesh: FlowMesh
    solver: FlowSolver
    forcing: Forcing
    log_t: Tensor
    centroids: np.ndarray
    wells: np.ndarray


@pytest.fixture(scope="session")
def hanford():
    """The reference problem of the Hanford Site, read without the data package."""
    folder = Path(os.environ.get("HEADRACE_HANFORD_DATA", REFERENCE / "hanford/data"))
    if not (folder / "geom_1x.mat").exists():
        pytest.skip(f"no Hanford data in {folder}; set HEADRACE_HANFORD_DATA")
    with h5py.File(folder / "geom_1x.mat") as f:
        centroids = f["cells/centroids"][:].T
        geometry = (
            f["faces/neighbors"][:].T.astype(int) - 1,
            f["faces/centroids"][:].T,
            f["faces/normals"][:].T,
        )
    with h5py.File(folder / "bc_1x.mat") as f:
        faces, kinds, values = (f[k][0] for k in ("index", "kind", "value"))
    with h5py.File(folder / "conduct_log_1x.mat") as f:
        log_t = torch.tensor(f["conduct_log"][0])
    with h5py.File(folder / "well_cells_1x.mat") as f:
        wells = f["well_cells"][:].ravel().astype(int) - 1
    faces, is_head = faces.astype(int) - 1, kinds == ord("D")
    mesh = unstructured_mesh(centroids, *geometry, faces[is_head], faces[~is_head])
    forcing = Forcing(
        head=torch.tensor(values[is_head]), inflow=torch.tensor(values[~is_head])
    )
    return Hanford(mesh, FlowSolver(mesh), forcing, log_t, centroids, wells)


@pytest.fixture(scope="session")
def modflow_file():
    path = REFERENCE / "modflow/confined_steady.h5"
    if not path.exists():
        pytest.skip(f"no MODFLOW reference heads at {path}")
    return path


@pytest.fixture
def small():
    """An L-shaped mesh of 17 cells with every kind of forcing, and its inputs."""
    active = np.ones((4, 5), dtype=bool)
    active[:1, 2:] = False
    flat = structured_mesh(
        (4, 5),
        (2.0, 3.0),
        active=active,
        head_faces=outer_faces((4, 5), ["west"], active=active),
        fixed_cells=[(3, 4), (3, 3)],
    )
    names = ("cell_a", "cell_b", "factor_a", "factor_b", "head_cell", "head_factor")
    mesh = FlowMesh(
        flat.n_cells,
        *(getattr(flat, name) for name in names),
        inflow_cell=torch.tensor([4, 7, 7]),
        fixed_cell=flat.fixed_cell,
    )
    generator = torch.Generator().manual_seed(3)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    log_t = normal(2, mesh.n_cells)
    forcing = Forcing(normal(2, 4), normal(3), normal(2, 2), normal(2, mesh.n_cells))
    return mesh, log_t, forcing
