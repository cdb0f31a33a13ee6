"""`site-configs/summit.py`, unchanged, on stand-ins for LSF and jsrun."""

import subprocess
import sys
import time

import cluster_steps as steps
import pytest

from workflows.engine.driving.campaign import gather
from workflows.engine.driving.tasks import Task

pytestmark = pytest.mark.slow


def test_summit_asks_for_nodes_and_resource_sets(campaign_on, lsf):
    with campaign_on("summit") as campaign:
        futures = [
            campaign.submit(
                Task(steps.meet, role=role, version="1"),
                steps.Meeting(role, member, 2),
            )
            for role in ("sim", "train")
            for member in range(2)
        ]
        facts = [manifest.facts for manifest in gather(futures)]
    assert {fact["PMIX_RANK"] for fact in facts[:2]} == {"0", "1"}
    assert {fact["PMIX_RANK"] for fact in facts[2:]} == {"0", "1"}
    assert [fact["accelerator"] for fact in facts] == [None, None, "0", "0"]
    jobs = [path.read_text().splitlines() for path in sorted(lsf.glob("*.bsub"))]
    assert len(jobs) == 2
    for directives in jobs:
        assert directives[0] == "#BSUB -W 30"
        assert directives[4:] == [
            "#BSUB -alloc_flags nvme",
            "#BSUB -P m1234",
            "#BSUB -nnodes 2",
        ]
    jsrun = (lsf / "jsrun").read_text().splitlines()
    asked = sorted(line.split(" /bin/bash")[0] for line in jsrun)
    assert asked == [
        "-n 2 -r 1 -a 1 -c 42 -g 0 -b none",
        "-n 2 -r 1 -a 1 -c 42 -g 6 -b none",
    ]
    assert sorted((lsf / "killed").read_text().split()) == ["1", "2"]


@pytest.mark.usefixtures("lsf")
def test_a_failing_worker_init_shows_its_stderr(command, monkeypatch):
    lines = "echo 'module physics/7 is not known' >&2; exit 3"
    monkeypatch.setenv("HEADRACE_WORKER_INIT", lines)
    failed = command("little_workflow", "--site", "summit")
    assert failed.returncode == 1
    assert "workers of executor cpu must start" in failed.stderr
    assert "module physics/7 is not known" in failed.stderr


def test_a_job_that_lsf_refuses_is_told_in_its_words(
    command, lsf, tmp_path, monkeypatch
):
    lsf.write_text("a file where the spool folder should be")
    failed = command("little_workflow", "--site", "summit")
    assert failed.returncode == 1
    assert "bsub must take the job; it said: mkdir: cannot create" in failed.stderr


def test_a_run_survives_the_end_of_its_block(lsf, tmp_path):
    folder = tmp_path / "run"
    program = [sys.executable, "-m", "little_workflow", "--run-dir", str(folder)]
    settings = ["--set", "ensemble.members=8", "--set", "ensemble.seconds=1"]
    with subprocess.Popen(
        [*program, "--site", "summit", *settings], stdout=subprocess.PIPE, text=True
    ) as driver:
        journal = folder / "journal.jsonl"
        while not journal.exists() or journal.stat().st_size == 0:
            assert driver.poll() is None
            time.sleep(0.05)  # a poll of a file that another process writes
        [job] = [p.stem for p in lsf.glob("*.bsub") if "parsl.cpu." in p.read_text()]
        subprocess.run(["bkill", job], check=True)
        output, _ = driver.communicate(timeout=300)
    assert output == f"total {sum(i * i for i in range(8))}\n"
    assert len(list(lsf.glob("*.bsub"))) == 3


def test_a_limit_of_jobs_is_not_asked_for_more_again_and_again(
    command, lsf, monkeypatch
):
    monkeypatch.setenv("HEADRACE_BLOCKS", "3")
    monkeypatch.setenv("LSF_LIMIT", "2")  # one job on nodes of each kind
    settings = ["--set", "ensemble.members=12", "--set", "ensemble.seconds=0.5"]
    done = command("little_workflow", "--site", "summit", *settings)
    assert done.returncode == 0, done.stderr
    assert len(list(lsf.glob("*.bsub"))) == 2
    assert 1 <= (lsf / "refused").read_text().count("refused") <= 3
