"""An ensemble of fields as a Zarr 3 store that xarray opens, or in HDF5 files.

Dimensions member, cell, or member, time, lat, lon, and the like. A block of members is
one shard file per variable, or one HDF5 file, written by one task;
`manifest/<block>.json` follows once the bytes are durable. A block without a manifest
entry does not count, whatever lies on disk.

    create_store -> write_block (any process, any order)
    -> open_ensemble, read_members, MemberReader
"""

from data.ensemble_store.blocks import open_ensemble, read_members, write_block
from data.ensemble_store.creation import create_store
from data.ensemble_store.layout import Format, StoreLayout, Variable, read_layout
from data.ensemble_store.manifest import (
    BlockEntry,
    StoredFile,
    complete_blocks,
    failed_members,
    missing_blocks,
    store_bytes,
    store_files,
    sweep_partial,
    verify_block,
)
from data.ensemble_store.reader import MemberReader

__all__ = [
    "BlockEntry",
    "Format",
    "MemberReader",
    "StoreLayout",
    "StoredFile",
    "Variable",
    "complete_blocks",
    "create_store",
    "failed_members",
    "missing_blocks",
    "open_ensemble",
    "read_layout",
    "read_members",
    "store_bytes",
    "store_files",
    "sweep_partial",
    "verify_block",
    "write_block",
]
