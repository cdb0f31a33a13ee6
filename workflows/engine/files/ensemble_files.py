"""The ensemble store of a run: written block by block, read on the fastest tier.

Its steps alone import this module: it knows tensors, which the driver does without.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data.ensemble_store import (
    Format,
    MemberReader,
    Variable,
    failed_members,
    store_files,
    write_block,
)
from workflows.engine.files.artefacts import Manifest, artefact
from workflows.engine.files.staging import fast_files, log_written
from workflows.engine.watching.events import Log, event_log

STORES: dict[Format, str] = {
    "zarr": "fields/ensemble.zarr",
    "zarr-lz4": "fields/ensemble.zarr",
    "hdf5": "fields/ensemble.hdf5",
}


def store_of(folder: Path) -> Path:
    """The ensemble of a run; there is one, in the format that its config names."""
    of_zarr, of_hdf5 = folder / STORES["zarr"], folder / STORES["hdf5"]
    return of_hdf5 if of_hdf5.exists() else of_zarr


def largest_file_bytes(
    form: Format, n_variables: int, block_size: int, n_values: int
) -> int:
    """About the size of the largest file of a store, before compression.

    Args:
        form: of the store.
        n_variables: float32 variables; HDF5 files hold all of a block.
        block_size: members per block.
        n_values: values of one member of one variable.
    """
    n_fields = n_variables if form == "hdf5" else 1
    return n_fields * 4 * block_size * n_values + 2**16


def store_members(  # noqa: PLR0913  # what a block is, and where it goes
    store: Path,
    block: int,
    fields: Mapping[str, Tensor | NDArray[np.floating]],
    *,
    seeds: Sequence[int],
    failed: Mapping[int, str],
    provenance: Mapping[str, str],
    folder: Path,
    log: Log,
) -> Manifest:
    """Writes a block of members, and notes which of them failed.

    Args:
        store: where; created before.
        block: the block; the caller is the only one who writes it.
        fields: by variable, values (members of the block, *shape), on the CPU.
        seeds: seed of each member of the block.
        failed: by member id, why there is no result; stored as NaN.
        provenance: what made the block.
        folder: of the run.
        log: of the task.

    Returns:
        The files of the block, and its number of members.

    Raises:
        ValueError: fields, seeds or failed members do not fit the block.
    """
    for member, cause in failed.items():
        log({"event": "member failed", "member": member, "cause": cause})
    arrays = {name: np.asarray(values) for name, values in fields.items()}
    began = time.perf_counter()
    entry = write_block(
        store, block, arrays, seeds=seeds, failed=failed, provenance=provenance
    )
    log_written(log, entry.files, time.perf_counter() - began)
    written = [artefact(path, folder) for path in store_files(store, block)]
    return Manifest({item.path: item for item in written}, {"members": len(seeds)})


def read_stored(
    folder: Path, variables: Sequence[Variable], members: Sequence[int]
) -> tuple[NDArray[np.int64], list[Tensor]]:
    """Members of a run that did not fail, on the fastest tier of its site.

    Args:
        folder: of the run.
        variables: what to read of each member.
        members: ids, in the order wanted.

    Returns:
        Ids (n,) of those that have a result, and their values (n, *shape) by variable.
    """
    store = store_of(folder)
    failed = failed_members(store)
    ids = np.array([m for m in members if m not in failed], dtype=np.int64)
    fields = []
    with fast_files(folder, store, event_log(folder)) as open_file:
        for variable in variables:
            with MemberReader(store, variable.name, open_file) as reader:
                fields.append(torch.from_numpy(reader.read(ids)))
    return ids, fields
