"""One behaviour of both formats: two variables, a ragged last block.

Zarr stores also against what zarr-python writes.
"""

import json
import multiprocessing
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr
import zarr

from data.durable_files import StagingError
from data.ensemble_store import (
    StoreLayout,
    Variable,
    complete_blocks,
    create_store,
    failed_members,
    missing_blocks,
    open_ensemble,
    read_layout,
    read_members,
    store_files,
    sweep_partial,
    verify_block,
    write_block,
)
from data.ensemble_store.manifest import writing

N_MEMBERS, N_CELLS, BLOCK_SIZE = 23, 7, 6
FAILED = {8: "solver diverged", 22: "lost worker"}
SETTINGS = {
    "n_members": N_MEMBERS,
    "block_size": BLOCK_SIZE,
    "variables": [
        Variable("hydraulic_head", "m", "hydraulic head"),
        Variable("log_transmissivity", "1", "ln of T in m2/d", "float64"),
    ],
    "coordinates": {
        "x": ("cell", np.linspace(0.0, 1.0, N_CELLS), {"units": "m"}),
        "y": ("cell", np.zeros(N_CELLS), {"units": "m"}),
    },
    "attributes": {"title": "test ensemble"},
}
NAMES = ("hydraulic_head", "log_transmissivity")


def fields_of(members):
    """Values that depend on the member alone."""
    rows = [np.random.default_rng(m).standard_normal((2, N_CELLS)) for m in members]
    heads, log_transmissivity = np.stack(rows, axis=1)
    return {
        "hydraulic_head": heads.astype(np.float32),
        "log_transmissivity": log_transmissivity,
    }


def arguments(block, failed=FAILED, version="1"):
    """Arguments of `write_block` after the path."""
    members = StoreLayout(N_MEMBERS, (N_CELLS,), BLOCK_SIZE, ()).members(block)
    named = {
        "seeds": members,
        "failed": {m: cause for m, cause in failed.items() if m in members},
        "provenance": {"version": version},
    }
    return (block, fields_of(members)), named


def write(path, block, **options):
    positional, named = arguments(block, **options)
    return write_block(path, *positional, **named)


@pytest.fixture(params=["zarr", "hdf5"])
def settings(request):
    return {**SETTINGS, "format": request.param}


@pytest.fixture
def store(tmp_path, settings):
    path = tmp_path / "ensemble"
    create_store(path, **settings)
    return path


def file_of(store, name, block):
    return store / read_layout(store).file_of(name, block)


def stored_values(store, name):
    """What a program without this package reads."""
    if read_layout(store).format == "hdf5":
        with h5py.File(store / "index.h5") as file:
            return file[name][:]
    return zarr.open_array(store / name, mode="r")[:]


def opened_by_xarray(store):
    if read_layout(store).format == "hdf5":
        pytest.importorskip("h5netcdf", reason="xarray reads HDF5 through h5netcdf")
        return xr.open_dataset(store / "index.h5", engine="h5netcdf")
    return xr.open_zarr(store, consolidated=False)


@pytest.fixture
def full_store(store):
    for block in (2, 0, 3, 1):
        write(store, block)
    return store


def bits(values):
    """Integer view: NaN payloads and signed zeros count as differences."""
    return values.view(f"i{values.dtype.itemsize}")


COMPRESSORS = {
    "zarr": None,
    "zarr-lz4": zarr.codecs.BloscCodec(cname="lz4", clevel=5, shuffle="shuffle"),
}


@pytest.mark.parametrize("form", COMPRESSORS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("n_members", "block_size", "n_cells"), [(23, 6, 7), (5, 8, 3), (700, 300, 1475)]
)
def test_shard_files_are_those_that_zarr_writes(
    tmp_path, form, dtype, n_members, block_size, n_cells
):
    layout = create_store(
        tmp_path / "ours",
        n_members=n_members,
        block_size=block_size,
        variables=[Variable("v", "1", "values", dtype)],
        coordinates={"x": ("cell", np.arange(n_cells))},
        attributes={},
        format=form,
    )
    generator = np.random.default_rng(0)
    values = generator.standard_normal((n_members, n_cells)).astype(dtype)
    for block in range(layout.n_blocks):
        members = layout.members(block)
        rows = values[members.start : members.stop]
        write_block(tmp_path / "ours", block, {"v": rows}, seeds=members, provenance={})
    ours = zarr.open_array(tmp_path / "ours" / "v", mode="r")
    theirs = zarr.create_array(
        tmp_path / "theirs",
        data=values,
        chunks=ours.chunks,
        shards=ours.shards,
        compressors=COMPRESSORS[form],
        fill_value=np.nan,
        config={"write_empty_chunks": True},
    )
    assert np.array_equal(bits(ours[:]), bits(values))
    shuffled = generator.permutation(n_members)
    found = read_members(tmp_path / "ours", "v", shuffled)
    assert np.array_equal(bits(found), bits(values[shuffled]))
    for block in range(layout.n_blocks):
        written = (tmp_path / "ours" / "v" / "c" / str(block) / "0").read_bytes()
        assert written == (
            (tmp_path / "theirs" / "c" / str(block) / "0").read_bytes()
        ), f"shard {block} of {theirs.shards}"


@pytest.mark.parametrize(
    ("block_size", "chunk_members"), [(1000, 200), (256, 128), (16, 16), (251, 251)]
)
def test_inner_chunks_are_whole_members_near_one_mebibyte(block_size, chunk_members):
    variable = Variable("hydraulic_head", "m", "hydraulic head")
    layout = StoreLayout(2000, (1475,), block_size, (variable,))
    shape = layout.shard_shape(variable)
    assert shape.chunk_members == chunk_members
    assert shape.n_chunks * shape.chunk_members == block_size


def test_a_member_above_one_mebibyte_is_a_chunk_of_its_own():
    variable = Variable("v", "1", "values")
    layout = StoreLayout(64, (2**20,), 16, (variable,))
    assert layout.shard_shape(variable).chunk_members == 1


def test_xarray_opens_the_store_with_names_units_and_coordinates(full_store):
    check_names_and_units(opened_by_xarray(full_store))


def test_an_opened_ensemble_has_names_units_and_coordinates(full_store):
    check_names_and_units(open_ensemble(full_store))


def check_names_and_units(dataset):
    assert set(dataset.data_vars) == set(NAMES)
    assert dataset.hydraulic_head.dims == ("member", "cell")
    assert dataset.hydraulic_head.attrs == {
        "units": "m",
        "long_name": "hydraulic head",
    }
    assert dataset.hydraulic_head.dtype == np.float32
    assert set(dataset.coords) == {"member", "x", "y"}
    assert dataset.x.attrs["units"] == "m"
    # all zeros: Zarr would leave such a chunk out, and read it as its fill value
    assert (dataset.y.values == 0).all()
    assert dataset.attrs["title"] == "test ensemble"


def test_what_is_not_written_reads_as_nan_elsewhere(store):
    write(store, 1)
    heads = stored_values(store, "hydraulic_head")
    is_nan = np.isnan(heads).all(axis=1)
    assert np.flatnonzero(~is_nan).tolist() == [6, 7, 9, 10, 11]


def test_creating_the_same_store_again_keeps_its_members(full_store, settings):
    layout = create_store(full_store, **settings)
    assert layout == read_layout(full_store)
    assert complete_blocks(full_store) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_members": 24}, "n_members = 24; it was created with 23"),
        ({"block_size": 5}, "block_size = 5; it was created with 6"),
        ({"variables": [Variable("head", "m", "h")]}, "variables = .*'head'"),
        ({"coordinates": {"x": ("cell", np.ones(N_CELLS))}}, "coordinate x = "),
        ({"attributes": {"title": "other"}}, "attributes = .*other"),
        ({"format": "zarr-lz4"}, "format = zarr-lz4; it was created with "),
    ],
)
def test_another_layout_is_refused_and_named(store, settings, change, message):
    with pytest.raises(StagingError, match=message):
        create_store(store, **{**settings, **change})


@pytest.mark.parametrize(
    "change",
    [{"n_members": 0}, {"block_size": 0}, {"variables": []}, {"coordinates": {}}],
)
def test_an_empty_layout_is_refused(tmp_path, change):
    with pytest.raises(ValueError, match="must"):
        create_store(tmp_path / "e", **{**SETTINGS, **change})
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_another_kind_is_refused(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(StagingError, match="must be an ensemble store"):
        create_store(tmp_path, **SETTINGS)


def test_many_threads_create_one_store(tmp_path, settings):
    path = tmp_path / "ensemble"
    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(create_store, path, **settings) for _ in range(16)]
    assert {future.result() for future in futures} == {read_layout(path)}
    assert [found.name for found in tmp_path.iterdir()] == ["ensemble"]


@pytest.mark.parametrize("name", NAMES)
def test_members_come_back_bit_for_bit_in_any_order(full_store, name):
    wanted = [21, 0, 5, 6, 7, 0, 19, 18, 11]
    found = read_members(full_store, name, wanted)
    assert np.array_equal(bits(found), bits(fields_of(wanted)[name]))


def test_reading_agrees_with_other_programs_on_every_good_member(full_store):
    good = [m for m in range(N_MEMBERS) if m not in FAILED]
    for name in NAMES:
        stored = stored_values(full_store, name)
        found = read_members(full_store, name, good)
        assert np.array_equal(bits(found), bits(stored[good]))


def test_reading_crosses_inner_chunks(tmp_path):
    layout = create_store(
        tmp_path / "wide",
        n_members=6,
        block_size=4,
        variables=[Variable("v", "1", "values")],
        coordinates={"x": ("cell", np.arange(150_000))},
        attributes={},
    )
    assert layout.shard_shape(layout.variables[0]).n_chunks == 2
    values = np.random.default_rng(1).random((6, 150_000), dtype=np.float32)
    for block, rows in enumerate((values[:4], values[4:])):
        seeds = layout.members(block)
        write_block(tmp_path / "wide", block, {"v": rows}, seeds=seeds, provenance={})
    found = read_members(tmp_path / "wide", "v", [5, 1, 2, 3])
    assert np.array_equal(found, values[[5, 1, 2, 3]])


def test_no_members_are_an_empty_array(store):
    assert read_members(store, "hydraulic_head", []).shape == (0, N_CELLS)


def test_reading_refuses_what_is_not_there(store):
    write(store, 1)
    with pytest.raises(ValueError, match=r"0\.\.22; got 23"):
        read_members(store, "hydraulic_head", [6, 23])
    with pytest.raises(ValueError, match=r"0\.\.22; got -1"):
        read_members(store, "hydraulic_head", [-1])
    with pytest.raises(ValueError, match=r"no variable 'head'.*hydraulic_head"):
        read_members(store, "head", [6])
    with pytest.raises(StagingError, match=r"block 0 .* manifest entry"):
        read_members(store, "hydraulic_head", [6, 0])
    with pytest.raises(StagingError, match=r"got \[8\].*solver diverged"):
        read_members(store, "hydraulic_head", [7, 8])


def test_a_shard_without_an_entry_is_not_read(full_store):
    (full_store / "manifest" / "2.json").unlink()
    with pytest.raises(StagingError, match=r"block 2 .* not trusted"):
        read_members(full_store, "hydraulic_head", [12])
    assert missing_blocks(full_store) == [2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hydraulic_head": np.zeros((5, N_CELLS))}, r"shape \(6, 7\).*got \(5, 7\)"),
        ({"hydraulic_head": np.zeros((6, 8))}, r"shape \(6, 7\).*got \(6, 8\)"),
        ({"head": np.zeros((6, N_CELLS))}, r"those of the store.*'head'"),
        ({"hydraulic_head": np.full((6, N_CELLS), np.nan)}, "finite.*got member 0"),
        ({"hydraulic_head": np.full((6, N_CELLS), np.inf)}, "finite.*got member 0"),
    ],
)
def test_a_block_that_does_not_fit_is_refused(store, change, message):
    (block, fields), named = arguments(0)
    with pytest.raises(ValueError, match=message):
        write_block(store, block, {**fields, **change}, **named)
    assert missing_blocks(store) == [0, 1, 2, 3]


def test_wrong_blocks_seeds_and_failed_members_are_refused(store):
    (_, fields), named = arguments(0)
    with pytest.raises(ValueError, match=r"block must lie in 0\.\.3; got 4"):
        write_block(store, 4, fields, **named)
    with pytest.raises(ValueError, match="6 members needs a seed; got 2"):
        write_block(store, 0, fields, **{**named, "seeds": [1, 2]})
    with pytest.raises(ValueError, match=r"ids in 0\.\.5; got 6"):
        write_block(store, 0, fields, **{**named, "failed": {6: "lost"}})


def test_failed_members_are_recorded_nan_and_left_out(full_store):
    assert failed_members(full_store) == FAILED
    stored = stored_values(full_store, "hydraulic_head")
    assert np.flatnonzero(np.isnan(stored).any(axis=1)).tolist() == [*FAILED]
    ensemble = open_ensemble(full_store)
    assert ensemble.member.values.tolist() == [
        m for m in range(N_MEMBERS) if m not in FAILED
    ]
    assert not ensemble.hydraulic_head.isnull().any()


def test_the_fields_of_the_caller_keep_their_values(store):
    positional, named = arguments(1)
    write_block(store, *positional, **named)
    assert np.isfinite(positional[1]["hydraulic_head"]).all()


def test_an_incomplete_ensemble_is_not_opened(store):
    write(store, 0)
    with pytest.raises(StagingError, match=r"3 of 4 blocks are missing.* is 1"):
        open_ensemble(store)


def test_an_opened_ensemble_is_lazy_in_whole_blocks(full_store):
    heads = open_ensemble(full_store).hydraulic_head
    assert heads.chunks is not None
    assert heads.data.chunksize == (N_MEMBERS - len(FAILED), N_CELLS)


def test_the_entry_lists_seeds_members_files_and_provenance(store):
    entry = write(store, 3)
    record = json.loads((store / "manifest" / "3.json").read_text())
    assert record["members"] == [18, 23]
    assert record["seeds"] == [18, 19, 20, 21, 22]
    assert record["failed"] == {"22": "lost worker"}
    assert record["provenance"] == {"version": "1"}
    expected = {read_layout(store).file_of(name, 3) for name in NAMES}
    assert {name for name, *_ in record["files"]} == expected
    assert verify_block(store, 3).has_same_content(entry)
    files = store_files(store, 3)
    assert files[-1] == store / "manifest" / "3.json"
    assert all(file.is_file() for file in files)
    assert sum(file.stat().st_size for file in files[:-1]) == (
        sum(stored.n_bytes for stored in entry.files)
    )


def test_seeds_wider_than_a_machine_word_are_kept(store):
    positional, named = arguments(0)
    seeds = [2**127 + m for m in range(BLOCK_SIZE)]
    write_block(store, *positional, **{**named, "seeds": seeds})
    assert list(verify_block(store, 0).seeds) == seeds


def modification_times(store):
    files = [f for f in store.rglob("*") if f.is_file()]
    return {f: (f.stat().st_mtime_ns, f.stat().st_ino) for f in files}


def test_rewriting_equal_content_touches_nothing(full_store):
    before = modification_times(full_store)
    entry = write(full_store, 1, version="2")
    assert modification_times(full_store) == before
    assert entry.provenance == {"version": "1"}


def test_rewriting_other_content_replaces_block_and_entry(full_store):
    write(full_store, 1, failed={})
    assert failed_members(full_store) == {22: FAILED[22]}
    assert np.isfinite(read_members(full_store, "hydraulic_head", [8])).all()
    verify_block(full_store, 1)


@pytest.mark.parametrize("name", NAMES)
def test_one_flipped_bit_is_found_and_healed_by_writing_again(full_store, name):
    shard = file_of(full_store, name, 1)
    content = bytearray(shard.read_bytes())
    content[10] ^= 1
    shard.write_bytes(content)
    with pytest.raises(StagingError, match=f"{shard} must have crc32c"):
        verify_block(full_store, 1)
    write(full_store, 1)
    verify_block(full_store, 1)


def test_a_lost_or_shortened_shard_counts_as_missing(full_store):
    shard = file_of(full_store, "hydraulic_head", 2)
    shard.write_bytes(shard.read_bytes()[:-1])
    assert missing_blocks(full_store) == [2]
    with pytest.raises(StagingError, match=f"{shard} must hold"):
        read_members(full_store, "hydraulic_head", [12])
    shard.unlink()
    assert complete_blocks(full_store) == [0, 1, 3]
    with pytest.raises(StagingError, match="got no file"):
        verify_block(full_store, 2)
    write(full_store, 2)
    assert missing_blocks(full_store) == []


def test_a_damaged_index_is_an_error_not_a_fill_value(full_store):
    shard = file_of(full_store, "hydraulic_head", 2)
    is_zarr = read_layout(full_store).format == "zarr"
    content = bytearray(shard.read_bytes())
    content[-10 if is_zarr else 10] ^= 1
    shard.write_bytes(content)
    with pytest.raises(StagingError, match="shard index" if is_zarr else "HDF5 file"):
        read_members(full_store, "hydraulic_head", [12])


def test_a_torn_entry_counts_as_missing(full_store):
    entry = full_store / "manifest" / "0.json"
    entry.write_text(entry.read_text()[:-20])
    assert missing_blocks(full_store) == [0]
    with pytest.raises(StagingError, match=r"manifest/0\.json must be"):
        verify_block(full_store, 0)


def test_sweep_removes_partial_files_of_shards_entries_and_creation(full_store):
    shard = file_of(full_store, "hydraulic_head", 0)
    partial = [
        shard.with_name(f"{shard.name}.{32 * '1'}.partial"),
        full_store / "manifest" / f"0.json.{32 * '1'}.partial",
    ]
    for file in partial:
        file.touch()
    abandoned = full_store.with_name(f"{full_store.name}.1.partial")
    (abandoned / "manifest").mkdir(parents=True)
    assert set(sweep_partial(full_store)) == {abandoned, *partial}
    assert complete_blocks(full_store) == [0, 1, 2, 3]
    assert not abandoned.exists()


def test_a_folder_without_a_store_is_named(tmp_path):
    with pytest.raises(StagingError, match="nothing must be an ensemble store"):
        complete_blocks(tmp_path / "nothing")


def check_full(path):
    assert complete_blocks(path) == [0, 1, 2, 3]
    good = [m for m in range(N_MEMBERS) if m not in FAILED]
    for name in NAMES:
        expected = bits(fields_of(good)[name])
        assert np.array_equal(bits(read_members(path, name, good)), expected)
        assert np.array_equal(bits(open_ensemble(path)[name].values), expected)


def write_all(pool, path, repeats=1):
    futures = [
        pool.submit(
            write_block, path, *positional, **{**named, "seeds": [*named["seeds"]]}
        )
        for positional, named in map(arguments, [*range(4)] * repeats)
    ]
    return [future.result() for future in futures]


def test_threads_write_different_blocks_at_once(store):
    with ThreadPoolExecutor(8) as pool:
        write_all(pool, store)
    check_full(store)


def test_tasks_that_run_twice_at_once_do_not_harm_each_other(store):
    with ThreadPoolExecutor(8) as pool:
        write_all(pool, store, repeats=4)
    check_full(store)


def waiting_for(lock):
    """How many wait for a file lock, as the kernel lists them."""
    lines = Path("/proc/locks").read_text().splitlines()
    return sum(" -> " in f" {x}" and f":{lock.stat().st_ino} " in x for x in lines)


def test_a_second_writer_of_other_values_is_refused(store):
    (block, fields), named = arguments(2)
    others = {name: values + 1 for name, values in fields.items()}
    with ThreadPoolExecutor(3) as pool:
        with writing(store, block) as had_to_wait:
            assert not had_to_wait
            contenders = [
                pool.submit(write_block, store, block, values, **named)
                for values in (fields, others, fields)
            ]
            while waiting_for(store / "manifest" / f"{block}.lock") < 3:
                assert not any(future.done() for future in contenders)
            assert missing_blocks(store) == [0, 1, 2, 3]
        errors = [future.exception() for future in contenders]
    refused = [error for error in errors if error]
    assert all("must have one writer" in str(error) for error in refused)
    assert len(refused) == (2 if errors[1] is None else 1)
    winner = others if errors[1] is None else fields
    good = [row for row in range(BLOCK_SIZE) if 12 + row not in FAILED]
    found = read_members(store, NAMES[0], [12 + row for row in good])
    assert np.array_equal(found, winner[NAMES[0]][good])


def test_a_writer_that_is_killed_holds_no_block(store):
    hold = "import sys, pathlib, data.ensemble_store.manifest as m\n"
    hold += "with m.writing(pathlib.Path(sys.argv[1]), 2):\n print(flush=True); input()"
    command = [sys.executable, "-c", hold, str(store)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    root = Path(__file__).parents[3]
    with subprocess.Popen(command, cwd=root, **pipes) as holder:
        holder.stdout.readline()
        holder.kill()
    assert write(store, 2).block == 2


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes_write_different_blocks_at_once(store, settings, method):
    # the parent has used Zarr, whose event loop a forked child does not inherit
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        write_all(pool, store)
        copies = pool.map(read_members, [store] * 4, NAMES * 2, [[0, 7]] * 4)
        assert [copy.shape for copy in copies] == [(2, N_CELLS)] * 4
        assert pool.submit(create_store, store, **settings).result(timeout=60)
    check_full(store)
