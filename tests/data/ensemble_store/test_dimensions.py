"""Stores over time, latitude and longitude: the bytes of cells, in a shape."""

import json

import h5py
import numpy as np
import pytest
import xarray as xr
import zarr

from data.durable_files import StagingError
from data.ensemble_store import (
    MemberReader,
    Variable,
    create_store,
    failed_members,
    open_ensemble,
    read_layout,
    read_members,
    verify_block,
    write_block,
)

FORMATS = ("zarr", "zarr-lz4", "hdf5")
DIMENSIONS = ("time", "lat", "lon")
SHAPE = (3, 4, 8)
N_MEMBERS, BLOCK_SIZE = 7, 3
FAILED = {4: "solver diverged"}
GOOD = [m for m in range(N_MEMBERS) if m not in FAILED]
VALUES = np.random.default_rng(0).standard_normal((N_MEMBERS, *SHAPE)).astype("f4")


def gauss_latitudes(n_lat):
    """Latitudes [degrees] of a Gauss grid, north to south."""
    sines, _ = np.polynomial.legendre.leggauss(n_lat)
    return np.degrees(np.arcsin(sines))[::-1].copy()


def coordinates_of(n_time, n_lat, n_lon):
    longitudes = np.arange(n_lon) * 360 / n_lon
    return {
        "time": ("time", np.arange(n_time) * 6.0, {"units": "h"}),
        "lat": ("lat", gauss_latitudes(n_lat), {"units": "degrees_north"}),
        "lon": ("lon", longitudes, {"units": "degrees_east"}),
    }


def create(path, **changes):
    settings = {
        "n_members": N_MEMBERS,
        "block_size": BLOCK_SIZE,
        "variables": [Variable("depth", "m", "depth of the fluid")],
        "coordinates": coordinates_of(*SHAPE),
        "attributes": {"title": "test"},
        "dimensions": DIMENSIONS,
    }
    return create_store(path, **{**settings, **changes})


def fill(path, values):
    layout = read_layout(path)
    for block in range(layout.n_blocks):
        members = layout.members(block)
        write_block(
            path,
            block,
            {"depth": values[members.start : members.stop]},
            seeds=members,
            failed={m: why for m, why in FAILED.items() if m in members},
            provenance={},
        )


@pytest.fixture(params=FORMATS)
def store(request, tmp_path):
    path = tmp_path / "ensemble"
    layout = create(path, format=request.param)
    assert layout.shape == SHAPE
    assert layout == read_layout(path)
    fill(path, VALUES)
    return path


def test_members_come_back_in_their_shape(store):
    wanted = [6, 0, 3, 3, 5]
    assert np.array_equal(read_members(store, "depth", wanted), VALUES[wanted])
    assert read_members(store, "depth", []).shape == (0, *SHAPE)
    with MemberReader(store, "depth") as reader:
        for members, batch in zip(
            [[1, 5], [0]], reader.batches([[1, 5], [0]]), strict=True
        ):
            assert np.array_equal(batch, VALUES[members])


def test_an_opened_ensemble_has_named_dimensions_and_coordinates(store):
    ensemble = open_ensemble(store)
    assert ensemble.depth.dims == ("member", *DIMENSIONS)
    assert ensemble.member.values.tolist() == GOOD
    assert np.array_equal(ensemble.depth.values, VALUES[GOOD])
    for name, (dimension, values, attributes) in coordinates_of(*SHAPE).items():
        assert ensemble[name].dims == (dimension,)
        assert np.array_equal(ensemble[name].values, values)
        assert ensemble[name].attrs == attributes
    assert ensemble.depth.attrs == {"units": "m", "long_name": "depth of the fluid"}
    assert ensemble.depth.data.chunksize == (len(GOOD), *SHAPE)
    north = ensemble.depth.sel(lat=70, method="nearest").isel(time=2, lon=1)
    assert np.array_equal(north.values, VALUES[GOOD, 2, 0, 1])


def test_other_programs_read_the_same(store):
    if read_layout(store).format == "hdf5":
        with h5py.File(store / "index.h5") as file:
            stored = file["depth"][:]
            scales = [dimension[0].name for dimension in file["depth"].dims]
        assert scales == ["/member", "/time", "/lat", "/lon"]
    else:
        stored = zarr.open_array(store / "depth", mode="r")[:]
        opened = xr.open_zarr(store, consolidated=False)
        assert opened.depth.dims == ("member", *DIMENSIONS)
    assert np.array_equal(stored[GOOD], VALUES[GOOD])
    assert np.isnan(stored[[*FAILED]]).all()
    assert failed_members(store) == FAILED


def test_a_file_has_the_bytes_that_cells_would_have(store, tmp_path):
    form = read_layout(store).format
    flat = tmp_path / "flat"
    n_cells = int(np.prod(SHAPE))
    create(
        flat,
        coordinates={"x": ("cell", np.arange(n_cells))},
        dimensions=("cell",),
        format=form,
    )
    fill(flat, VALUES.reshape(N_MEMBERS, -1))
    for block in range(read_layout(store).n_blocks):
        (ours,), (theirs,) = (verify_block(s, block).files for s in (store, flat))
        if form == "hdf5":
            assert ours.name == theirs.name == f"blocks/{block}.h5"
        else:
            assert ours.name == f"depth/c/{block}/0/0/0"
            assert (store / ours.name).read_bytes() == (flat / theirs.name).read_bytes()


@pytest.mark.parametrize(
    ("shape", "chunk_members"), [((2, 4, 8), 16), ((64, 32, 64), 2), ((9, 256, 512), 1)]
)
def test_inner_chunks_are_whole_members_near_one_mebibyte(
    tmp_path, shape, chunk_members
):
    path = tmp_path / "e"
    layout = create(
        path, n_members=64, block_size=16, coordinates=coordinates_of(*shape)
    )
    assert layout.shard_shape(layout.variables[0]).chunk_members == chunk_members
    array = zarr.open_array(path / "depth", mode="r")
    assert array.shards == (16, *shape)
    assert array.chunks == (chunk_members, *shape)


def test_a_store_that_knew_only_cells_opens(tmp_path):
    path = tmp_path / "e"
    cells = {"x": ("cell", np.arange(96))}
    create(path, coordinates=cells, dimensions=("cell",))
    file = path / "manifest" / "zarr.json"
    content = json.loads(file.read_text())
    record = content["attributes"]["layout"]
    del record["shape"], record["dimensions"], record["format"]
    file.write_text(
        json.dumps({**content, "attributes": {"layout": {**record, "n_cells": 96}}})
    )
    fill(path, VALUES.reshape(N_MEMBERS, -1))
    assert read_layout(path).shape == (96,)
    assert open_ensemble(path).depth.dims == ("member", "cell")
    create(path, coordinates=cells, dimensions=("cell",))


def test_members_of_different_grids_do_not_share_a_store(store):
    form = read_layout(store).format
    equiangular = 90 - 180 * (np.arange(4) + 0.5) / 4
    others = {
        "coordinate lat": {
            "coordinates": {**coordinates_of(*SHAPE), "lat": ("lat", equiangular)}
        },
        r"shape = \[3, 6, 12\]; .* \[3, 4, 8\]": {
            "coordinates": coordinates_of(3, 6, 12)
        },
        r"shape = \[3, 8, 4\]; .* \[3, 4, 8\]": {"dimensions": ("time", "lon", "lat")},
    }
    for named, change in others.items():
        with pytest.raises(StagingError, match=named) as refusal:
            create(store, **{"format": form, **change})
        assert len(str(refusal.value)) < 24 * 80
    fields = {"depth": np.zeros((3, 3, 6, 12), dtype=np.float32)}
    with pytest.raises(ValueError, match=r"shape \(3, 3, 4, 8\), member and time, lat"):
        write_block(store, 0, fields, seeds=range(3), provenance={})


def test_a_dimension_without_a_coordinate_is_refused(tmp_path):
    bare = {name: c for name, c in coordinates_of(*SHAPE).items() if name != "lon"}
    with pytest.raises(ValueError, match=r"dimension lon must give its size; got \[\]"):
        create(tmp_path / "e", coordinates=bare)
    two = {**coordinates_of(*SHAPE), "name": ("lat", np.arange(5))}
    with pytest.raises(ValueError, match=r"dimension lat .*; got \[4, 5\]"):
        create(tmp_path / "e", coordinates=two)
    assert list(tmp_path.iterdir()) == []
