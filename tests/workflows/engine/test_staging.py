"""Tiers of a run: part of no result and no key, and gone with the run."""

import fcntl
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from data.ensemble_store import MemberReader, Variable, create_store, write_block
from data.staging import Tier, bytes_by_edge
from workflows.engine.driving.journal import task_key
from workflows.engine.driving.tasks import Call
from workflows.engine.files.staging import (
    TIERS,
    fast_files,
    held_tiers,
    require_capacity,
    run_tiers,
    tiers_to_json,
)
from workflows.engine.pages.run_sections import describe_staging

CHECKOUT = Path(__file__).parents[3]


@pytest.fixture
def tiers(tmp_path):
    memory = Tier("memory", str(tmp_path / "memory"), 10**6, True, "node")
    return memory, Tier("file_system", ".", None, False, "site")


@pytest.fixture
def run(tmp_path):
    """A run folder with a store of one block."""
    folder = tmp_path / "runs" / "a"
    folder.mkdir(parents=True)
    store = folder / "ensemble.zarr"
    create_store(
        store,
        n_members=4,
        block_size=4,
        variables=[Variable("v", "1", "values")],
        coordinates={"x": ("cell", np.arange(5))},
        attributes={},
    )
    rows = np.arange(20, dtype=np.float32).reshape(4, 5)
    entry = write_block(store, 0, {"v": rows}, seeds=range(4), provenance={})
    return folder, store, rows, entry.files[0].n_bytes


def copies(tmp_path):
    files = (tmp_path / "memory").rglob("*")
    return [p for p in files if p.is_file() and p.name not in {".lock"}]


def read(folder, store, events):
    with (
        fast_files(folder, store, events.append) as open_file,
        MemberReader(store, "v", open_file) as reader,
    ):
        return reader.read([3, 0, 1])


def test_tiers_are_part_of_no_key(tiers):
    call = Call("a[0]", "m:step", "1", "m:Record", "{}", 0, "folder", None, "[]")
    elsewhere = replace(call, tiers=tiers_to_json(tiers))
    assert task_key(call, {}) == task_key(elsewhere, {})


def test_members_are_the_same_with_and_without_a_fast_tier(
    tmp_path, run, tiers, monkeypatch
):
    folder, store, rows, n_bytes = run
    events = []
    monkeypatch.delenv(TIERS, raising=False)
    assert np.array_equal(read(folder, store, events), rows[[3, 0, 1]])
    assert events == []
    monkeypatch.setenv(TIERS, tiers_to_json(tiers))
    for _ in range(2):  # copied by the first only
        assert np.array_equal(read(folder, store, events), rows[[3, 0, 1]])
    assert bytes_by_edge(events) == {("file_system", "memory"): n_bytes}
    assert [path.stat().st_size for path in copies(tmp_path)] == [n_bytes]


def test_a_damaged_copy_is_not_what_a_task_reads(tmp_path, run, tiers, monkeypatch):
    folder, store, rows, _ = run
    monkeypatch.setenv(TIERS, tiers_to_json(tiers))
    read(folder, store, [])
    copies(tmp_path)[0].write_bytes(b"other")
    events = []
    assert np.array_equal(read(folder, store, events), rows[[3, 0, 1]])
    assert {"event": "corrupt replica"}.items() <= events[0].items()


def test_a_run_takes_its_copies_with_it(tmp_path, run, tiers, monkeypatch):
    folder, store, _, _ = run
    monkeypatch.setenv(TIERS, tiers_to_json(tiers))
    with held_tiers(folder, tiers, lambda event: None):
        read(folder, store, [])
        assert len(copies(tmp_path)) == 2, "a copy, and the lock of the driver"
    assert TIERS not in os.environ
    assert list((tmp_path / "memory").iterdir()) == []


DRIVER = """
import json, sys
from pathlib import Path
from workflows.engine.files.staging import *
from workflows.engine.files.staging import _TIERS
folder, tiers = Path(sys.argv[1]), _TIERS.validate_json(sys.argv[2])
with held_tiers(folder, tiers, lambda event: None):
    with Staging(run_tiers(folder, tiers), {}, lambda event: None) as staging:
        if sys.argv[3:]:
            staging.put("only", [b"only"])
        else:
            staging.stage_out(staging.put("both", [b"both"])).result()
            staging.promote(staging.put("both", [b"both"]))
    print(flush=True)
    input()
"""


def kill_a_driver(folder, tiers, *words):
    command = [sys.executable, "-c", DRIVER, str(folder), tiers_to_json(tiers), *words]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd=CHECKOUT, **pipes) as driver:
        assert driver.stdout.readline() == b"\n"
        yield
        driver.kill()
    yield


def test_the_next_run_clears_what_a_killed_one_left(tmp_path, run, tiers):
    for name in ("killed", "next"):
        (tmp_path / "runs" / name).mkdir()
    driver = kill_a_driver(tmp_path / "runs" / "killed", tiers)
    next(driver)
    with held_tiers(tmp_path / "runs" / "next", tiers, lambda event: None):
        assert [p.name for p in copies(tmp_path) if p.suffix != ".driver"] == ["both"]
    next(driver)
    with held_tiers(tmp_path / "runs" / "next", tiers, lambda event: None):
        pass
    assert list((tmp_path / "memory").iterdir()) == []
    assert (tmp_path / "runs" / "killed" / "both").read_bytes() == b"both"


def test_the_only_copy_of_a_killed_run_stays_for_its_continuation(tmp_path, tiers):
    for name in ("killed", "next"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    driver = kill_a_driver(tmp_path / "runs" / "killed", tiers, "only")
    next(driver)
    next(driver)
    with held_tiers(tmp_path / "runs" / "next", tiers, lambda event: None):
        pass
    kept = [p for p in copies(tmp_path) if p.suffix != ".driver"]
    assert [p.read_bytes() for p in kept] == [b"only"]
    continued = run_tiers(tmp_path / "runs" / "killed", tiers)
    assert kept[0].parent == Path(continued[0].root)


def test_a_quota_below_the_largest_file_is_refused_before_work(tiers):
    require_capacity(tiers, 10**6)
    with pytest.raises(ValueError, match=r"tier memory .* 1000001 bytes; its quota"):
        require_capacity(tiers, 10**6 + 1)


def test_the_report_sets_moved_bytes_beside_the_fewest_possible():
    moved = {"event": "moved", "source": "task", "target": "file_system"}
    events = [{**moved, "bytes": 2_000_000}, {**moved, "bytes": 1_000_000}]
    section = describe_staging([*events, {"event": "corrupt replica"}], 2_500_000)
    assert section.tables[0].rows == [["task → file_system", 3.0, 2.5]]
    assert section.text[1] == "1 corrupt replicas were fetched again."


def test_each_run_has_folders_of_its_own(tmp_path, tiers):
    with_fallback = replace(tiers[0], root="${NVME}", fallback="/spare")
    first, last = run_tiers(tmp_path / "a", (with_fallback, tiers[1]))
    other, _ = run_tiers(tmp_path / "b" / "a", (with_fallback, tiers[1]))
    assert first.root.startswith("${NVME}/a-")
    assert first.fallback.startswith("/spare/a-")
    assert first.root != other.root
    assert last.root == str(tmp_path / "a")


@pytest.fixture
def prepared(tmp_path, tiers):
    """The place of a fast tier, as another user may make it, and a victim's files."""
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "file").write_text("precious")
    place = Path(tiers[0].root)
    place.mkdir(mode=0o700)
    return place, victim


def held(folder, tiers):
    events = []
    folder.mkdir(parents=True, exist_ok=True)
    with held_tiers(folder, tiers, events.append):
        pass
    return [event["event"] for event in events if event["event"] == "tier left out"]


def test_a_place_that_others_can_write_to_is_left_out(
    tmp_path, tiers, prepared, run, monkeypatch, capsys
):
    place, victim = prepared
    (place / "x").symlink_to(victim)
    (place / "x.driver").write_text(str(victim))
    place.chmod(0o777)
    assert held(tmp_path / "runs" / "b", tiers) == ["tier left out"]
    told = capsys.readouterr().err
    assert told.count("warning: tier memory is not used") == 1
    folder, store, rows, _ = run
    monkeypatch.setenv(TIERS, tiers_to_json(tiers))
    events = []
    assert np.array_equal(read(folder, store, events), rows[[3, 0, 1]])
    assert [event["event"] for event in events] == ["tier left out"]
    assert (victim / "file").read_text() == "precious"


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives files away")
def test_a_place_of_another_user_is_left_out(tmp_path, tiers, prepared):
    place, _ = prepared
    os.chown(place, 65534, 65534)
    assert held(tmp_path / "runs" / "b", tiers) == ["tier left out"]


def test_what_looks_like_a_dead_run_but_is_a_link_stays(tmp_path, tiers, prepared):
    place, victim = prepared
    (place / "x").symlink_to(victim)
    (place / "x.driver").write_text(str(victim))
    held(tmp_path / "runs" / "b", tiers)
    assert (victim / "file").read_text() == "precious"


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_a_lock_that_is_no_file_is_neither_followed_nor_waited_for(
    tmp_path, tiers, prepared, kind
):
    place, victim = prepared
    folder = tmp_path / "runs" / "b"
    name = Path(run_tiers(folder, tiers)[0].root).name
    lock = place / f"{name}.driver"
    lock.symlink_to(victim / "file") if kind == "link" else os.mkfifo(lock)
    os.mkfifo(place / "z.driver")  # another run's
    assert held(folder, tiers) == ["tier left out"]
    assert (victim / "file").read_text() == "precious"


def test_copies_in_memory_are_closed_to_others(tmp_path, run, tiers, monkeypatch):
    folder, store, _, _ = run
    monkeypatch.setenv(TIERS, tiers_to_json(tiers))
    read(folder, store, [])
    own = Path(run_tiers(folder, tiers)[0].root)
    assert own.stat().st_mode & 0o077 == 0
    assert own.parent.stat().st_mode & 0o077 == 0


def test_a_lock_that_another_driver_removes_is_taken_anew(tmp_path, tiers, monkeypatch):
    """Removed between open and lock, once, as a driver that ends may do it."""
    folder = tmp_path / "runs" / "b"
    folder.mkdir(parents=True)
    root = Path(run_tiers(folder, tiers)[0].root)
    lock, flock, removed = root.with_name(f"{root.name}.driver"), fcntl.flock, []

    def removing(stream, how):
        if how == fcntl.LOCK_SH and not removed:
            removed.append(lock.unlink())
            root.rmdir()
        flock(stream, how)

    monkeypatch.setattr(fcntl, "flock", removing)
    with held_tiers(folder, tiers, lambda event: None):
        assert removed
        assert lock.exists()
        assert root.is_dir()
    assert not lock.exists()
    assert not root.exists()
