"""The files that the steps of the Hanford workflow share, and how to read them."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data.durable_files import write_durably
from data.ensemble_store import Format, MemberReader, Variable, failed_members
from data.sources.aquifer import Aquifer
from simulators.random_fields import KarhunenLoeve
from simulators.subsurface import FlowMesh, Forcing, unstructured_mesh
from workflows.engine.events import event_log
from workflows.engine.staging import fast_files

AQUIFER = "inputs/aquifer.npz"
MEASUREMENTS = "inputs/measurements.csv"
STORES: dict[Format, str] = {
    "zarr": "fields/ensemble.zarr",
    "zarr-lz4": "fields/ensemble.zarr",
    "hdf5": "fields/ensemble.hdf5",
}
LOG_TRANSMISSIVITY = Variable(
    "log_transmissivity", "1", "natural logarithm of transmissivity in m2/d"
)
HEAD = Variable("hydraulic_head", "m", "hydraulic head")


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


def write_arrays(path: Path, **arrays: NDArray[np.generic] | Tensor) -> None:
    """Writes named arrays as a NumPy archive, durably; equal arrays, equal bytes."""
    buffer = io.BytesIO()
    named: dict[str, Any] = {n: np.asarray(array) for n, array in arrays.items()}
    np.savez(buffer, **named)
    path.parent.mkdir(exist_ok=True)
    write_durably(path, [buffer.getvalue()])


def read_arrays(path: Path) -> dict[str, NDArray[np.float64]]:
    """Reads what `write_arrays` wrote."""
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


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


def store_of(folder: Path) -> Path:
    """The ensemble of a run; there is one, in the format that its config names."""
    of_zarr, of_hdf5 = folder / STORES["zarr"], folder / STORES["hdf5"]
    return of_hdf5 if of_hdf5.exists() else of_zarr


def largest_file_bytes(form: Format, block_size: int, n_cells: int) -> int:
    """About the size of the files of a store, of whole blocks before compression."""
    n_fields = 2 if form == "hdf5" else 1
    return n_fields * 4 * block_size * n_cells + 2**16


def read_fields(folder: Path, members: range) -> MemberFields:
    """Reads members of a run, on its fastest tier, without those that failed."""
    store = store_of(folder)
    failed = failed_members(store)
    ids = np.array([m for m in members if m not in failed], dtype=np.int64)
    fields = []
    with fast_files(folder, store, event_log(folder)) as open_file:
        for variable in (LOG_TRANSMISSIVITY, HEAD):
            with MemberReader(store, variable.name, open_file) as reader:
                fields.append(torch.from_numpy(reader.read(ids)))
    return MemberFields(ids, *fields)
