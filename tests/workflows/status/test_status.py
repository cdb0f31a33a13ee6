"""`status` on real runs: complete, running, failed, killed; and on none."""

import json
import os
import signal
import subprocess
import sys
import time
import traceback
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from workflows.engine.watching.events import event_log
from workflows.status.command import application
from workflows.status.reading import Reader
from workflows.status.verdict import judge, root_cause

CHECKOUT = Path(__file__).parents[3]
PROGRAMS = CHECKOUT / "tests" / "workflows" / "engine" / "programs"
MEMBERS = 6


def status(*words):
    return CliRunner().invoke(application, [str(word) for word in words])


def answer(folder):
    return json.loads(status(folder, "--json").stdout)


@pytest.fixture
def words(tmp_path, monkeypatch):
    """The command line of the test workflow in `tmp_path`, with more words."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{PROGRAMS}{os.pathsep}{CHECKOUT}")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("COLUMNS", "200")
    program = [sys.executable, "-m", "little_workflow", "--site", "laptop"]
    members = ["--set", f"ensemble.members={MEMBERS}"]
    return lambda *more: [*program, *members, *more]


@contextmanager
def driver(words, folder, n_finished):
    """A driver in a session of its own that has finished so many tasks."""
    process = subprocess.Popen(
        [*words, "--run-dir", str(folder)],
        start_new_session=True,
        stderr=subprocess.PIPE,
    )
    journal = folder / "journal.jsonl"
    while not journal.exists() or journal.read_bytes().count(b"\n") < n_finished:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.002)  # a poll of files that another process writes
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def contents(folder):
    return {
        path: (path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_complete_run_is_told_and_left_as_it_is(words, tmp_path):
    subprocess.run(words(), check=True, capture_output=True)
    [folder] = (tmp_path / "runs" / "little").iterdir()
    before = contents(folder)
    told = status()  # the newest below runs/
    assert told.exit_code == 0, told.output
    assert told.output.splitlines()[0] == f"{folder}: complete"
    assert f"report: {folder / 'report.html'}" in told.output
    found = answer(tmp_path / "runs" / "little")
    assert found["status"] == "complete"
    assert found["continue"] is None
    assert found["finished_tasks"] == MEMBERS + 1
    square = found["stages"]["square"]
    assert square["submitted"] == square["done"] == MEMBERS
    assert square["tasks_per_s"] > 0
    assert contents(folder) == before

    words_again = words("--run-dir", str(folder))
    subprocess.run(words_again, check=True, capture_output=True)
    again = answer(folder)["stages"]["square"]
    assert (again["done"], again["reused"]) == (0, MEMBERS)


def test_running_then_killed_then_continued(words, tmp_path, monkeypatch):
    # tests of clusters put the programs on the path, where a user has none
    elsewhere = [place for place in sys.path if place != str(PROGRAMS)]
    monkeypatch.setattr(sys, "path", elsewhere)
    folder = tmp_path / "run"
    slow = words("--set", "ensemble.seconds=0.2")
    with driver(slow, folder, n_finished=2):
        reader = Reader(folder)
        assert reader.look().status == "running"
        told = status(folder)
        assert told.exit_code == 0
        assert f"{folder}: running for " in told.output
    verdict = reader.look()
    assert verdict.status == "killed"
    assert reader.state.stages["square"].n_running == 0
    told = status(folder)
    assert told.exit_code == 1
    lines = (folder / "journal.jsonl").read_bytes().count(b"\n")
    assert f"{lines} finished tasks are kept. To continue:" in told.output
    command = f"cd {PROGRAMS} && python -m little_workflow --run-dir {folder}"
    assert told.output.splitlines()[-1].strip() == command
    found = answer(folder)
    assert found["stages"]["square"]["done"] == lines
    assert found["continue"] == command

    subprocess.run([*slow, "--run-dir", str(folder)], check=True, capture_output=True)
    assert reader.look().status == "complete"
    assert reader.state.stages["square"].reused == lines
    assert reader.n_finished == MEMBERS + 1


def test_follow_ends_with_the_run(words, tmp_path):
    folder = tmp_path / "run"
    slow = words("--set", "ensemble.seconds=0.3")
    with driver(slow, folder, n_finished=1):
        told = status(folder, "--follow", "--json")
    assert told.exit_code == 0, told.output
    found = json.loads(told.stdout)
    assert found["status"] == "complete"
    assert found["stages"]["square"]["done"] == MEMBERS


def test_failed_run_tells_its_cause_until_it_is_continued(words, tmp_path):
    folder = tmp_path / "run"
    failing = [*words("--set", "failure=refuse"), "--run-dir", str(folder)]
    assert subprocess.run(failing, check=False, capture_output=True).returncode == 1
    told = status(folder)
    assert told.exit_code == 1
    assert told.output.splitlines()[0] == f"{folder}: failed"
    assert "ValueError: value must be even; got 7." in told.output
    assert "path: total[0] <- refuse[0]" in told.output
    assert "Traceback" not in told.output
    found = answer(folder)
    assert found["cause"].startswith("ValueError: value must be even; got 7.")
    assert found["stages"]["refuse"]["failed"] == 1
    assert [event["task"] for event in found["failures"]] == ["refuse[0]"]
    os.utime(folder / "run.json")  # as a continuation that is killed leaves it
    assert answer(folder)["status"] == "killed"


def test_no_run_exits_2_and_names_those_that_exist(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    none = status("elsewhere")
    assert none.exit_code == 2
    assert "RUN must be the folder of a run" in none.stderr
    assert none.stderr.strip().endswith("Runs here: none.")
    run = tmp_path / "runs" / "little" / "20260101-000000-smoke"
    run.mkdir(parents=True)
    (run / "run.json").write_text("{")
    assert str(run.relative_to(tmp_path)) in status("elsewhere").stderr
    damaged = status()
    assert damaged.exit_code == 2
    assert "run.json must be JSON" in damaged.stderr


def test_run_on_another_host_lives_as_long_as_it_has_news(tmp_path):
    (tmp_path / "run.json").touch()
    (tmp_path / "lock").write_text("process 1 on a-node-of-a-cluster\n")
    assert judge(tmp_path, 1000.0, 1060.0).status == "running"
    assert judge(tmp_path, 1000.0, 1500.0).status == "killed"
    assert judge(tmp_path, None, 1000.0).status == "killed"
    (tmp_path / "summary.json").touch()
    assert judge(tmp_path, 1000.0, 1060.0).status == "complete"


def test_process_that_only_has_the_drivers_number_does_not_drive(tmp_path):
    import socket

    (tmp_path / "run.json").touch()
    lock = f"process {os.getpid()} on {socket.gethostname()}\n"
    (tmp_path / "lock").write_text(lock)
    assert judge(tmp_path, 1000.0, 1000.0).status == "killed"


def test_lock_that_is_a_link_says_nothing(tmp_path):
    (tmp_path / "run.json").touch()
    (tmp_path / "elsewhere").write_text("process 1 on a-node-of-a-cluster\n")
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    assert judge(tmp_path, 1000.0, 1060.0).status == "killed"


def test_root_cause_is_what_follows_the_last_frame():
    def fail():
        error = ValueError("n must be > 1; got 0.\n  choose another")
        error.add_note("in task square[0]")
        raise error from OSError("first")

    with pytest.raises(ValueError, match="must be") as caught:
        fail()
    trace = "".join(traceback.format_exception(caught.value))
    assert root_cause(trace) == (
        "ValueError: n must be > 1; got 0.\n  choose another\nin task square[0]"
    )
    assert root_cause("KeyError: 'a'\n") == "KeyError: 'a'"


def write_run(folder):
    names = ("workflow", "run_id", "size", "seed", "config", "inputs", "versions")
    run = dict.fromkeys(names, "") | {"git": None, "continuations": []}
    run |= {"program": ["python", "own.py"], "program_folder": ""}
    (folder / "run.json").write_text(json.dumps(run | {"site": "laptop"}))


def test_invalidated_tasks_are_not_kept(tmp_path):
    write_run(tmp_path)
    lines = [{"key": k, "task": f"s[{k}]", "finished": 1.0} for k in "abc"]
    lines += [{"invalidated": ["a", "b"]}, lines[0]]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (tmp_path / "journal.jsonl").write_text(text)
    reader = Reader(tmp_path)
    reader.look()
    assert reader.n_finished == 2


def test_following_reads_only_what_is_new(tmp_path):
    log = event_log(tmp_path, "worker")
    write_run(tmp_path)
    for number in range(1000):
        log({"event": "start", "task": f"square[{number}]"})
    reader = Reader(tmp_path)
    reader.look()
    path = tmp_path / "events" / "worker.jsonl"
    n_bytes = path.stat().st_size
    path.write_bytes(b"\0" * n_bytes)  # had it been read again, nothing would remain
    log({"event": "start", "task": "last[0]"})
    reader.look()
    assert list(reader.state.stages) == ["square", "last"]


def test_status_loads_neither_parsl_nor_torch():
    program = (
        "import sys, workflows.status.command\n"
        "loaded = {'torch', 'parsl', 'numpy', 'matplotlib'} & set(sys.modules)\n"
        "assert not loaded, loaded"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=CHECKOUT)
