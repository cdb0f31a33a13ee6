"""Reads and writes of ensemble stores, against the raw file and against other readers.

Samples are smooth random fields of 1 MiB (512 × 512 float32), read in batches of 16
chosen at random, and members of Hanford size (1475 cells, 6 kB), in batches of 32 and
256. Raw is `pread` or `write` of the same bytes, sample by sample, from and into
buffers that exist. All readers take turns at each batch, and the shortest time of each
reader for each batch counts, so that what else the machine does meets all of them.

    python -m benchmarks.staging --folder /dev/shm
"""

import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import zarr
from numpy.typing import NDArray

from benchmarks.rows import parser_of, print_row
from data.durable_files import write_durably
from data.ensemble_store import (
    Format,
    MemberReader,
    Variable,
    create_store,
    write_block,
)
from data.ensemble_store.reader import empty_aligned

VARIABLE = "field"
SIDE = 512
HANFORD_CELLS = 1475
PASSES = 7
BLOCK = 32  # samples per shard

Read = Callable[[NDArray[np.int64]], object]
Fields = NDArray[np.floating]


def smooth_fields(n: int) -> Fields:
    """Gaussian fields of spectral slope k^-1.8, shape (n, SIDE²), float32."""
    k = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE))
    k[0, 0] = 1.0
    fields = np.empty((n, SIDE * SIDE), dtype=np.float32)
    for row in range(n):
        noise = np.random.default_rng(row).standard_normal((SIDE, SIDE))
        field = np.fft.irfft2(np.fft.rfft2(noise) * k**-1.8, s=(SIDE, SIDE))
        fields[row] = (field / field.std()).ravel()
    return fields


def write_store(
    path: Path, fields: Fields, block_size: int, form: Format = "zarr"
) -> None:
    """Writes a store of one variable."""
    layout = create_store(
        path,
        n_members=len(fields),
        block_size=block_size,
        variables=[Variable(VARIABLE, "1", "benchmark")],
        coordinates={"x": ("cell", np.arange(fields.shape[1]))},
        attributes={},
        format=form,
    )
    for block in range(layout.n_blocks):
        write_members(path, fields, layout.members(block), block)


def write_members(path: Path, fields: Fields, members: range, block: int) -> None:
    """Writes one block."""
    rows = fields[members.start : members.stop]
    write_block(path, block, {VARIABLE: rows}, seeds=members, provenance={})


def raw_reader(path: Path, size: int, n_cells: int) -> Read:
    """`pread` of a batch from one file into one buffer."""
    descriptor, n_bytes = os.open(path, os.O_RDONLY), 4 * n_cells
    array = empty_aligned((size, n_cells), np.dtype(np.float32))
    buffer = array.reshape(-1).view(np.uint8).data
    rows = [buffer[k * n_bytes : (k + 1) * n_bytes] for k in range(size)]

    def read(batch: NDArray[np.int64]) -> None:
        for row, member in zip(rows, batch.tolist(), strict=True):
            os.preadv(descriptor, [row], member * n_bytes)

    return read


def store_reader(path: Path, size: int, n_cells: int) -> Read:
    """Our reader, into one buffer."""
    reader = MemberReader(path, VARIABLE)
    buffer = empty_aligned((size, n_cells), np.dtype(np.float32))
    return lambda batch: reader.read(batch, buffer)


def zarr_reader(path: Path, size: int, n_cells: int) -> Read:
    """zarr-python as fast as it goes: slice by slice."""
    array: Any = zarr.open_array(path / VARIABLE, mode="r")  # types of any array
    buffer = empty_aligned((size, n_cells), np.dtype(np.float32))

    def read(batch: NDArray[np.int64]) -> None:
        for row, member in enumerate(batch.tolist()):
            buffer[row] = array[member : member + 1][0]

    return read


def hdf5_reader(path: Path, size: int, n_cells: int) -> Read:
    """h5py on a contiguous data set, straight into the buffer."""
    dataset = h5py.File(path, "r")[VARIABLE]
    buffer = empty_aligned((size, n_cells), np.dtype(np.float32))

    def read(batch: NDArray[np.int64]) -> None:
        for row, member in enumerate(batch.tolist()):
            dataset.read_direct(buffer, np.s_[member], np.s_[row])

    return read


def best_seconds(
    calls: Mapping[str, Callable[[Any], object]], parts: Sequence[Any]
) -> dict[str, float]:
    """Time [s] of each call for all parts, each part at its best; calls take turns."""
    best = {name: np.full(len(parts), np.inf) for name in calls}
    for turn in range(PASSES + 1):
        for k, part in enumerate(parts):
            for name, call in calls.items():
                began = time.perf_counter()
                call(part)
                if turn:  # the first pass opens files and warms caches
                    best[name][k] = min(best[name][k], time.perf_counter() - began)
    return {name: float(seconds.sum()) for name, seconds in best.items()}


def print_rates(
    what: str, seconds: Mapping[str, float], n_bytes: int, *, markdown: bool
) -> None:
    """Rate of each call beside that of the first, the raw one."""
    raw, *others = seconds
    peer = f"{raw}: {n_bytes / seconds[raw] / 1e6:.0f} MB/s"
    for name in others:
        rate = f"{n_bytes / seconds[name] / 1e6:.0f} MB/s"
        share = f"{seconds[raw] / seconds[name]:.2f} of raw"
        if "zarr-python" in seconds and name.startswith("ensemble store"):
            share += f", {seconds['zarr-python'] / seconds[name]:.1f} × zarr-python"
        print_row((f"{what}: {name}", rate, peer, share), markdown=markdown)


def compare_large_samples(folder: Path, n: int, *, markdown: bool) -> None:
    """Random reads and writes of 1 MiB samples."""
    fields = smooth_fields(n)
    n_cells = fields.shape[1]
    raw, hdf5 = folder / "raw", folder / "contiguous.h5"
    write_durably(raw, [fields.data])
    with h5py.File(hdf5, "w") as file:
        file[VARIABLE] = fields
    write_store(folder / "plain.zarr", fields, BLOCK)
    write_store(folder / "lz4.zarr", fields, BLOCK, "zarr-lz4")
    order = np.random.default_rng(0).permutation(n)
    batches = np.split(order[: n // 16 * 16], n // 16)
    readers = {
        "raw pread": raw_reader(raw, 16, n_cells),
        "ensemble store": store_reader(folder / "plain.zarr", 16, n_cells),
        "ensemble store, lz4": store_reader(folder / "lz4.zarr", 16, n_cells),
        "HDF5": hdf5_reader(hdf5, 16, n_cells),
        "zarr-python": zarr_reader(folder / "plain.zarr", 16, n_cells),
    }
    seconds = best_seconds(readers, batches)
    print_rates(
        "read 16 of 1 MiB", seconds, n // 16 * 16 * 4 * n_cells, markdown=markdown
    )
    compare_prefetch(folder / "plain.zarr", batches, markdown=markdown)
    compare_writes(folder, fields, markdown=markdown)


def compare_prefetch(
    path: Path, batches: list[NDArray[np.int64]], *, markdown: bool
) -> None:
    """An epoch that uses every value twice, with and without the reader's thread."""
    reader = MemberReader(path, VARIABLE)

    def use(values: Fields) -> None:
        values.sum()
        values.max()

    def one_after_the_other(_: int) -> None:
        for batch in batches:
            use(reader.read(batch))

    def prefetched(_: int) -> None:
        for values in reader.batches(batches):
            use(values)

    calls = {"in turn": one_after_the_other, "prefetched": prefetched}
    seconds = best_seconds(calls, [0])
    row = (
        "an epoch that reads and uses 1 MiB samples: prefetched",
        f"{seconds['prefetched'] * 1e3:.0f} ms",
        f"in turn: {seconds['in turn'] * 1e3:.0f} ms",
        f"{seconds['in turn'] / seconds['prefetched']:.2f} × as fast",
    )
    print_row(row, markdown=markdown)


def compare_writes(folder: Path, fields: Fields, *, markdown: bool) -> None:
    """Blocks of 32 MiB, each into new files."""
    theirs = zarr.create_array(
        folder / "theirs.zarr",
        shape=fields.shape,
        chunks=(1, fields.shape[1]),
        shards=(BLOCK, fields.shape[1]),
        dtype=fields.dtype,
        compressors=None,
    )
    members = {
        k: range(k * BLOCK, (k + 1) * BLOCK) for k in range(len(fields) // BLOCK)
    }

    def write_raw(block: int) -> None:
        partial = folder / "raw.partial"
        with partial.open("wb", buffering=0) as file:
            for row in fields[members[block].start : members[block].stop]:
                file.write(row.data)
        partial.replace(folder / f"raw.{block}")

    def write_ours(block: int) -> None:
        # without its entry: equal content would be left alone
        (folder / "plain.zarr" / "manifest" / f"{block}.json").unlink()
        write_members(folder / "plain.zarr", fields, members[block], block)

    def write_theirs(block: int) -> None:
        chosen = slice(members[block].start, members[block].stop)
        theirs[chosen] = fields[chosen]

    writers = {
        "raw write": write_raw,
        "ensemble store": write_ours,
        "zarr-python": write_theirs,
    }
    seconds = best_seconds(writers, [*members])
    print_rates("write 32 of 1 MiB", seconds, fields.nbytes, markdown=markdown)


def compare_small_members(folder: Path, n: int, *, markdown: bool) -> None:
    """Random reads of members of Hanford size."""
    generator = np.random.default_rng(0)
    members = generator.standard_normal((n, HANFORD_CELLS), dtype=np.float32)
    raw, store = folder / "raw_members", folder / "members.zarr"
    write_durably(raw, [members.data])
    write_store(store, members, 1000)
    for size in (32, 256):
        batches = generator.permutation(n)[: n // size * size].reshape(-1, size)
        readers = {
            "raw pread": raw_reader(raw, size, HANFORD_CELLS),
            "ensemble store": store_reader(store, size, HANFORD_CELLS),
        }
        seconds = best_seconds(readers, [*batches])
        n_bytes = batches.size * HANFORD_CELLS * 4
        print_rates(f"read {size} of 6 kB", seconds, n_bytes, markdown=markdown)


def main() -> None:
    """Builds stores in a scratch folder and prints the table."""
    parser = parser_of(str(__doc__))
    shared_memory = Path("/dev/shm")
    parser.add_argument(
        "--folder",
        type=Path,
        default=shared_memory if shared_memory.is_dir() else None,
        help="device to measure, the memory tier unless given",
    )
    parser.add_argument("--samples", type=int, default=128, help="of 1 MiB")
    parser.add_argument("--members", type=int, default=20_000, help="of 6 kB")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        compare_large_samples(folder, options.samples, markdown=options.markdown)
        compare_small_members(folder, options.members, markdown=options.markdown)


if __name__ == "__main__":
    main()
