"""`MemberReader` against the values written, on formats, layouts and damage."""

import json
import multiprocessing
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import zarr

from data.durable_files import StagingError
from data.ensemble_store import (
    MemberReader,
    Variable,
    create_store,
    read_layout,
    write_block,
)
from data.ensemble_store import reader as reader_module
from data.ensemble_store.shards import ABSENT

N_MEMBERS, BLOCK_SIZE = 11, 4
FORMATS = ("zarr", "zarr-lz4", "hdf5")
SHAPES = ((5,), (200_000,), (3, 2, 4))
DIMENSIONS = {1: ("cell",), 3: ("time", "lat", "lon")}


def on(*formats):
    """Parametrises the fixture `written`."""
    cases = [(form, sizes) for form in formats for sizes in SHAPES]
    names = [f"{form}-{sizes}" for form, sizes in cases]
    return pytest.mark.parametrize("written", cases, indirect=True, ids=names)


@pytest.fixture
def written(request, tmp_path):
    """A store and its values: members that share an inner chunk, and that fill one."""
    form, sizes = request.param
    dimensions = DIMENSIONS[len(sizes)]
    path = tmp_path / "ensemble"
    layout = create_store(
        path,
        n_members=N_MEMBERS,
        block_size=BLOCK_SIZE,
        variables=[Variable("v", "1", "values")],
        coordinates={
            f"of_{dimension}": (dimension, np.arange(size))
            for dimension, size in zip(dimensions, sizes, strict=True)
        },
        attributes={},
        format=form,
        dimensions=dimensions,
    )
    shape = layout.shard_shape(layout.variables[0])
    assert (shape.chunk_members == 1) == (sizes == (200_000,))
    generator = np.random.default_rng(0)
    values = generator.standard_normal((N_MEMBERS, *sizes)).astype(np.float32)
    for block in range(layout.n_blocks):
        members = layout.members(block)
        rows = values[members.start : members.stop]
        write_block(path, block, {"v": rows}, seeds=members, provenance={})
    return path, values


@on(*FORMATS)
def test_members_come_in_any_order_and_repeatedly(written):
    path, values = written
    members = [10, 0, 3, 3, 4, 9, 0, 8, 7]
    with MemberReader(path, "v") as reader:
        for _ in range(2):  # opened by the first
            assert np.array_equal(reader.read(members), values[members])
        assert np.array_equal(reader.read(range(N_MEMBERS)), values)


@on(*FORMATS)
def test_a_buffer_of_the_caller_is_filled(written):
    path, values = written
    buffer = np.zeros((3, *values.shape[1:]), dtype=np.float32)
    with MemberReader(path, "v") as reader:
        assert reader.read([5, 1, 6], buffer) is buffer
        assert np.array_equal(buffer, values[[5, 1, 6]])
        for wrong in (buffer[:2], buffer.astype(np.float64), buffer.T.copy().T):
            with pytest.raises(ValueError, match="contiguous float32 array of shape"):
                reader.read([5, 1, 6], wrong)


@on(*FORMATS)
def test_batches_are_read_ahead_into_two_buffers(written):
    path, values = written
    batches = [[3, 9], [10, 0], [4, 4], [7]]
    with MemberReader(path, "v") as reader:
        found = [(batch.copy(), batch.ctypes.data) for batch in reader.batches(batches)]
    for members, (batch, _) in zip(batches, found, strict=True):
        assert np.array_equal(batch, values[members])
    addresses = [address for _, address in found]
    assert addresses[0] == addresses[2] != addresses[1] == addresses[3]


@on(*FORMATS)
def test_a_failure_while_reading_ahead_reaches_the_loop(written):
    path, values = written
    shard = path / read_layout(path).file_of("v", 1)
    shard.unlink()
    with MemberReader(path, "v") as reader:
        batches = reader.batches([[0], [4], [1]])
        assert np.array_equal(next(batches), values[[0]])
        with pytest.raises(StagingError, match=f"{shard} must hold .* got no file"):
            next(batches)


@on(*FORMATS)
def test_few_descriptors_serve_many_blocks(written, monkeypatch):
    path, values = written
    monkeypatch.setattr(reader_module, "MAX_OPEN", 1)
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208  # not a folder of ours
    with MemberReader(path, "v") as reader:
        assert np.array_equal(reader.read([9, 1, 5, 2, 0]), values[[9, 1, 5, 2, 0]])
        assert len(os.listdir("/proc/self/fd")) == before + 1  # noqa: PTH208  # names only
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208  # names only


@on(*FORMATS)
def test_threads_share_a_reader(written):
    path, values = written
    chosen = [np.random.default_rng(k).permutation(N_MEMBERS) for k in range(32)]
    with MemberReader(path, "v") as reader, ThreadPoolExecutor(4) as threads:
        for members, found in zip(
            chosen, threads.map(reader.read, chosen), strict=True
        ):
            assert np.array_equal(found, values[members])


@on(*FORMATS)
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_reads_on(written):
    path, values = written
    with MemberReader(path, "v") as reader:
        reader.read([1, 5])
        context = multiprocessing.get_context("fork")
        ours, theirs = context.Pipe()
        child = context.Process(target=lambda: theirs.send(reader.read([2, 9, 5])))
        child.start()
        assert ours.poll(60)
        assert np.array_equal(ours.recv(), values[[2, 9, 5]])
        child.join()


def drop_last_chunk(shard, n_chunks):
    """Writes a shard whose index says that its last inner chunk is absent."""
    import google_crc32c

    content = bytearray(shard.read_bytes())
    index = np.frombuffer(content[-16 * n_chunks - 4 : -4], dtype="<u8").copy()
    index[-2:] = ABSENT
    checksum = google_crc32c.value(index).to_bytes(4, "little")
    content[-16 * n_chunks - 4 :] = index.tobytes() + checksum
    shard.write_bytes(content)


@on("zarr", "zarr-lz4")
def test_a_removed_chunk_is_an_error_and_no_fill_value(written):
    path, values = written
    with MemberReader(path, "v") as reader:
        n_chunks = reader._shape.n_chunks
        drop_last_chunk(path / read_layout(path).file_of("v", 1), n_chunks)
        assert np.isnan(zarr.open_array(path / "v", mode="r")[7]).all()
        with pytest.raises(StagingError, match="must hold member 7; got an absent"):
            reader.read([0, 7])
        assert np.array_equal(reader.read([0, 8]), values[[0, 8]])


@on(*FORMATS)
def test_a_file_that_shrinks_after_it_was_opened_is_an_error(written):
    path, _ = written
    shard = path / read_layout(path).file_of("v", 2)
    with MemberReader(path, "v") as reader:
        reader.read([8])
        os.truncate(shard, 3)
        with pytest.raises(StagingError, match=f"{shard} must hold"):
            reader.read([10])


@on("zarr-lz4")
def test_a_damaged_compressed_chunk_is_an_error(written):
    path, _ = written
    with MemberReader(path, "v") as reader:
        shard = path / read_layout(path).file_of("v", 0)
        content = bytearray(shard.read_bytes())
        content[4:8] = b"\xff\xff\xff\x7f"  # its size before compression
        shard.write_bytes(content)
        with pytest.raises(StagingError, match="compressed by blosc"):
            reader.read([0])


@on("zarr", "zarr-lz4")
def test_another_layout_is_read_through_zarr(written):
    path, values = written
    array = zarr.create_array(
        path / "v",
        data=values,
        chunks=(1, *values.shape[1:]),
        shards=(BLOCK_SIZE, *values.shape[1:]),
        compressors=zarr.codecs.ZstdCodec(level=1),
        fill_value=np.nan,
        overwrite=True,
    )
    assert array.shards == (BLOCK_SIZE, *values.shape[1:])
    # the manifest vouches for files of a size: here these
    for block in range(3):
        entry = path / "manifest" / f"{block}.json"
        record = json.loads(entry.read_text())
        shard = path / read_layout(path).file_of("v", block)
        record["files"][0][1] = shard.stat().st_size
        entry.write_text(json.dumps(record))
    with MemberReader(path, "v") as reader:
        assert np.array_equal(reader.read([10, 2, 2, 5]), values[[10, 2, 2, 5]])
        array[5] = np.nan  # equals the fill value: Zarr drops the chunk
        with pytest.raises(StagingError, match="must hold member 5; got values"):
            reader.read([4, 5])
