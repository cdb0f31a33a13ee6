"""The main job as a user starts it, at smoke size and smaller."""

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from data.ensemble_store import open_ensemble, store_bytes
from data.staging import bytes_by_edge
from workflows.engine.driving.journal import read_journal
from workflows.engine.files.staging import run_tiers
from workflows.engine.sites.site import local_tiers
from workflows.engine.watching.events import read_events

SMALL = {
    "ensemble.members": 40,
    "ensemble.test_members": 20,
    "ensemble.block": 10,
    "train.members": "[10,20]",
    "train.steps": 12,
    "train.batch_size": 5,
    "pigan.snapshots": 20,
    "pigan.log_transmissivity_sensors": 10,
    "pigan.head_sensors": 12,
    "pigan.terms": 100,
    "pigan.steps": 60,
    "pigan.generated_members": 100,
    "pigan.inversions": 10,
}


@pytest.fixture(scope="module")
def job(job_of):
    """On synthetic data: the published ones may not be here."""
    return job_of("hanford", SMALL)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, job):
    folder = tmp_path_factory.mktemp("runs") / "undisturbed"
    done = job.start(folder)
    assert done.returncode == 0, done.stderr
    return folder, done


def test_the_first_line_says_that_the_aquifer_is_synthetic(undisturbed, job):
    folder, done = undisturbed
    assert done.stdout.splitlines()[0].startswith("aquifer: SYNTHETIC")
    assert job.summary_of(folder)["aquifer"] == "synthetic"
    assert "SYNTHETIC" in (folder / "report.html").read_text()


def test_a_run_is_complete_without_the_models_whose_training_stopped(job_of, tmp_path):
    steep = {"train.learning_rate": 1e30, "pigan.learning_rate": 1e30}
    job = job_of("hanford", SMALL | steep)
    done = job.start(tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert "head error on test members: mean" in done.stdout
    assert "network" not in done.stdout.splitlines()[1]
    assert "stopped itself and left no generator" in done.stdout
    summary = job.summary_of(tmp_path / "run")
    assert summary["status"] == "complete"
    assert not [name for name in summary["metrics"] if name.startswith("network")]
    report = (tmp_path / "run" / "report.html").read_text()
    assert "3 failed models" in report
    for cause in ("must stay finite; that ended in epoch 1", "no checkpoint yet"):
        assert cause in done.stdout  # of the generator
    assert "(now 1e+30)" in report  # of the networks, with what to lower


def test_a_run_leaves_what_the_design_promises(undisturbed, job):
    folder, _ = undisturbed
    metrics = job.summary_of(folder)["metrics"]
    assert metrics["network_head_rmse"]["baselines"].keys() == {
        "mean",
        "ridge",
        "untrained",
    }
    assert metrics["pigan_head_spread_error"]["baselines"].keys() == {
        *("simulation", "gaussian", "interpolation", "inversion"),
        *("few_simulated", "few_generated"),
    }
    assert metrics["pigan_consistency"]["value"] < 1e-4  # fields are stored as float32
    low, high = metrics["network_head_rmse"]["interval"]
    assert low < metrics["network_head_rmse"]["value"] < high
    ensemble = open_ensemble(folder / "fields" / "ensemble.zarr")
    assert dict(ensemble.sizes) == {"member": 40, "cell": 1500}
    assert ensemble.hydraulic_head.attrs["units"] == "m"
    names = {path.name for path in (folder / "figures").iterdir()}
    assert names == {
        f"{name}.png"
        for name in (
            *("site", "fields", "interval", "correlation"),
            *("pairs", "training", "learning", "cost"),
            *("generator_log_transmissivity", "generator_hydraulic_head"),
            *("generated_pairs", "generator_correlation", "generator_spread"),
            *("generator_training", "timeline"),
        )
    }
    assert "Faults: none." in (folder / "report.html").read_text()
    crate = json.loads((folder / "ro-crate-metadata.json").read_text())["@graph"]
    told = {entity["@id"]: entity.get("sha256") for entity in crate}
    assert job.artefacts_of(folder).items() <= told.items()


def test_a_run_moves_each_byte_once_and_says_so(undisturbed, job):
    folder, _ = undisturbed
    n_bytes = store_bytes(folder / "fields" / "ensemble.zarr")
    expected = {("task", "file_system"): n_bytes}
    fast = local_tiers()[:-1]
    if fast:  # this computer has memory to spare
        expected["file_system", "memory"] = n_bytes
    assert bytes_by_edge(read_events(folder)) == expected
    assert "<h2>Staging</h2>" in (folder / "report.html").read_text()
    for tier in run_tiers(folder, local_tiers())[:-1]:
        assert not Path(tier.root).exists()


def test_processes_give_the_metrics_and_the_bits_of_threads(undisturbed, job, tmp_path):
    folder, _ = undisturbed
    on_processes = tmp_path / "htex"
    done = job.start(on_processes, "laptop_htex")
    assert done.returncode == 0, done.stderr
    assert job.summary_of(on_processes) == job.summary_of(folder)
    assert job.artefacts_of(on_processes) == job.artefacts_of(folder)


@pytest.mark.slow
def test_hdf5_files_give_the_metrics_of_zarr(undisturbed, job, tmp_path):
    folder = tmp_path / "hdf5"
    done = job.start(folder, settings={**SMALL, "store.format": "hdf5"})
    assert done.returncode == 0, done.stderr
    assert job.summary_of(folder) == job.summary_of(undisturbed[0])
    ours, theirs = (job.artefacts_of(f) for f in (folder, undisturbed[0]))
    assert ours["fields/statistics.npz"] == theirs["fields/statistics.npz"]
    blocks = [path for path in ours if path.endswith(".h5")]
    assert len(blocks) == 4
    assert not [path for path in ours if "ensemble.zarr" in path]


def two_epochs(events):
    return sum("held_out_rmse_m" in e for e in events) >= 2


def an_epoch_of_the_generator(events):
    return any("moment_distance" in e for e in events)


def test_a_killed_run_continues_to_the_same_bits(undisturbed, job, tmp_path):
    folder = tmp_path / "killed"
    for instant in (
        job.started("simulate_block"),
        two_epochs,
        an_epoch_of_the_generator,
        job.started("evaluate"),
    ):
        job.kill_when(folder, instant)
    finished = Counter(line["key"] for line in read_journal(folder / "journal.jsonl"))
    done = job.start(folder)
    assert done.returncode == 0, done.stderr
    assert f"{len(finished)} reused, 0 failed" in done.stderr
    lines = Counter(line["key"] for line in read_journal(folder / "journal.jsonl"))
    assert max(lines.values()) == 1, "a finished task was computed again"
    assert job.summary_of(folder) == job.summary_of(undisturbed[0])
    assert job.artefacts_of(folder) == job.artefacts_of(undisturbed[0])


def test_an_altered_network_is_made_again(undisturbed, job, tmp_path):
    folder = tmp_path / "altered"
    shutil.copytree(undisturbed[0], folder)
    path = folder / "checkpoints" / "network_20.pt"
    good = path.read_bytes()
    altered = bytearray(good)
    altered[len(good) // 2] ^= 1
    path.write_bytes(altered)
    done = job.start(folder)
    assert done.returncode == 0, done.stderr
    assert path.read_bytes() == good
    assert job.summary_of(folder) == job.summary_of(undisturbed[0])


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--set=ensemble.member=3", "Did you mean ensemble.members?"),
        ("--set=train.members=[5000]", "must lie between 10 and the 2000"),
        ("--set=prior.n_observations=20", "10, 50 or 100"),
        ("--set=train.members=[80,40]", "train.members must increase; got [80, 40]"),
        ("--set=train.learning_rate=inf", "train.learning_rate: "),
        ("--set=problem=sideways", "'forward', 'inverse' or 'mixed'"),
        ("--set=pigan.snapshots=100", "one for four of the 523 sensors; got 100"),
        ("--set=pigan.log_transmissivity_sensors=1400", "must have at most 1"),
        ("--set=pigan.terms=5000", "pigan.terms must be at most the 1"),
        ("--set=pigan.snapshots=3000", "at most the 2000 members"),
        ("--set=pigan.inversions=3", "must be 0, or 10 to the 1000 snapshots; got 3"),
        ("--set=prior.variance=2.0", "must be given together; got 2.0 and None"),
        (
            "--measurements=nowhere.csv",
            "a table of cells and ln T; got nowhere",
        ),
        ("--data=/nowhere", "needs bc_1x.mat with sha256 ac7c7b39"),
    ],
)
def test_bad_input_is_refused_before_work_starts(option, message, tmp_path):
    program = [sys.executable, "-m", "workflows.hanford", option]
    root = Path(__file__).parents[3]
    environment = {**os.environ, "PYTHONPATH": str(root)}
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
