"""Reader of the published Hanford Site flow problem: 1475 cells, 323 wells.

Four MATLAB v7.3 files (HDF5, transposed, 1-based ids) and three index sets (0-based).
Each file is checked against its published sha256 before anything is parsed.
Source: yeungyh/hanford_data, CC0-1.0; physical origin PNNL-14753 Rev 1.
"""

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from data.sources.aquifer import Aquifer

SHA256: Mapping[str, str] = MappingProxyType(
    {
        "bc_1x.mat": "ac7c7b39ca4c480472bbfedfda2ad3e12943c972f81bfdbeeba34e11dad23e49",
        "conduct_log_1x.mat": (
            "2dbbd8a069cbefa4e90a331206c115e08a971ad0ab140d6d9bfbc1c272c04809"
        ),
        "geom_1x.mat": (
            "2ba1a46fa459ee6225881a256826be2f85b1539afdf8e248d09305f83fc4a998"
        ),
        "well_cells_1x.mat": (
            "4e75bbdc9d8f435377664a5f954100299e96d6be586a52a5cb83942e7eb17f7b"
        ),
        "yobs_10_1x.npy": (
            "8889d12bd4db5600964419ddac81f250b09f8657664da1eb97f2011b38617c09"
        ),
        "yobs_50_1x.npy": (
            "baf91cef11f898de8c6d641c70a3721e2d3d278f815a2ad1da5bc38cdeb1ff33"
        ),
        "yobs_100_1x.npy": (
            "5d0f1a77701362fc65d59ab9f147aec24b12e0190ae7421810436223a83cf124"
        ),
    }
)

# from nodes that also occur in the unscaled raw data of the site
LENGTH_SCALE_M = 60_000.0
ORIGIN_M = (548_271.62, 98_866.6)

OBSERVATION_COUNTS = (10, 50, 100)
HEAD, INFLOW = ord("D"), ord("N")


def read_hanford(folder: Path) -> Aquifer:
    """The Hanford Site problem from a folder with its seven files.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file differs from the published one.
    """
    content = {name: _read_verified(folder / name) for name in SHA256}
    boundary = _read_boundary(content["bc_1x.mat"])
    with _open(content["conduct_log_1x.mat"]) as file:
        log_transmissivity = file["conduct_log"][:].ravel()
    with _open(content["well_cells_1x.mat"]) as file:
        well_cells = _zero_based(file["well_cells"]).ravel()
    return Aquifer(
        name="Hanford Site",
        is_synthetic=False,
        **_read_mesh(content["geom_1x.mat"]),
        **boundary,
        well_cells=well_cells,
        # the .npy files are 0-based, unlike the .mat files
        observation_sets={
            count: np.load(io.BytesIO(content[f"yobs_{count}_1x.npy"]))
            for count in OBSERVATION_COUNTS
        },
        reference_log_transmissivity=log_transmissivity,
        length_scale_m=LENGTH_SCALE_M,
        origin_m=np.array(ORIGIN_M),
        digests=dict(SHA256),
    )


def _read_verified(path: Path) -> bytes:
    """The bytes of a file with the published sha256: parsed is what was hashed."""
    expected = SHA256[path.name]
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(
            f"the Hanford Site needs {path.name} with sha256 {expected}; got no such "
            f"file in {path.parent}. Name a folder with all {len(SHA256)} files by "
            "--data DIR."
        ) from None
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise ValueError(
            f"{path} must have sha256 {expected}; got {found} ({len(content)} bytes). "
            "The file is truncated or altered: delete it and fetch it again, or name "
            "another folder by --data DIR."
        )
    return content


# Any: h5py carries no types, and the keywords are those of Aquifer
def _open(content: bytes) -> Any:  # noqa: ANN401  # h5py
    return h5py.File(io.BytesIO(content), "r")


def _zero_based(ids: Any) -> NDArray[np.int64]:  # noqa: ANN401  # h5py
    """Ids of a MATLAB file, transposed back and shifted: 1-based, 0 = outside."""
    return np.ascontiguousarray(ids[:].T).astype(np.int64) - 1


def _real(values: Any) -> NDArray[np.float64]:  # noqa: ANN401  # h5py
    return np.ascontiguousarray(values[:].T, dtype=np.float64)


def _read_mesh(content: bytes) -> dict[str, Any]:
    with _open(content) as file:
        return {
            "cell_centroids": _real(file["cells/centroids"]),
            "cell_areas": _real(file["cells/volumes"]).ravel(),
            "cell_nodes": _zero_based(file["cells/nodes"]),
            "node_coordinates": _real(file["nodes/coords"]),
            "face_cells": _zero_based(file["faces/neighbors"]),
            # every face has two nodes, so the compressed rows are a plain table
            "face_nodes": _zero_based(file["faces/nodes"]).reshape(-1, 2),
            "face_centroids": _real(file["faces/centroids"]),
            "face_normals": _real(file["faces/normals"]),
        }


def _read_boundary(content: bytes) -> dict[str, Any]:
    with _open(content) as file:
        faces = _zero_based(file["index"]).ravel()
        kinds = file["kind"][:].ravel()
        values = _real(file["value"]).ravel()
    return {
        "head_faces": faces[kinds == HEAD],
        "head_values_m": values[kinds == HEAD],
        "inflow_faces": faces[kinds == INFLOW],
        "inflow_values_m3_per_day": values[kinds == INFLOW],
    }
