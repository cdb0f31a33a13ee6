"""`site-configs/cori.py` and `slurm.py`, unchanged, on a Slurm of virtual nodes."""

import signal
import subprocess
import sys
import time

import cluster_steps as steps
import pytest

from workflows.engine.driving.campaign import gather
from workflows.engine.driving.journal import read_journal
from workflows.engine.driving.tasks import Task
from workflows.engine.sites.site import load_site
from workflows.engine.watching.events import read_events

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("slurm")]


def queue(*words):
    done = subprocess.run(
        ["squeue", "-h", *words], capture_output=True, text=True, check=True
    )
    return done.stdout.split()


def test_cori_runs_on_two_nodes_of_each_kind_with_a_burst_buffer(
    campaign_on, tmp_path, monkeypatch
):
    monkeypatch.setenv("HEADRACE_BURST_BUFFER_GB", "200")
    monkeypatch.setenv("DW_JOB_STRIPED", str(tmp_path / "buffer"))
    root = load_site("cori").site.tiers[1].root
    with campaign_on("cori") as campaign:
        futures = [
            campaign.submit(
                Task(steps.meet, role=role, version="1"),
                steps.Meeting(role, member, 2, root),
            )
            for role in ("sim", "train")
            for member in range(2)
        ]
        facts = [manifest.facts for manifest in gather(futures)]
        scripts = sorted((campaign.folder / "parsl").rglob("parsl.*block-0.*"))
    nodes = [fact["SLURMD_NODENAME"] for fact in facts]
    assert set(nodes[:2]) == {"knl1", "knl2"}
    assert set(nodes[2:]) == {"hsw1", "hsw2"}
    assert {fact["SLURM_JOB_NUM_NODES"] for fact in facts} == {"2"}
    assert {fact["buffered"] for fact in facts} == {
        str(tmp_path / "buffer" / f"{role}-{member}")
        for role in ("sim", "train")
        for member in range(2)
    }
    submitted = [p.read_text() for p in scripts if not p.name.endswith(("err", "out"))]
    assert len(submitted) == 2
    assert all("#DW jobdw capacity=200GB" in script for script in submitted)


@pytest.fixture
def running(tmp_path):
    """A driver on cori, one of whose 17 tasks is recorded, and its jobs by name."""
    folder = tmp_path / "run"
    program = [sys.executable, "-m", "little_workflow", "--run-dir", str(folder)]
    settings = ["--set", "ensemble.members=16", "--set", "ensemble.seconds=1"]
    driver = subprocess.Popen(
        [*program, "--site", "cori", *settings],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    journal = folder / "journal.jsonl"
    while not journal.exists() or journal.stat().st_size == 0:
        assert driver.poll() is None, driver.communicate()
        time.sleep(0.05)  # a poll of a file that another process writes
    jobs = dict(job.split("=") for job in queue("-o", "%j=%i"))
    with driver:
        yield driver, {name.split(".")[1]: job for name, job in jobs.items()}


def test_a_run_survives_the_end_of_its_block(running, tmp_path):
    driver, jobs = running
    subprocess.run(["scancel", jobs["knl"]], check=True)
    output, error = driver.communicate(timeout=300)
    assert driver.returncode == 0, error
    assert output == f"total {sum(i * i for i in range(16))}\n"
    folder = tmp_path / "run"
    starts = [e["task"] for e in read_events(folder) if e.get("event") == "start"]
    finished = [line["task"] for line in read_journal(folder / "journal.jsonl")]
    assert len(finished) == 17
    assert len(starts) > len(finished), "the tasks of the block began again"
    assert len(list((folder / "parsl").rglob("parsl.knl.block-1.*.stdout"))) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_no_job_outlives_its_driver(running, number):
    driver, _ = running
    driver.send_signal(number)
    driver.communicate(timeout=60)
    assert driver.returncode == (130 if number == signal.SIGINT else -number)
    # their processes are looked for by every test's fixture, jobs at the very end


def test_a_failing_worker_init_shows_its_stderr(command, monkeypatch):
    lines = "echo 'module physics/7 is not known' >&2; exit 3"
    monkeypatch.setenv("HEADRACE_WORKER_INIT", lines)
    monkeypatch.setenv("HEADRACE_PARTITION", "regular")
    failed = command("little_workflow", "--site", "slurm")
    assert failed.returncode == 1
    assert "workers of executor nodes must start" in failed.stderr
    assert "module physics/7 is not known" in failed.stderr
    assert len(failed.stderr.splitlines()) < 20


def test_a_job_that_slurm_refuses_is_told_in_its_words(command, monkeypatch):
    monkeypatch.setenv("HEADRACE_PARTITION", "nowhere")
    failed = command("little_workflow", "--site", "slurm")
    assert failed.returncode == 1
    assert "sbatch must take the job; it said: sbatch: error: " in failed.stderr
    assert "invalid partition specified: nowhere" in failed.stderr
    assert len(failed.stderr.splitlines()) < 20
