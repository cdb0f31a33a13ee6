"""The examples as a user runs them: copied to a folder of her own, on both sites."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from workflows.engine.files.run_folder import continue_command, read_run

CHECKOUT = Path(__file__).parents[2]
SMOKE = ["--size", "smoke"]


def run(words, cwd):
    return subprocess.run(
        words,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def metrics_of(folder):
    return json.loads((folder / "summary.json").read_text())["metrics"]


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A copy outside of the checkout, beside a file with the name of our package."""
    folder = tmp_path_factory.mktemp("own study")
    for path in (CHECKOUT / "examples").glob("dam_seepage.*"):
        shutil.copy(path, folder)
    (folder / "data.py").write_text("raise ImportError('of the user')")
    return folder


@pytest.fixture(scope="module")
def done(own):
    """A run in her folder, as the README says."""
    ended = run([sys.executable, "-m", "dam_seepage", *SMOKE], own)
    assert ended.returncode == 0, ended.stderr
    [folder] = (own / "runs" / "dam_seepage").iterdir()
    assert f"report: {folder / 'report.html'}" in ended.stdout
    return folder


def test_answer_is_exact_where_it_can_be_and_better_than_the_mean(done):
    metrics = metrics_of(done)
    assert metrics["largest_discharge_error"]["value"] < 1e-12
    learned = metrics["water_table_rmse"]
    assert learned["interval"][1] < learned["baselines"]["mean"]
    assert "The water table" in (done / "report.html").read_text()


def test_printed_command_continues_the_run_from_any_folder(done, tmp_path):
    command = continue_command(read_run(done), done)
    assert command.startswith("cd ")
    (done / "fields" / "block-0.npz").unlink()
    program = f'python() {{ {sys.executable} "$@"; }}; {command}'
    ended = run(["bash", "-c", program], tmp_path)
    assert "1 tasks computed, 4 reused" in ended.stderr, ended.stderr


def test_program_in_another_folder_gives_the_same_on_processes(own, done, tmp_path):
    words = [sys.executable, own / "dam_seepage.py", "--site", "laptop_htex"]
    ended = run([*words, *SMOKE, "--run-dir", "run"], tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert metrics_of(tmp_path / "run") == metrics_of(done)
    again = run([*words, "--run-dir", "run"], tmp_path)
    assert "0 tasks computed, 5 reused" in again.stderr
    command = continue_command(read_run(tmp_path / "run"), tmp_path / "run")
    assert command == (
        f"python '{own / 'dam_seepage.py'}' --run-dir {tmp_path / 'run'}"
    )


def test_example_runs_from_the_checkout(done, tmp_path):
    words = [sys.executable, "-m", "examples.dam_seepage", *SMOKE]
    ended = run([*words, "--run-dir", tmp_path / "run"], CHECKOUT)
    assert ended.returncode == 0, ended.stderr
    assert metrics_of(tmp_path / "run") == metrics_of(done)
