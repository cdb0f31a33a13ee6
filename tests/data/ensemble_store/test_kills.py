"""A store whose writer is killed at any instant: nothing torn, nothing trusted."""

import random
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from data.durable_files import StagingError
from data.ensemble_store import (
    Variable,
    complete_blocks,
    create_store,
    missing_blocks,
    read_members,
    sweep_partial,
    verify_block,
)

ROOT = Path(__file__).parents[3]
NAMES = ("hydraulic_head", "log_transmissivity")

# Writes the missing blocks of the store. Of its fsync calls the given one, if any, is
# the last thing that it does: each instant of the protocol lies between two of them.
WRITER = """
import os, signal, sys
from pathlib import Path
import numpy as np
from data.ensemble_store import missing_blocks, read_layout, write_block

path, doomed = Path(sys.argv[1]), int(sys.argv[2])
calls, sync = 0, os.fsync

def counted(descriptor):
    global calls
    calls += 1
    sync(descriptor)
    if calls == doomed:
        os.kill(os.getpid(), signal.SIGKILL)

os.fsync = counted
layout = read_layout(path)
for block in missing_blocks(path):
    seeds = layout.members(block)
    rows = [np.random.default_rng(m).random((2, *layout.shape)) for m in seeds]
    heads, log_transmissivity = np.stack(rows, axis=1)
    fields = {"hydraulic_head": heads, "log_transmissivity": log_transmissivity}
    write_block(path, block, fields, seeds=seeds, provenance={})
    print(block, flush=True)
print(calls)
"""


def create(path, n_members, block_size, n_cells, form="zarr"):
    variables = [Variable(name, "1", name) for name in NAMES]
    create_store(
        path,
        n_members=n_members,
        block_size=block_size,
        variables=variables,
        coordinates={"x": ("cell", np.arange(n_cells))},
        attributes={},
        format=form,
    )


def start_writer(path, doomed=0):
    command = [sys.executable, "-c", WRITER, str(path), str(doomed)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def run_writer(path, doomed=0):
    writer = start_writer(path, doomed)
    output, _ = writer.communicate(timeout=60)
    return writer.returncode, output.split()


def check_trusted_blocks(path):
    """Blocks with an entry are whole; the others are listed and refused."""
    missing = missing_blocks(path)
    for block in complete_blocks(path):
        entry = verify_block(path, block)
        check_values(path, entry.members)
    for block in missing:
        assert not (path / "manifest" / f"{block}.json").exists()
    return missing


def check_values(path, members):
    n_cells = read_members(path, NAMES[0], []).shape[1]
    expected = [np.random.default_rng(m).random((2, n_cells)) for m in members]
    for row, name in enumerate(NAMES):
        rows = np.stack(expected)[:, row].astype(np.float32)
        assert np.array_equal(read_members(path, name, members), rows)


def files_of(path):
    """Contents of what writers write; `index.h5` holds the time of its creation."""
    files = [f for f in path.rglob("*") if f.is_file() and f.name != "index.h5"]
    return {f.relative_to(path): f.read_bytes() for f in files}


@pytest.mark.parametrize(
    ("form", "n_blocks", "n_files"), [("zarr", 2, 3), ("hdf5", 1, 2)]
)
def test_a_kill_after_any_fsync_leaves_blocks_that_are_whole_or_missing(
    tmp_path, form, n_blocks, n_files
):
    whole = tmp_path / "whole"
    create(whole, n_members=2 * n_blocks, block_size=2, n_cells=5, form=form)
    code, output = run_writer(whole)
    assert code == 0
    n_calls = int(output[-1])
    assert n_calls >= 2 * n_blocks * n_files, (
        "of each block, shards and an entry, and folders"
    )
    for doomed in range(1, n_calls + 1):
        path = tmp_path / f"killed_{doomed}"
        create(path, n_members=2 * n_blocks, block_size=2, n_cells=5, form=form)
        assert run_writer(path, doomed)[0] == -signal.SIGKILL
        # the entry of a block is renamed between the last two of its calls
        n_safe = doomed // (n_calls // n_blocks)
        assert missing_blocks(path) == [*range(n_safe, n_blocks)], f"killed at {doomed}"
        check_trusted_blocks(path)
        swept = sweep_partial(path)
        assert len(swept) <= 1
        assert run_writer(path)[0] == 0
        assert files_of(path) == files_of(whole)


def has_reached(path, block, progress):
    """Whether the writer has come to a point of its work on a block."""
    if progress == "entry":
        return (path / "manifest" / f"{block}.json").exists()
    name = "0" if progress.startswith("shard") else "0.*.partial"
    variable = NAMES[0] if progress.endswith("first") else NAMES[1]
    return any((path / variable / "c" / str(block)).glob(name))


@pytest.mark.parametrize("seed", range(4))
def test_a_writer_killed_in_full_swing_is_continued(tmp_path, seed):
    path = tmp_path / "ensemble.zarr"
    n_blocks = 64
    create(path, n_members=8 * n_blocks, block_size=8, n_cells=20_000)
    chance = random.Random(seed)
    block = chance.randrange(1, n_blocks // 4)
    progress = chance.choice(
        ["partial of the first", "shard of the first", "partial of the second", "entry"]
    )
    writer = start_writer(path)
    # no sleep: looks at the store until the writer has come that far, or further
    while not (
        has_reached(path, block, progress) or has_reached(path, block + 1, "entry")
    ):
        assert writer.poll() is None
    writer.kill()
    writer.communicate(timeout=60)
    assert writer.returncode == -signal.SIGKILL
    missing = check_trusted_blocks(path)
    assert 0 < len(missing) <= n_blocks - block
    with pytest.raises(StagingError, match=f"block {missing[0]} "):
        read_members(path, NAMES[0], [8 * missing[0]])
    sweep_partial(path)
    assert not list(path.rglob("*.partial"))
    assert run_writer(path)[0] == 0
    assert check_trusted_blocks(path) == []
