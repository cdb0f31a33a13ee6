"""Shard files of Zarr 3 (codec sharding_indexed), written and read without Zarr.

    [ inner chunks, in order ][ n × (offset u64, bytes u64) ][ crc32c of index, u32 ]

all little endian; an absent chunk has offset = bytes = 2⁶⁴ - 1. Inner chunks are whole
members without compression, so that neighbouring members are one contiguous read.
Source: zarr-specs, sharding_indexed 1.0.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from data.durable_files import StagingError

ABSENT = 2**64 - 1


@dataclass(frozen=True, slots=True)
class ShardShape:
    """Shape of the shards of one variable.

    Attributes:
        n_chunks: inner chunks per shard.
        chunk_members: members per inner chunk.
        n_cells: values per member.
        dtype: type of a value, little endian.
    """

    n_chunks: int
    chunk_members: int
    n_cells: int
    dtype: np.dtype[np.floating]

    @property
    def row_bytes(self) -> int:
        """Bytes of one member."""
        return self.n_cells * self.dtype.itemsize

    @property
    def chunk_bytes(self) -> int:
        """Bytes of one inner chunk."""
        return self.chunk_members * self.row_bytes


def shard_parts(rows: NDArray[np.floating], shape: ShardShape) -> list[NDArray[Any]]:
    """The buffers that make up a shard file, one after the other.

    Args:
        rows: members of the shard, contiguous, shape (n, n_cells) with n at most
            n_chunks × chunk_members; the last shard of a store may be shorter.
        shape: shape of the shard.

    Returns:
        Members, the NaN members that fill up the last inner chunk, and the index.
    """
    n_used = -(-len(rows) // shape.chunk_members)
    n_fill = n_used * shape.chunk_members - len(rows)
    fill = np.full((n_fill, shape.n_cells), np.nan, dtype=shape.dtype)
    index = np.full((shape.n_chunks, 2), ABSENT, dtype="<u8")
    index[:n_used, 0] = np.arange(n_used) * shape.chunk_bytes
    index[:n_used, 1] = shape.chunk_bytes
    checksum = np.array([google_crc32c.value(index)], dtype="<u4")
    return [rows, fill, index, checksum]


def checksum_parts(parts: list[NDArray[Any]]) -> int:
    """crc32c of the parts as one file."""
    checksum = 0
    for part in parts:
        # an empty array has no buffer to pass on
        if part.size:
            checksum = google_crc32c.extend(checksum, part)
    return checksum


def read_shard_rows(
    path: Path, shape: ShardShape, rows: NDArray[np.int64], out: NDArray[np.floating]
) -> None:
    """Reads members of one shard into a caller's buffer, one read per contiguous run.

    Args:
        path: the shard file.
        shape: shape of the shard.
        rows: positions within the shard, ascending, without repeats, shape (n,).
        out: contiguous buffer of the shard's dtype, shape (n, n_cells).

    Raises:
        StagingError: the file is damaged or lacks one of the members.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        index = _read_index(descriptor, path, shape)
        chunks, positions = np.divmod(rows, shape.chunk_members)
        offsets = index[chunks, 0]  # (n,)
        if (offsets == ABSENT).any():
            row = int(rows[offsets == ABSENT][0])
            raise StagingError(
                f"{path} must hold member {row} of its block; got an absent chunk. "
                "Write the block again."
            )
        offsets = offsets.astype(np.int64) + positions * shape.row_bytes
        breaks = np.flatnonzero(np.diff(offsets) != shape.row_bytes) + 1
        for run in np.split(np.arange(len(rows)), breaks):
            target = out[run[0] : run[-1] + 1]
            _read_fully(descriptor, path, int(offsets[run[0]]), target)
    finally:
        os.close(descriptor)


def _read_index(descriptor: int, path: Path, shape: ShardShape) -> NDArray[np.uint64]:
    index_bytes = 16 * shape.n_chunks
    start = os.fstat(descriptor).st_size - index_bytes - 4
    footer = os.pread(descriptor, index_bytes + 4, max(start, 0))
    index, checksum = footer[:index_bytes], footer[index_bytes:]
    if google_crc32c.value(index).to_bytes(4, "little") != checksum:
        raise StagingError(
            f"{path} must end in a shard index with its crc32c; got another checksum. "
            "Write the block again."
        )
    return np.frombuffer(index, dtype="<u8").reshape(-1, 2)


def _read_fully(
    descriptor: int, path: Path, offset: int, target: NDArray[np.floating]
) -> None:
    # one read of Linux returns at most 2 GiB, and a truncated file gives a short count
    buffer = target.data.cast("B")
    done = 0
    while done < len(buffer):
        count = os.preadv(descriptor, [buffer[done:]], offset + done)
        if count == 0:
            raise StagingError(
                f"{path} must hold {offset + len(buffer)} bytes; it ends after "
                f"{offset + done}. Write the block again."
            )
        done += count
