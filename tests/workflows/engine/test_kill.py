"""A driver killed at any instant: the run continues and ends in the same bits."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress

import psutil
import pytest

from workflows.engine.driving.journal import read_journal
from workflows.engine.watching.events import read_events

MEMBERS = 12


def _words(folder, site, seconds):
    program = [sys.executable, "-m", "little_workflow", "--run-dir", str(folder)]
    return [
        *program,
        *("--site", site, "--set", f"ensemble.members={MEMBERS}"),
        *("--set", f"ensemble.seconds={seconds}"),
    ]


def _kill_when(folder, words, n_finished):
    """SIGKILL the driver's process group once the journal has that many lines."""
    log = folder.with_suffix(".log").open("wb")
    driver = subprocess.Popen(words, start_new_session=True, stdout=log, stderr=log)
    journal = folder / "journal.jsonl"
    while not journal.exists() or journal.read_bytes().count(b"\n") < n_finished:
        assert driver.poll() is None, folder.with_suffix(".log").read_text()
        time.sleep(0.002)  # a poll of files that another process writes
    os.killpg(driver.pid, signal.SIGKILL)
    driver.wait()
    log.close()


def _artefacts(folder):
    files = [*(folder / "fields").glob("*.txt"), folder / "total.txt"]
    return {file.name: file.read_bytes() for file in files}


@pytest.mark.parametrize(
    ("site", "kills"),
    [
        ("laptop", [0, 1, 5]),
        pytest.param("laptop", [0, 0, 1, 2, 3, 5, 8, 11, 12], marks=pytest.mark.slow),
        pytest.param("laptop_htex", [0, 3, 9], marks=pytest.mark.slow),
    ],
)
def test_killed_run_continues_to_the_same_bits(tmp_path, site, kills):
    words = _words(tmp_path / "straight", site, 0.05)
    subprocess.run(words, check=True, capture_output=True)
    folder = tmp_path / "killed"
    words = _words(folder, site, 0.05)
    finished = set()
    for n_finished in kills:
        _kill_when(folder, words, n_finished)
        finished |= {r["task"] for r in read_journal(folder / "journal.jsonl")}
    ended = subprocess.run(words, check=True, capture_output=True, text=True)
    assert ended.stdout == f"total {sum(i * i for i in range(MEMBERS))}\n"
    assert _artefacts(folder) == _artefacts(tmp_path / "straight")
    lines = Counter(r["task"] for r in read_journal(folder / "journal.jsonl"))
    assert len(lines) == MEMBERS + 1
    assert set(lines.values()) == {1}, "no finished task ran again"
    _assert_nothing_started_after_its_line(folder)


def _assert_nothing_started_after_its_line(folder):
    ends = {r["task"]: r["finished"] for r in read_journal(folder / "journal.jsonl")}
    events = read_events(folder)
    late = [
        event["task"]
        for event in events
        if event.get("event") == "start" and event["time"] > ends[event["task"]]
    ]
    assert late == []


def _living(session):
    """Processes of a session that have not ended (zombies have)."""
    living = []
    for process in psutil.process_iter():
        with suppress(ProcessLookupError, psutil.NoSuchProcess):
            is_ours = os.getsid(process.pid) == session
            if is_ours and process.status() != psutil.STATUS_ZOMBIE:
                living.append(process)
    return living


def _assert_all_end(session, seconds):
    deadline = time.monotonic() + seconds
    while (left := _living(session)) and time.monotonic() < deadline:
        psutil.wait_procs(left, timeout=1)
    for process in left:
        process.kill()
    assert left == [], "processes outlived their driver"


def _started(folder, words, log):
    """A driver with a session of its own, one task of which is recorded."""
    driver = subprocess.Popen(words, start_new_session=True, stderr=log, stdout=log)
    journal = folder / "journal.jsonl"
    while not journal.exists() or journal.stat().st_size == 0:
        assert driver.poll() is None
        time.sleep(0.002)  # a poll of files that another process writes
    return driver


@pytest.mark.parametrize("site", ["laptop", "laptop_htex"])
@pytest.mark.parametrize(
    "signals",
    [[signal.SIGINT] * 3, pytest.param([signal.SIGTERM], marks=pytest.mark.slow)],
)
def test_interrupted_run_ends_at_once_leaves_nothing_and_continues(
    tmp_path, site, signals
):
    folder = tmp_path / "run"
    with (tmp_path / "log").open("wb") as log:
        words = _words(folder, site, 1.0)
        driver = _started(folder, words, log)
        for number in signals:  # as a terminal does it: to every process of the group
            with suppress(ProcessLookupError):
                os.killpg(driver.pid, number)
        assert driver.wait(timeout=10) == 130
    _assert_all_end(driver.pid, 10)
    text = (tmp_path / "log").read_text()
    assert f"python -m little_workflow --run-dir {folder}" in text
    assert "Traceback" not in text
    done = len(read_journal(folder / "journal.jsonl"))
    assert done < MEMBERS
    words = _words(folder, "laptop", 1.0)
    ended = subprocess.run(words, check=True, capture_output=True, text=True)
    assert f"{MEMBERS + 1 - done} tasks computed, {done} reused" in ended.stderr


def test_nothing_outlives_a_driver_that_is_killed_alone(tmp_path):
    folder = tmp_path / "run"
    with (tmp_path / "log").open("wb") as log:
        driver = _started(folder, _words(folder, "laptop_htex", 0.5), log)
        driver.kill()
        driver.wait()
    _assert_all_end(driver.pid, 15)


@pytest.mark.parametrize("begun", ["submit_scripts/*.sh.ec", "*/*/*/manager.log"])
def test_nothing_outlives_a_driver_that_is_killed_while_workers_start(tmp_path, begun):
    folder = tmp_path / "run"
    with (tmp_path / "log").open("wb") as log:
        words = _words(folder, "laptop_htex", 0.5)
        driver = subprocess.Popen(words, start_new_session=True, stdout=log, stderr=log)
        while not [*(folder / "parsl").glob(f"*/{begun}")]:
            assert driver.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.002)  # a poll of files that another process writes
        driver.kill()
        driver.wait()
    _assert_all_end(driver.pid, 15)


def test_continuation_sweeps_what_killed_processes_left(tmp_path, command):
    assert command("--run-dir", "run", "--size", "smoke").returncode == 0
    folder = tmp_path / "run"
    attempt = folder / "checkpoints" / "rank-1a2b_3c4"
    attempt.mkdir(parents=True)
    (attempt / "call.json").touch()
    (folder / "checkpoints" / "network.pt").touch()
    unfinished = f"{32 * '0'}.partial"
    (folder / "fields" / f"0.txt.{unfinished}").touch()
    (folder / f"total.txt.{unfinished}").touch()
    store = folder / "fields" / f"ensemble.zarr.{unfinished}"
    (store / "manifest").mkdir(parents=True)
    (store / "manifest" / "store.json").touch()
    done = command("--run-dir", "run")
    assert done.returncode == 0, done.stderr
    assert [p.name for p in (folder / "checkpoints").iterdir()] == ["network.pt"]
    assert list(folder.rglob("*.partial")) == []


def test_sweep_leaves_what_is_the_users(tmp_path, command):
    assert command("--run-dir", "run", "--size", "smoke").returncode == 0
    folder = tmp_path / "run"
    kept = [
        folder / "my-analysis" / f"0.{32 * '0'}.partial",
        folder / "my-analysis" / "rank-1a2b_3c4",
        folder / "fields" / "thesis.partial",
        folder / "checkpoints" / "rank-order" / "notes.txt",
        tmp_path / "elsewhere" / f"0.{32 * '0'}.partial",
        tmp_path / "elsewhere" / "rank-1a2b_3c4" / "notes.txt",
    ]
    for path in kept:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (folder / "figures").symlink_to(tmp_path / "elsewhere")
    (folder / "checkpoints" / "linked").symlink_to(tmp_path / "elsewhere")
    assert command("--run-dir", "run").returncode == 0
    assert [path for path in kept if not path.exists()] == []
