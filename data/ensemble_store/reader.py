"""Random reads of members at nearly the speed of the device: one `pread` per member.

A reader keeps descriptors and shard indices of the blocks that it has met, so that a
batch costs no file names, no manifest and no JSON. A block is checked when it is
opened: manifest entry, size, index. An array whose codecs are not the store's own is
read through zarr-python instead.
"""

import json
import math
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from data.durable_files import StagingError
from data.ensemble_store.hdf5 import field_offset
from data.ensemble_store.layout import read_layout
from data.ensemble_store.manifest import StoredFile, check_size, read_entry
from data.ensemble_store.shards import read_fully, read_index

MAX_OPEN = 128  # descriptors of a reader; a process may have 1024 in all
BLOSC_OVERHEAD = 16  # bytes that blosc adds at most
PAGE_BYTES = 4096

Members = Sequence[int] | NDArray[np.int64]


class MemberReader:
    """An open variable of a store; threads may share it, and forked children too.

    Args:
        path: the store.
        variable: name of a variable.
        open_file: opens a file of the store, for example a replica of it on a faster
            device; returns a descriptor, which the reader closes.

    Raises:
        ValueError: no such variable.
        StagingError: there is no store.
    """

    def __init__(
        self,
        path: Path,
        variable: str,
        open_file: Callable[[StoredFile], int] | None = None,
    ) -> None:
        self._path, self._variable = path, variable
        self._open_file = open_file or self._open_stored
        self._layout = read_layout(path)
        self._shape = self._layout.shard_shape(self._layout.variable(variable))
        n_chunks = self._layout.n_blocks * self._shape.n_chunks
        # offset and bytes of every inner chunk in its file; -1 where it is absent
        self._chunks = np.full((n_chunks, 2), -1, dtype=np.int64)
        self._open: dict[int, int] = {}  # block: descriptor
        self._failed: dict[int, str] = {}
        self._lock = threading.Lock()
        self._foreign = self._foreign_array()
        largest = self._shape.chunk_bytes + BLOSC_OVERHEAD + PAGE_BYTES
        self._scratch = _bytes_of(empty_aligned((1, largest), np.dtype(np.uint8)))

    def read(
        self, members: Members, out: NDArray[np.floating] | None = None
    ) -> NDArray[np.floating]:
        """Values of some members, in the order asked for.

        Args:
            members: member ids in any order, repeats allowed, shape (n,).
            out: contiguous buffer of the stored dtype, shape (n, *shape of a member),
                to be filled instead of a new array.

        Returns:
            The values, shape (n, *shape of a member).

        Raises:
            ValueError: a member id outside the ensemble, or a buffer that does not fit.
            StagingError: a member has failed, or its block is not complete or damaged.
        """
        ids = np.asarray(members, dtype=np.int64)
        wanted = (len(ids), *self._shape.member_shape)
        if out is None:
            out = empty_aligned(wanted, self.dtype)
        _check_buffer(out, wanted, self.dtype)
        if not len(ids):
            return out
        rows = np.argsort(ids, kind="stable")
        ids = ids[rows]
        self._check_range(ids)
        blocks = ids // self._layout.block_size
        flat = out.reshape(len(ids), -1)  # (n, n_cells)
        with self._lock:
            for part in _parts_of_blocks(blocks, MAX_OPEN):
                self._open_blocks(blocks[part], ids[part])
                if self._foreign is not None:
                    self._read_foreign(ids[part], rows[part], flat)
                elif self._shape.codec == "none":
                    self._read_raw(ids[part], rows[part], flat)
                else:
                    self._read_compressed(ids[part], rows[part], flat)
        return out

    def batches(self, batches: Iterable[Members]) -> Iterator[NDArray[np.floating]]:
        """Reads batch after batch; a thread reads the next while one is being used.

        Yields:
            Values of a batch, shape (n, *shape of a member), in one of two buffers:
            they hold until the next batch is asked for.
        """
        shape = self._shape.member_shape
        buffers = [empty_aligned((0, *shape), self.dtype)] * 2
        coming: Future[NDArray[np.floating]] | None = None
        with ThreadPoolExecutor(1, thread_name_prefix="prefetch") as thread:
            for k, members in enumerate(batches):
                n = len(members)
                if n > len(buffers[k % 2]):
                    buffers[k % 2] = empty_aligned((n, *shape), self.dtype)
                following = thread.submit(self.read, members, buffers[k % 2][:n])
                if coming is not None:
                    yield coming.result()
                coming = following
            if coming is not None:
                yield coming.result()

    @property
    def dtype(self) -> np.dtype[np.floating]:
        """Type of a value."""
        return self._shape.dtype

    def close(self) -> None:
        """Closes the descriptors; a later read opens what it needs again."""
        with self._lock:
            while self._open:
                os.close(self._open.popitem()[1])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check_range(self, ids: NDArray[np.int64]) -> None:
        """Refuses ascending ids of which one lies outside the ensemble."""
        n_members = self._layout.n_members
        if ids[0] < 0 or ids[-1] >= n_members:
            wrong = ids[0] if ids[0] < 0 else ids[-1]
            raise ValueError(f"member ids must lie in 0..{n_members - 1}; got {wrong}.")

    def _open_blocks(self, blocks: NDArray[np.int64], ids: NDArray[np.int64]) -> None:
        needed = set(blocks.tolist())
        for block in sorted(needed - self._open.keys()):
            if len(self._open) >= MAX_OPEN:
                idle = next(b for b in self._open if b not in needed)
                os.close(self._open.pop(idle))
            self._open_block(block)
        failed = [m for m in ids.tolist() if m in self._failed] if self._failed else []
        if failed:
            raise StagingError(
                f"members must have a result to be read; got {failed} of {self._path}, "
                f"which failed ({self._failed[failed[0]]}). Leave out "
                "failed_members(path)."
            )

    def _open_block(self, block: int) -> None:
        """Opens the shard that the manifest says is there."""
        entry = read_entry(self._path, block)
        name = self._layout.file_of(self._variable, block)
        stored = next(file for file in entry.files if file.name == name)
        descriptor = self._open_file(stored)
        try:
            if self._foreign is None:
                first = block * self._shape.n_chunks
                index = self._index_of(descriptor, self._path / name, entry.members)
                self._chunks[first : first + len(index)] = index
        except BaseException:
            os.close(descriptor)
            raise
        self._open[block] = descriptor
        self._failed.update(entry.failed)

    def _index_of(
        self, descriptor: int, path: Path, members: range
    ) -> NDArray[np.int64]:
        """Offset and bytes of the inner chunks of an open file."""
        shape, n = self._shape, len(members)
        if self._layout.format != "hdf5":
            return read_index(descriptor, path, shape)
        begin = field_offset(descriptor, path, self._variable, n, shape)
        index = np.full((-(-n // shape.chunk_members), 2), shape.chunk_bytes)
        index[:, 0] = begin + np.arange(len(index)) * shape.chunk_bytes
        return index

    def _open_stored(self, stored: StoredFile) -> int:
        check_size(self._path, stored)
        return os.open(self._path / stored.name, os.O_RDONLY)

    def _chunk_numbers(
        self, ids: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Of each member, the inner chunk, counted over the store, and the row in it.

        Raises:
            StagingError: a chunk is absent.
        """
        blocks, within = np.divmod(ids, self._layout.block_size)
        chunks, positions = np.divmod(within, self._shape.chunk_members)
        chunks += blocks * self._shape.n_chunks
        is_absent = self._chunks[chunks, 0] < 0
        if is_absent.any():
            block = int(blocks[is_absent][0])
            file = self._path / self._layout.file_of(self._variable, block)
            raise StagingError(
                f"{file} must hold member "
                f"{ids[is_absent][0]}; got an absent chunk. Write the block again."
            )
        return chunks, positions

    def _read_raw(
        self, ids: NDArray[np.int64], rows: NDArray[np.int64], out: NDArray[np.floating]
    ) -> None:
        """One read per run of members that are neighbours in the file and in `out`."""
        chunks, positions = self._chunk_numbers(ids)
        n_bytes = self._shape.row_bytes
        offsets = self._chunks[chunks, 0] + positions * n_bytes
        blocks = chunks // self._shape.n_chunks
        # slices: for small batches np.diff would take as long as the reads
        follows = offsets[1:] == offsets[:-1] + n_bytes
        follows &= rows[1:] == rows[:-1] + 1
        follows &= blocks[1:] == blocks[:-1]
        edges = np.flatnonzero(~follows) + 1
        starts, stops = np.append(0, edges), np.append(edges, len(ids))
        sizes = (stops - starts) * n_bytes
        runs = (blocks[starts], offsets[starts], rows[starts] * n_bytes, sizes)
        buffer, descriptors, preadv = _bytes_of(out), self._open, os.preadv
        for block, offset, begin, size in zip(*(a.tolist() for a in runs), strict=True):
            target = buffer[begin : begin + size]
            done = preadv(descriptors[block], [target], offset)
            if done != size:
                file = self._path / self._layout.file_of(self._variable, block)
                read_fully(descriptors[block], file, offset + done, target[done:])

    def _read_compressed(
        self, ids: NDArray[np.int64], rows: NDArray[np.int64], out: NDArray[np.floating]
    ) -> None:
        """Each inner chunk is read and decompressed once per batch."""
        chunks, positions = self._chunk_numbers(ids)
        edges = np.flatnonzero(np.diff(chunks)) + 1
        starts, stops = np.append(0, edges), np.append(edges, len(ids))
        for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
            if self._shape.chunk_members == 1:
                target = out[rows[start]]
                self._decompress(int(chunks[start]), target)
                out[rows[start + 1 : stop]] = target  # a member asked for repeatedly
            else:
                members = np.empty(
                    (self._shape.chunk_members, self._shape.n_cells), self.dtype
                )
                self._decompress(int(chunks[start]), members)
                out[rows[start:stop]] = members[positions[start:stop]]

    def _decompress(self, chunk: int, target: NDArray[np.floating]) -> None:
        from numcodecs import blosc

        blosc.use_threads = False  # faster for one inner chunk; workers share the cores
        block = chunk // self._shape.n_chunks
        file = self._path / self._layout.file_of(self._variable, block)
        offset, size = self._chunks[chunk].tolist()
        # as far from a page as in the file: what is aligned alike is copied faster
        begin = offset % PAGE_BYTES
        body = self._scratch[begin : begin + size]
        if len(body) == size:  # else the header cannot be right either
            read_fully(self._open[block], file, offset, body)
        found = int.from_bytes(body[4:8], "little")  # bytes before compression
        try:
            if found == target.nbytes:
                blosc.decompress(body, target)
                return
        except RuntimeError:
            found = 0
        raise StagingError(
            f"inner chunks of {file} must be {target.nbytes} bytes compressed by "
            f"blosc; {found} can be restored. Write block {block} again."
        )

    def _foreign_array(self) -> Any:  # noqa: ANN401  # a zarr array, imported late
        """The variable as zarr-python opens it if only zarr-python can decode it."""
        shape, size = self._shape, self._layout.block_size
        if self._layout.format == "hdf5":
            return None
        stored = json.loads((self._path / self._variable / "zarr.json").read_bytes())
        is_ours = (
            stored["codecs"] == shape.codecs()
            and stored["data_type"] == shape.dtype.name
            and stored["chunk_grid"]["configuration"]["chunk_shape"]
            == [size, *shape.member_shape]
            and stored["chunk_key_encoding"]["configuration"]["separator"] == "/"
        )
        if is_ours:
            return None
        import zarr

        return zarr.open_array(self._path / self._variable, mode="r")

    def _read_foreign(
        self, ids: NDArray[np.int64], rows: NDArray[np.int64], out: NDArray[np.floating]
    ) -> None:
        for member, row in zip(ids.tolist(), rows.tolist(), strict=True):
            # a slice: a list of members would be twenty times slower
            out[row] = self._foreign[member : member + 1].reshape(-1)
            # Zarr fills what is absent, and stored members are finite
            if not np.isfinite(out[row]).all():
                raise StagingError(
                    f"{self._path / self._variable} must hold member {member}; got "
                    "values that are not finite. Write its block again."
                )


def empty_aligned(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """An uninitialised array that begins on a page.

    NumPy's large arrays begin 16 bytes after, and some processors (AMD EPYC) copy from
    the page cache to there at a quarter of their speed.
    """
    n_bytes = math.prod(shape) * dtype.itemsize
    buffer = np.empty(n_bytes + PAGE_BYTES, dtype=np.uint8)
    begin = -buffer.ctypes.data % PAGE_BYTES
    return buffer[begin : begin + n_bytes].view(dtype).reshape(shape)


def _bytes_of(out: NDArray[Any]) -> memoryview:
    return out.reshape(-1).view(np.uint8).data


def _check_buffer(
    out: NDArray[np.floating], shape: tuple[int, ...], dtype: np.dtype[np.floating]
) -> None:
    if out.shape != shape or out.dtype != dtype or not out.flags.c_contiguous:
        raise ValueError(
            f"a buffer for these members must be a contiguous {dtype} array of shape "
            f"{shape}; got {out.dtype} of shape {out.shape}."
        )


def _parts_of_blocks(blocks: NDArray[np.int64], size: int) -> Iterator[slice]:
    """Ascending blocks, cut into parts of at most `size` different ones."""
    if blocks[-1] - blocks[0] < size:
        yield slice(None)
        return
    firsts = np.concatenate([[0], np.flatnonzero(np.diff(blocks)) + 1])[::size]
    for start, stop in zip(firsts, [*firsts[1:], len(blocks)], strict=True):
        yield slice(int(start), int(stop))
