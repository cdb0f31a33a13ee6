"""The shallow-water workflow as a user starts it, smaller than smoke."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from data.ensemble_store import open_ensemble
from workflows.engine.driving.journal import read_journal
from workflows.engine.watching.events import read_events

SMALL = {
    "flow.truth_truncation": 31,
    "flow.truncation": 21,
    "flow.interval_h": 12,
    "ensemble.members": 16,
    "ensemble.test_members": 4,
    "ensemble.block": 4,
    "train.networks": '["unet"]',
    "train.unet_width": 4,
    "train.unet_depth": 1,
    "train.steps": 12,
    "hybrid.width": 4,
    "hybrid.depth": 1,
    "hybrid.steps": 6,
    "steering.members": 4,
    "steering.candidates": 6,
    "steering.steps": 6,
}


@pytest.fixture(scope="module")
def job(job_of):
    return job_of("shallow_water", SMALL)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, job):
    folder = tmp_path_factory.mktemp("runs") / "undisturbed"
    done = job.start(folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_a_run_is_complete_without_the_networks_that_stopped(job_of, tmp_path):
    job = job_of("shallow_water", SMALL | {"train.learning_rate": 1e30})
    done = job.start(tmp_path / "run")
    assert done.returncode == 0, done.stderr
    metrics = job.summary_of(tmp_path / "run")["metrics"]
    assert "linear_vorticity_error_day_5_jet" in metrics
    assert not [name for name in metrics if name.startswith(("unet", "hybrid"))]
    report = (tmp_path / "run" / "report.html").read_text()
    assert "3 failed models" in report
    assert "its network is left out: the training loss must stay finite" in report


def test_a_run_leaves_what_the_design_promises(undisturbed, job):
    summary = job.summary_of(undisturbed)
    assert summary["metrics"]["largest_mass_drift"]["value"] < 1e-6
    assert summary["metrics"]["failed_members"]["value"] == 0
    ensemble = open_ensemble(undisturbed / "fields" / "ensemble.zarr")
    assert dict(ensemble.sizes) == {"member": 16, "time": 13, "lat": 32, "lon": 64}
    report = (undisturbed / "report.html").read_text()
    assert "Faults: none." in report
    crate = json.loads((undisturbed / "ro-crate-metadata.json").read_text())["@graph"]
    told = {entity["@id"]: entity.get("sha256") for entity in crate}
    assert job.artefacts_of(undisturbed).items() <= told.items()


def test_the_steering_network_chooses_what_is_simulated_next(undisturbed):
    decisions = [e for e in read_events(undisturbed) if e["event"] == "decision"]
    assert [e["decision"] for e in decisions] == ["train", "train", "stop"]
    assert [e["members"] for e in decisions] == [8, 12, 12]
    lines = read_journal(undisturbed / "journal.jsonl")
    (selection,) = (line["facts"] for line in lines if "chosen" in line["facts"])
    assert set(selection["chosen"]) <= set(range(16, 22))
    assert selection["first_member"] == 8


def test_processes_give_the_metrics_and_the_bits_of_threads(undisturbed, job, tmp_path):
    done = job.start(tmp_path / "htex", "laptop_htex")
    assert done.returncode == 0, done.stderr
    assert job.summary_of(tmp_path / "htex") == job.summary_of(undisturbed)
    assert job.artefacts_of(tmp_path / "htex") == job.artefacts_of(undisturbed)


def an_epoch(events):
    return any(e["event"] == "epoch" for e in events)


@pytest.mark.slow  # four kills; Hanford's run does as much in the fast tests
def test_a_killed_run_continues_to_the_same_bits(undisturbed, job, tmp_path):
    folder = tmp_path / "killed"
    for instant in (
        job.started("simulate_block[3]"),
        an_epoch,
        job.started("select_members"),
        job.started("evaluate"),
    ):
        job.kill_when(folder, instant)
    done = job.start(folder)
    assert done.returncode == 0, done.stderr
    lines = Counter(line["key"] for line in read_journal(folder / "journal.jsonl"))
    assert max(lines.values()) == 1, "a finished task was computed again"
    assert job.summary_of(folder) == job.summary_of(undisturbed)
    assert job.artefacts_of(folder) == job.artefacts_of(undisturbed)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("flow.truncation=85", "flow.truth_truncation must be above flow.truncation"),
        ("flow.truncation=40", "flow.truncation: "),
        ("ensemble.members=130", "multiples of ensemble.block = 8; got ensemble.mem"),
        ("steering.candidates=3", "at least steering.members = 16; got 3"),
        ("steering.rounds=5", "must leave at least 4 for the first training"),
        ("flow.interval_h=5", "flow.interval_h: "),
        ('train.networks=["fno"]', "'sfno' or 'unet'"),
        ("train.unet_depth=9", "levels need latitudes in multiples of 512"),
    ],
)
def test_bad_input_is_refused_before_work_starts(option, message, tmp_path):
    program = [sys.executable, "-m", "workflows.shallow_water", "--set", option]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run(
        program,
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert message in done.stderr
    assert list(tmp_path.iterdir()) == []
