"""Writing and reading the members of an ensemble store.

A block is written whole, by one writer at a time. Reading for training goes through
`read_members` or, batch by batch, `MemberReader`; statistics through `open_ensemble`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from data.durable_files import StagingError, make_folder_durably, write_durably
from data.ensemble_store.hdf5 import block_image, open_index
from data.ensemble_store.layout import StoreLayout, read_layout
from data.ensemble_store.manifest import (
    BlockEntry,
    StoredFile,
    drop_entry,
    failed_members,
    missing_blocks,
    verify_block,
    write_entry,
    writing,
)
from data.ensemble_store.reader import MemberReader, Members
from data.ensemble_store.shards import checksum_parts, shard_parts

if TYPE_CHECKING:
    import xarray as xr

# bytes that dask takes at once; a thread holds about five such chunks in float64, and
# chunks of 16 MiB took four times the memory at the same speed
DASK_CHUNK_BYTES = 4 * 2**20


def write_block(
    path: Path,
    block: int,
    fields: Mapping[str, NDArray[np.floating]],
    *,
    seeds: Sequence[int],
    provenance: Mapping[str, str],
    failed: Mapping[int, str] = MappingProxyType({}),
) -> BlockEntry:
    """Writes all variables of a block, then its manifest entry.

    Returns when the bytes are durable. A block that is there with the same content is
    left alone; one with other content stops counting before its shards are replaced. A
    second writer waits for the first and is then refused, unless it brings the same,
    as a task does that was started twice.

    Args:
        path: the store.
        block: the block; the caller is the only one who writes it.
        fields: by variable, values of shape (members of the block, *shape of one).
        seeds: seed of each member of the block.
        provenance: what made the block, for the manifest.
        failed: by member id, why there is no result; stored as NaN.

    Returns:
        The manifest entry.

    Raises:
        ValueError: variables, shapes, seeds or failed members do not fit the block, or
            a member that has not failed is not finite.
        StagingError: another writer has just written other content.
        OSError: the device refused.
    """
    layout = read_layout(path)
    members = layout.members(block)
    _check_block(layout, members, fields, seeds, failed)
    rows = {
        variable.name: _prepare(
            variable.name,
            fields[variable.name],
            layout.shard_shape(variable).dtype,
            members,
            failed,
        )
        for variable in layout.variables
    }
    shards = _files_of_block(layout, block, rows)
    entry = BlockEntry(
        block=block,
        members=members,
        seeds=tuple(int(seed) for seed in seeds),
        failed=dict(failed),
        files=tuple(
            StoredFile(name, sum(p.nbytes for p in parts), checksum_parts(parts))
            for name, parts in shards.items()
        ),
        provenance=dict(provenance),
    )
    with writing(path, block) as had_to_wait:
        stored = _stored_entry(path, block)
        if stored is not None and stored.has_same_content(entry):
            return stored
        if stored is not None and had_to_wait:
            raise StagingError(
                f"block {block} of {path} must have one writer; another one has just "
                "written other members or values. Give each task blocks of its own."
            )
        drop_entry(path, block)
        for name, parts in shards.items():
            make_folder_durably((path / name).parent, root=path)
            write_durably(path / name, [part.data for part in parts])
        write_entry(path, entry)
    return entry


def read_members(path: Path, variable: str, members: Members) -> NDArray[np.floating]:
    """Values of some members, in the order asked for.

    Args:
        path: the store.
        variable: name of a variable.
        members: member ids in any order, repeats allowed, shape (n,).

    Returns:
        Array of the stored dtype, shape (n, *shape of a member).

    Raises:
        ValueError: no such variable, or a member id outside the ensemble.
        StagingError: a member has failed, or its block is not complete or damaged.
    """
    with MemberReader(path, variable) as reader:
        return reader.read(members)


def open_ensemble(path: Path) -> "xr.Dataset":
    """A complete store as a lazy dataset: whole blocks per chunk, no failed members.

    Raises:
        StagingError: there is no store, or a block is missing.
    """
    import xarray as xr  # workers that only write blocks do not pay the second it takes

    layout = read_layout(path)
    missing = missing_blocks(path)
    if missing:
        raise StagingError(
            f"{path} must be complete to be opened; {len(missing)} of "
            f"{layout.n_blocks} blocks are missing, the first is {missing[0]}. "
            "Continue the run that writes it."
        )
    widest = max(
        layout.shard_shape(variable).row_bytes for variable in layout.variables
    )
    n_blocks = max(1, DASK_CHUNK_BYTES // (layout.block_size * widest))
    n_members = n_blocks * layout.block_size
    if layout.format == "hdf5":
        dataset = open_index(path, layout, n_members)
    else:
        chunks = {"member": n_members, **dict.fromkeys(layout.dimensions, -1)}
        dataset = xr.open_zarr(path, consolidated=False, chunks=chunks)
    failed = failed_members(path)
    if not failed:
        return dataset
    # ascending, so that dask takes each chunk once
    return dataset.isel(member=np.setdiff1d(np.arange(layout.n_members), [*failed]))


def _check_block(
    layout: StoreLayout,
    members: range,
    fields: Mapping[str, NDArray[np.floating]],
    seeds: Sequence[int],
    failed: Mapping[int, str],
) -> None:
    names = {variable.name for variable in layout.variables}
    if fields.keys() != names:
        raise ValueError(
            f"fields must be those of the store, {sorted(names)}; got {sorted(fields)}."
        )
    expected = (len(members), *layout.shape)
    for name, values in fields.items():
        if values.shape != expected:
            raise ValueError(
                f"{name} must have shape {expected}, member and "
                f"{', '.join(layout.dimensions)} of the block; got {values.shape}. "
                "A task writes whole blocks."
            )
    if len(seeds) != len(members):
        raise ValueError(
            f"each of the {len(members)} members needs a seed; got {len(seeds)}."
        )
    strangers = [member for member in failed if member not in members]
    if strangers:
        raise ValueError(
            f"failed members must be ids in {members.start}..{members.stop - 1}; got "
            f"{strangers[0]}. Ids count over the ensemble, not over the block."
        )


def _prepare(
    name: str,
    values: NDArray[np.floating],
    dtype: np.dtype[np.floating],
    members: range,
    failed: Mapping[int, str],
) -> NDArray[np.floating]:
    """Values (members, n_cells) of the stored dtype, NaN in rows of failed members."""
    rows = np.ascontiguousarray(values, dtype=dtype).reshape(len(members), -1)
    if failed:
        rows = rows.copy()  # the caller's array keeps its values
        rows[[member - members.start for member in failed]] = np.nan
    # sums are not finite where a value is not: one fast pass; they may also overflow
    with np.errstate(over="ignore", invalid="ignore"):
        suspects = np.flatnonzero(~np.isfinite(rows.sum(axis=1)))
    for row in suspects:
        if members[row] not in failed and not np.isfinite(rows[row]).all():
            raise ValueError(
                f"{name} must be finite in {dtype} for members that have not failed; "
                f"got member {members[row]}. List it in failed with its cause."
            )
    return rows


def _files_of_block(
    layout: StoreLayout, block: int, rows: Mapping[str, NDArray[np.floating]]
) -> dict[str, list[NDArray[Any]]]:
    """By name, the parts of each file."""
    if layout.format == "hdf5":
        image = np.frombuffer(block_image(layout, rows), dtype=np.uint8)
        return {layout.file_of("", block): [image]}
    return {
        layout.file_of(v.name, block): shard_parts(rows[v.name], layout.shard_shape(v))
        for v in layout.variables
    }


def _stored_entry(path: Path, block: int) -> BlockEntry | None:
    """The entry of a block that is there unharmed."""
    try:
        return verify_block(path, block)
    except StagingError:
        return None
