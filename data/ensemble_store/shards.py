"""Shard files of Zarr 3 (codec sharding_indexed), written and opened without Zarr.

    [ inner chunks, in order ][ n × (offset u64, bytes u64) ][ crc32c of index, u32 ]

all little endian; an absent chunk has offset = bytes = 2⁶⁴ - 1. Inner chunks are whole
members: raw, so that neighbouring members are one contiguous read, or compressed by
blosc-lz4 with byte shuffle. Source: zarr-specs, sharding_indexed 1.0.
"""

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from data.durable_files import StagingError

ABSENT = 2**64 - 1
BLOSC_LEVEL = 5

Codec: TypeAlias = Literal["none", "blosc-lz4"]


@dataclass(frozen=True, slots=True)
class ShardShape:
    """Shape of the shards of one variable.

    Attributes:
        n_chunks: inner chunks per shard.
        chunk_members: members per inner chunk.
        member_shape: sizes of one member, along the dimensions of the store.
        dtype: type of a value, little endian.
        codec: how an inner chunk is compressed.
    """

    n_chunks: int
    chunk_members: int
    member_shape: tuple[int, ...]
    dtype: np.dtype[np.floating]
    codec: Codec = "none"

    @property
    def n_cells(self) -> int:
        """Values per member."""
        return math.prod(self.member_shape)

    @property
    def row_bytes(self) -> int:
        """Bytes of one member."""
        return self.n_cells * self.dtype.itemsize

    @property
    def chunk_bytes(self) -> int:
        """Bytes of one inner chunk before compression."""
        return self.chunk_members * self.row_bytes

    def codecs(self) -> list[dict[str, Any]]:
        """The codecs as they stand in the `zarr.json` of the variable."""
        to_bytes = {"name": "bytes", "configuration": {"endian": "little"}}
        inner: list[dict[str, Any]] = [to_bytes]
        if self.codec == "blosc-lz4":
            settings = {
                "typesize": self.dtype.itemsize,
                "cname": "lz4",
                "clevel": BLOSC_LEVEL,
                "shuffle": "shuffle",
                "blocksize": 0,
            }
            inner.append({"name": "blosc", "configuration": settings})
        sharding = {
            "chunk_shape": [self.chunk_members, *self.member_shape],
            "codecs": inner,
            "index_codecs": [to_bytes, {"name": "crc32c"}],
            "index_location": "end",
        }
        return [{"name": "sharding_indexed", "configuration": sharding}]


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
    bodies, sizes = [rows, fill], np.full(n_used, shape.chunk_bytes)
    if shape.codec == "blosc-lz4":
        bodies = _compressed(np.concatenate([rows, fill]), shape)
        sizes = np.array([body.nbytes for body in bodies])
    index = np.full((shape.n_chunks, 2), ABSENT, dtype="<u8")
    index[:n_used, 0] = np.cumsum(sizes) - sizes
    index[:n_used, 1] = sizes
    checksum = np.array([google_crc32c.value(index)], dtype="<u4")
    return [*bodies, index, checksum]


def checksum_parts(parts: list[NDArray[Any]]) -> int:
    """crc32c of the parts as one file."""
    checksum = 0
    for part in parts:
        # an empty array has no buffer to pass on
        if part.size:
            checksum = google_crc32c.extend(checksum, part)
    return checksum


def read_index(descriptor: int, path: Path, shape: ShardShape) -> NDArray[np.int64]:
    """The index of an open shard, shape (n_chunks, 2): offset and bytes, -1 if absent.

    Raises:
        StagingError: the index is damaged, or does not fit the shape.
    """
    index_bytes = 16 * shape.n_chunks
    start = os.fstat(descriptor).st_size - index_bytes - 4
    footer = os.pread(descriptor, index_bytes + 4, max(start, 0))
    index, checksum = footer[:index_bytes], footer[index_bytes:]
    if google_crc32c.value(index).to_bytes(4, "little") != checksum:
        raise StagingError(
            f"{path} must end in a shard index with its crc32c; got another checksum. "
            "Write the block again."
        )
    entries = np.frombuffer(index, dtype="<i8").reshape(-1, 2)
    is_raw = shape.codec == "none"
    if is_raw and not np.isin(entries[:, 1], [-1, shape.chunk_bytes]).all():
        raise StagingError(
            f"inner chunks of {path} must have {shape.chunk_bytes} bytes; got "
            f"{sorted(set(entries[:, 1].tolist()))}. Write the block again."
        )
    return entries


def read_fully(descriptor: int, path: Path, offset: int, buffer: memoryview) -> None:
    """Fills a buffer of bytes from an open file.

    Raises:
        StagingError: the file ends before.
    """
    # one read of Linux returns at most 2 GiB, and a truncated file gives a short count
    done = 0
    while done < len(buffer):
        count = os.preadv(descriptor, [buffer[done:]], offset + done)
        if count == 0:
            raise StagingError(
                f"{path} must hold {offset + len(buffer)} bytes; it ends after "
                f"{offset + done}. Write the block again."
            )
        done += count


def _compressed(rows: NDArray[np.floating], shape: ShardShape) -> list[NDArray[Any]]:
    from numcodecs import blosc

    chunks = rows.reshape(-1, shape.chunk_members, shape.n_cells)
    return [
        np.frombuffer(
            blosc.compress(chunk, b"lz4", BLOSC_LEVEL, blosc.SHUFFLE), dtype=np.uint8
        )
        for chunk in chunks
    ]
