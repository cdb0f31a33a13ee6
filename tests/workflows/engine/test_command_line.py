"""The command line as a user meets it: exit codes, one-line errors, continuation."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from data.calls import LostProcessError
from surrogates.distributed.launcher import TrainingError
from workflows.engine.command.endings import failures_exit_1
from workflows.engine.driving.campaign import gather
from workflows.engine.driving.journal import read_journal
from workflows.engine.driving.parsl_setup import RETRIES, retry_cost
from workflows.engine.driving.tasks import Task
from workflows.engine.files.run_folder import Request, locked, record_run
from workflows.status.verdict import root_cause

CHECKOUT = Path(__file__).parents[3]


def test_dry_run_prints_plan_and_roles_and_starts_nothing(tmp_path, command):
    done = command("--dry-run", "--size", "full", "--set", "ensemble.seconds=1.5")
    assert done.returncode == 0, done.stderr
    assert "square 100 numbers" in done.stdout
    assert "role sim   -> executor threads" in done.stdout
    assert "ensemble.seconds = 1.5" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_help_and_plan_load_no_torch():
    program = (
        "import sys, little_workflow; from typer.testing import CliRunner\n"
        "runner = CliRunner()\n"
        "text = runner.invoke(little_workflow.app, ['--help']).output\n"
        "assert 'ensemble.members' in text, text\n"
        "assert not {'torch', 'parsl', 'matplotlib'} & set(sys.modules)\n"
        "assert runner.invoke(little_workflow.app, ['--dry-run']).exit_code == 0\n"
        "assert not {'torch', 'matplotlib'} & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--size", "ful"], "unknown size ful. Did you mean full? Known: smoke, sta"),
        (["--site", "sumit"], "no site sumit; known sites: cori, frontier, laptop"),
        (
            ["--set", "ensemble.membres=3"],
            "unknown key ensemble.membres. Did you mean ensemble.members? Known: ens",
        ),
        (["--set", "ensemble=3"], "unknown key ensemble."),
        (["--set", "members"], "--set must be key=value; got members"),
        (
            ["--set", "ensemble.members=0"],
            "ensemble.members: must be greater than or equal to 1; got 0.",
        ),
        (["--config", "no.toml"], "--config must name a TOML file; got no.toml"),
        (["--run-dir", "/dev/null/run"], "must be one that can be created"),
        (["--run-dir", "/dev/null"], "must be a folder; got the file /dev/null"),
        (["--data", "no.txt"], "No such file or directory: 'no.txt'"),
        (
            ["--set", "ensemble.members=1", "--set", "ensemble.names=['a','b']"],
            "error: names must be at most 1; got 2.\n",
        ),
        (
            ["--set", "ensemble.names=40"],
            "ensemble.names: must be a list, as [40]; got 40.",
        ),
    ],
)
def test_bad_argument_exits_2_with_one_line(command, words, message):
    done = command(*words)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""


def test_settings_override_file_overrides_size(tmp_path, command):
    (tmp_path / "my.toml").write_text("[ensemble]\nmembers = 3\nnames = ['x', 'y']")
    words = ["--size", "smoke", "--config", "my.toml", "--set", "ensemble.names=['z']"]
    done = command(*words, "--run-dir", "run", "--set", "failure=no")
    assert done.returncode == 0, done.stderr
    config = json.loads((tmp_path / "run" / "run.json").read_text())["config"]
    assert config["ensemble"] == {"members": 3, "seconds": 0.0, "names": ["z"]}
    assert config["failure"] == "no"


def test_run_records_itself_and_continues(tmp_path, command):
    (tmp_path / "table.txt").write_text("1 2 3")
    done = command("--size", "smoke", "--seed", 7, "--data", "table.txt")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "total 1\n"
    [folder] = (tmp_path / "runs" / "little").iterdir()
    assert folder.name.endswith("-smoke")
    run = json.loads((folder / "run.json").read_text())
    assert (run["workflow"], run["size"], run["seed"]) == ("little", "smoke", 7)
    assert run["versions"]["python"].startswith("3.")
    assert run["versions"]["parsl"]
    assert run["inputs"]["table.txt"]["bytes"] == 5
    assert (folder / "inputs" / "table.txt").read_text() == "1 2 3"
    assert len(run["site_sha256"]) == 64

    moved = tmp_path / "moved"
    folder.rename(moved)
    (tmp_path / "table.txt").unlink()  # a run carries its inputs
    words = ["--run-dir", moved]
    again = command(*words, "--set", "ensemble.members=2", "--size", "smoke")
    assert again.returncode == 0, again.stderr
    assert again.stdout == "total 1\n"
    assert "0 tasks computed, 3 reused" in again.stderr
    continued = json.loads((moved / "run.json").read_text())
    assert [c["site"] for c in continued.pop("continuations")] == ["laptop"]
    assert continued == {k: v for k, v in run.items() if k != "continuations"}

    for contradiction, message in [
        (["--seed", 8], "seed of a continued run must stay 7; got 8"),
        (["--size", "full"], "size of a continued run must stay 'smoke'; got 'full'"),
        (
            ["--set", "ensemble.members=9"],
            "ensemble.members of a .* must stay 2; got 9",
        ),
        (["--data", "table.txt"], "a continued run has its inputs; got --data"),
    ]:
        refused = command(*words, *contradiction)
        assert refused.returncode == 2
        assert _matches(message, refused.stderr), refused.stderr
    (moved / "inputs" / "table.txt").write_text("1 2 4")
    refused = command(*words)
    assert refused.returncode == 2
    assert "inputs/table.txt of" in refused.stderr
    assert "altered or missing" in refused.stderr


def test_one_driver_per_run(tmp_path, command):
    folder = tmp_path / "run"
    folder.mkdir()
    with locked(folder):
        refused = command("--run-dir", "run", "--size", "smoke")
        assert refused.returncode == 2
        assert "is driven by process" in refused.stderr
    assert command("--run-dir", "run", "--size", "smoke").returncode == 0


def test_run_that_does_not_fit_the_disk_starts_no_task(tmp_path, command):
    refused = command("--run-dir", "run", "--set", f"bytes_needed={10**18}")
    assert refused.returncode == 1
    assert "the run needs 1000000000.00 GB free" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not (tmp_path / "run").exists()
    refused = command("--set", f"bytes_needed={10**18}")
    assert refused.returncode == 1
    assert list(tmp_path.iterdir()) == []


def test_seed_that_no_generator_takes_is_refused(tmp_path, command):
    """Torch keeps 32 bits, a second stream of a seed takes those from 2**31 on."""
    refused = command("--seed", 2**31)
    assert refused.returncode == 2
    assert "Traceback" not in refused.stderr
    assert command("--seed", 2**31 - 1, "--dry-run").returncode == 0
    assert list(tmp_path.iterdir()) == []


def test_run_that_another_began_meanwhile_is_not_mixed_with_it(tmp_path, command):
    os.mkfifo(tmp_path / "table.txt")
    words = [sys.executable, "-m", "little_workflow", "--run-dir", "run"]
    late = subprocess.Popen(
        [*words, "--data", "table.txt"], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    with (tmp_path / "table.txt").open("w"):  # opens once the late one reads it
        assert command("--run-dir", "run", "--size", "smoke").returncode == 0
    assert "which another began meanwhile" in late.communicate(timeout=60)[1]
    assert late.returncode == 2
    stored = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (stored["size"], stored["continuations"]) == ("smoke", [])


def test_first_line_says_what_begins_and_what_continues(tmp_path, command):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "lock").touch()  # killed before anything was recorded
    begun = command("--run-dir", "run", "--set", "ensemble.members=1")
    assert "run begins: size standard, seed 0, on laptop" in begun.stderr
    continued = command("--run-dir", "run")
    assert "run continues: size standard, seed 0, on laptop" in continued.stderr
    assert "warning" not in continued.stderr


def test_continuing_with_other_code_warns(tmp_path, command):
    assert command("--run-dir", "run", "--size", "smoke").returncode == 0
    path = tmp_path / "run" / "run.json"
    stored = json.loads(path.read_text())
    stored["git"] = {"commit": 40 * "f", "is_dirty": False}
    path.write_text(json.dumps(stored))
    continued = command("--run-dir", "run")
    assert continued.returncode == 0
    [warning] = [w for w in continued.stderr.splitlines() if w.startswith("warning")]
    release = stored["versions"]["headrace"]
    assert f"headrace {release}, commit ffffffffffff and continues" in warning


def test_run_of_another_workflow_is_refused(tmp_path, command):
    record_run(tmp_path, Request("weather", "smoke", {}, 0, "laptop", "", ()))
    refused = command("--run-dir", ".")
    assert refused.returncode == 2
    assert "workflow of a continued run must stay 'weather'" in refused.stderr


def test_run_of_another_release_is_refused(tmp_path):
    request = Request("little", "smoke", {}, 0, "laptop", "", ())
    record_run(tmp_path, request)
    path = tmp_path / "run.json"
    stored = json.loads(path.read_text())
    stored["versions"]["headrace"] = "0.0.1"
    path.write_text(json.dumps(stored))
    with pytest.raises(ValueError, match=r"began with, headrace 0\.0\.1; this is"):
        record_run(tmp_path, request)
    assert json.loads(path.read_text()) == stored


def test_what_was_invalidated_stays_so_if_the_run_is_killed_then(tmp_path, command):
    words = ["--run-dir", "run", "--size", "smoke"]
    assert command(*words).returncode == 0
    (tmp_path / "dying.py").write_text(
        (CHECKOUT / "site-configs" / "laptop.py")
        .read_text()
        .replace("return [Thr", "os.kill(os.getpid(), 9)\n    return [Thr")
    )
    dying = [*words, "--site", "dying.py"]
    unknown = command(*dying, "--invalidate", "squares")
    assert unknown.returncode == 2
    assert "got squares. There are: square, total." in unknown.stderr
    killed = command(*dying, "--invalidate", "square")
    assert killed.returncode == -9
    assert "3 finished tasks will be computed again" in killed.stderr
    assert not (tmp_path / "run" / "summary.json").exists()
    assert "3 tasks computed, 0 reused" in command(*words).stderr


def test_results_stand_only_while_they_are_of_a_complete_run(tmp_path, command):
    words = ["--run-dir", "run", "--size", "smoke"]
    folder = tmp_path / "run"
    results = [folder / "summary.json", folder / "report.html"]
    (tmp_path / "half.py").write_text(
        (CHECKOUT / "site-configs" / "laptop.py")
        .read_text()
        .replace("return [Thr", "raise OSError('no node answers')\n    return [Thr")
    )
    assert command(*words).returncode == 0
    assert all(path.exists() for path in results)
    (folder / "fields" / "1.txt").write_text("altered")
    assert command(*words, "--site", "half.py").returncode == 1
    assert (folder / "failure.txt").exists()
    assert not any(path.exists() for path in results)
    assert command(*words).returncode == 0
    assert not (folder / "failure.txt").exists()
    assert all(path.exists() for path in results)


def test_results_are_retracted_before_anything_is_computed_again(tmp_path, campaign_on):
    import little_steps as steps

    def run(value):
        with campaign_on() as campaign:
            gather([campaign.submit(Task(steps.square, "sim", "1"), value)])
            return summary.exists()

    summary = tmp_path / "run" / "summary.json"
    run(steps.Number(1))
    summary.touch()
    assert run(steps.Number(1)), "nothing was computed"
    assert not run(steps.Number(2))


def test_only_what_will_fail_again_is_answered_with_other_settings(tmp_path, command):
    other = "start a new run:\n  python -m little_workflow --set KEY=VALUE"
    failed = command("--run-dir", "refused", "--set", "failure=refuse")
    assert other in failed.stderr
    assert f"  python -m little_workflow --run-dir {tmp_path}" in failed.stderr
    failed = command("--run-dir", "lost", "--set", "failure=storage")
    assert failed.returncode == 1
    assert other not in failed.stderr
    assert f"  python -m little_workflow --run-dir {tmp_path}" in failed.stderr


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1M", "tmpfs", disk]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("only root may mount a small file system")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


@pytest.mark.parametrize("site", ["laptop", "laptop_htex"])
def test_full_disk_is_told_on_one_screen(small_disk, command, site):
    words = ["--run-dir", small_disk / "run", "--site", site]
    failed = command(*words, "--set", "failure=disk", "--set", "ensemble.members=1")
    assert failed.returncode == 1
    assert "No space left on device" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert len(failed.stderr.splitlines()) <= 24


@pytest.mark.parametrize("site", ["laptop", "laptop_htex"])
def test_failure_shows_its_root_cause_once_on_one_screen(tmp_path, command, site):
    words = ["--run-dir", "run", "--site", site, "--set", "failure=refuse"]
    failed = command(*words, "--set", "ensemble.members=1")
    assert failed.returncode == 1
    assert failed.stderr.count("value must be even; got 7.") == 1
    assert "path: total[0] <- refuse[0]" in failed.stderr
    assert f"--run-dir {tmp_path / 'run'}" in failed.stderr
    assert len(failed.stderr.splitlines()) <= 24
    trace = (tmp_path / "run" / "failure.txt").read_text()
    assert 'raise ValueError(f"value must be even' in trace
    assert len(read_journal(tmp_path / "run" / "journal.jsonl")) == 1


def test_import_that_fails_in_the_worker_is_the_root_cause(command):
    words = ["--site", "laptop_htex", "--set", "failure=import"]
    failed = command(*words, "--run-dir", "run", "--size", "smoke")
    assert failed.returncode == 1
    assert "ImportError: libphysics.so.7 must be on the library path" in failed.stderr
    assert len(failed.stderr.splitlines()) <= 24


def test_workers_that_cannot_start_are_explained(tmp_path, command):
    text = (CHECKOUT / "site-configs" / "laptop_htex.py").read_text()
    broken = "worker_init='module load physics/7\\nexit 3'"
    site = tmp_path / "broken.py"
    site.write_text(text.replace("worker_init=worker_environment()", broken))
    failed = command("--site", site, "--run-dir", "run", "--size", "smoke")
    assert failed.returncode == 1
    assert "workers of executor processes must start; got exit code 3" in failed.stderr
    assert "module: command not found" in failed.stderr
    assert len(failed.stderr.splitlines()) <= 24


def _matches(pattern, text):
    import re

    return re.search(pattern, text) is not None


@pytest.mark.parametrize(
    ("error", "is_permanent"),
    [
        (FileNotFoundError("no table"), True),
        (KeyError("depth"), True),
        (OSError("stale handle"), False),
        (LostProcessError("killed"), False),
        (TrainingError("killed"), False),
        (TrainingError("loss is NaN", is_deterministic=True), True),
    ],
)
def test_other_settings_are_proposed_where_no_other_try_would_help(
    error, is_permanent, tmp_path, capsys
):
    run = {"program": ["python", "study.py"], "continuations": []}
    with pytest.raises(typer.Exit), failures_exit_1(tmp_path, run):
        raise error
    assert ("other settings" in capsys.readouterr().err) == is_permanent
    assert (retry_cost(error) > RETRIES) == is_permanent


def test_the_traceback_of_a_training_process_reaches_the_run(tmp_path, capsys):
    run = {"program": ["python", "study.py"], "continuations": []}
    error = TrainingError("ValueError: n", remote_traceback="  in fit_network\n")
    with pytest.raises(typer.Exit), failures_exit_1(tmp_path, run):
        raise error
    assert "in fit_network" in (tmp_path / "failure.txt").read_text()
    assert "in fit_network" not in capsys.readouterr().err
    assert root_cause((tmp_path / "failure.txt").read_text()).endswith("ValueError: n")
