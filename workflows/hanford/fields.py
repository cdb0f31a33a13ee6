"""The files that the steps of the Hanford workflow share, and how to read them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data.ensemble_store import Variable
from data.sources.aquifer import Aquifer
from simulators.random_fields import KarhunenLoeve
from simulators.subsurface import FlowMesh, Forcing, unstructured_mesh
from workflows.engine.files.arrays import read_arrays, write_arrays
from workflows.engine.files.ensemble_files import read_stored

AQUIFER = "inputs/aquifer.npz"
MEASUREMENTS = "inputs/measurements.csv"
LOG_TRANSMISSIVITY = Variable(
    "log_transmissivity", "1", "natural logarithm of transmissivity in m2/d"
)
HEAD = Variable("hydraulic_head", "m", "hydraulic head")
FIELDS = (LOG_TRANSMISSIVITY, HEAD)


def flow_problem(aquifer: Aquifer) -> tuple[FlowMesh, Forcing]:
    """The site's mesh with its boundary conditions."""
    mesh = unstructured_mesh(
        aquifer.cell_centroids,
        aquifer.face_cells,
        aquifer.face_centroids,
        aquifer.face_normals,
        aquifer.head_faces,
        aquifer.inflow_faces,
    )
    forcing = Forcing(
        head=torch.tensor(aquifer.head_values_m),
        inflow=torch.tensor(aquifer.inflow_values_m3_per_day),
    )
    return mesh, forcing


def write_expansion(path: Path, expansion: KarhunenLoeve) -> None:
    """Writes the prior as its Karhunen-Loève expansion."""
    write_arrays(
        path,
        mean=expansion.mean,
        modes=expansion.modes,
        eigenvalues=expansion.eigenvalues,
        weights=expansion.weights,
        total_variance=np.array(expansion.total_variance),
    )


def read_expansion(path: Path) -> KarhunenLoeve:
    """Reads the prior."""
    arrays = {name: torch.tensor(array) for name, array in read_arrays(path).items()}
    total = float(arrays.pop("total_variance"))
    return KarhunenLoeve(**arrays, total_variance=total)


@dataclass(frozen=True, slots=True, eq=False)
class MemberFields:
    """Stored members that did not fail, float32: ids (m,), ln T and head [m] (m, n)."""

    ids: NDArray[np.int64]
    log_transmissivity: Tensor
    head: Tensor


def read_fields(folder: Path, members: range) -> MemberFields:
    """Reads members of a run, on its fastest tier, without those that failed."""
    ids, fields = read_stored(folder, FIELDS, members)
    return MemberFields(ids, *fields)
