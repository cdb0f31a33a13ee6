"""The ensemble of a run: a block per task, read back without what failed."""

import numpy as np
import pytest
import torch

from data.ensemble_store import Variable, create_store, store_bytes
from data.staging import bytes_by_edge
from workflows.engine.files.arrays import read_arrays, write_arrays
from workflows.engine.files.artefacts import is_intact
from workflows.engine.files.ensemble_files import (
    STORES,
    largest_file_bytes,
    read_stored,
    store_members,
    store_of,
)

DEPTH, VORTICITY = Variable("depth", "m", "depth"), Variable("vorticity", "s-1", "curl")
SHAPE, N_MEMBERS, BLOCK_SIZE = (4, 6), 5, 3


@pytest.fixture(params=STORES)
def run(request, tmp_path):
    """The folder of a run, the values of its members, and what its tasks logged."""
    store = tmp_path / STORES[request.param]
    store.parent.mkdir()
    layout = create_store(
        store,
        n_members=N_MEMBERS,
        block_size=BLOCK_SIZE,
        variables=(DEPTH, VORTICITY),
        coordinates={"lat": ("lat", np.arange(4.0)), "lon": ("lon", np.arange(6.0))},
        attributes={},
        format=request.param,
        dimensions=("lat", "lon"),
    )
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(2, N_MEMBERS, *SHAPE, generator=generator)
    values[:, 1] = torch.nan
    events, manifests = [], []
    for block in range(layout.n_blocks):
        members = layout.members(block)
        manifests.append(
            store_members(
                store,
                block,
                {
                    "depth": values[0, members.start : members.stop],
                    "vorticity": values[1, members.start : members.stop].numpy(),
                },
                seeds=members,
                failed={1: "diverged"} if block == 0 else {},
                provenance={"version": "1"},
                folder=tmp_path,
                log=events.append,
            )
        )
    return tmp_path, values, events, manifests


def test_members_come_back_without_those_that_failed(run):
    folder, values, _, _ = run
    ids, (vorticity, depth) = read_stored(folder, (VORTICITY, DEPTH), [4, 1, 0])
    assert ids.tolist() == [4, 0]
    assert torch.equal(depth, values[0, [4, 0]])
    assert torch.equal(vorticity, values[1, [4, 0]])


def test_a_block_tells_what_failed_and_what_it_wrote(run):
    folder, _, events, manifests = run
    failures = [event for event in events if event["event"] == "member failed"]
    assert failures == [{"event": "member failed", "member": 1, "cause": "diverged"}]
    moved = bytes_by_edge(events)
    assert moved == {("task", "file_system"): store_bytes(store_of(folder))}
    assert [manifest.facts["members"] for manifest in manifests] == [3, 2]
    for manifest in manifests:
        assert manifest.artefacts
        for path, item in manifest.artefacts.items():
            assert path == item.path
            assert is_intact(item, folder)


def test_the_largest_file_is_foreseen(run):
    folder, _, _, manifests = run
    form = "hdf5" if store_of(folder).suffix == ".hdf5" else "zarr"
    largest = max(item.bytes for m in manifests for item in m.artefacts.values())
    foreseen = largest_file_bytes(form, 2, BLOCK_SIZE, 24)
    assert largest <= foreseen <= largest + 2**16


def test_equal_arrays_are_equal_bytes(tmp_path):
    numbers = torch.arange(6.0).reshape(2, 3)
    for name in ("a", "b"):
        write_arrays(tmp_path / "fields" / name, x=numbers, n=np.array(3))
    first, second = ((tmp_path / "fields" / name).read_bytes() for name in ("a", "b"))
    assert first == second
    found = read_arrays(tmp_path / "fields" / "a")
    assert found["n"] == 3
    assert np.array_equal(found["x"], numbers.numpy())
