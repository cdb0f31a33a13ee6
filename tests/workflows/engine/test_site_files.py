"""The contract of site files, and the batch scripts that they lead to.

It holds for every file of `site-configs/`, and for the files of your own that
`HEADRACE_TEST_SITES` names, separated by colons.
"""

import os
import subprocess
import sys
import threading
from pathlib import Path
from string import Template

import psutil
import pytest
from parsl.executors import HighThroughputExecutor
from parsl.providers.cluster_provider import ClusterProvider

from workflows.engine.driving.journal import Journal
from workflows.engine.driving.parsl_setup import parsl_config
from workflows.engine.sites.batch_scripts import batch_scripts
from workflows.engine.sites.site import (
    LOOPBACK,
    ROLES,
    describe_tier,
    known_sites,
    load_site,
    require_environment,
)

CHECKOUT = Path(__file__).parents[3]
SCRIPTS = Path(__file__).parent / "batch_scripts"
OWN = [path for path in os.environ.get("HEADRACE_TEST_SITES", "").split(":") if path]
SITES = [*known_sites(), *OWN]
CLUSTERS = ["cori", "frontier", "perlmutter", "slurm", "summit"]
SCHEDULER = [
    *("sbatch", "squeue", "sacct", "scancel", "srun"),
    *("bsub", "bjobs", "bkill", "jsrun", "qsub", "qstat"),
]


@pytest.fixture(autouse=True)
def scheduler(tmp_path, monkeypatch):
    """Stand-ins that note when they are called; returns the file of notes."""
    calls = tmp_path / "calls"
    calls.touch()
    for name in SCHEDULER:
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/bash\necho {name} >>{calls}\nexit 1\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    for name in [n for n in os.environ if n.startswith("HEADRACE_")]:
        monkeypatch.delenv(name)
    return calls


@pytest.fixture
def dummy(monkeypatch):
    """Sets what a site needs to dummy values, then loads it."""

    def load(name, **settings):
        for variable in load_site(name).site.needs:
            monkeypatch.setenv(variable, "dummy")
        monkeypatch.setenv("HEADRACE_ADDRESS", LOOPBACK)
        for variable, value in settings.items():
            monkeypatch.setenv(variable, value)
        return load_site(name)

    return load


def _state():
    family = [process.pid for process in psutil.Process().children(recursive=True)]
    sockets = psutil.Process().net_connections()
    return threading.active_count(), family, sockets, dict(os.environ), sys.path[:]


@pytest.mark.parametrize("name", SITES)
def test_loading_does_nothing(name, scheduler, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before, files = _state(), sorted(tmp_path.rglob("*"))
    site = load_site(name).site
    assert _state() == before
    assert sorted(tmp_path.rglob("*")) == files
    assert scheduler.read_text() == ""
    assert site.name == Path(name).stem
    assert site.status


@pytest.mark.parametrize("name", SITES)
def test_roles_and_resources_are_sane(name, dummy):
    site_file = dummy(name)
    site = site_file.site
    assert site.cores_per_node >= 1
    assert site.gpus_per_node >= 0
    assert set(site.roles) == set(ROLES)
    labels = [executor.label for executor in site_file.executors()]
    assert len(set(labels)) == len(labels)
    assert set(site.roles.values()) == set(labels), "no executor without a role"
    assert all(isinstance(word, str) and word for word in site.rank_launch_prefix)


@pytest.mark.parametrize("name", SITES)
def test_executors_are_fresh_and_not_started(name, dummy):
    site_file = dummy(name)
    before = threading.active_count()
    first, second = site_file.executors(), site_file.executors()
    assert all(a is not b for a, b in zip(first, second, strict=True))
    pools = [e for e in first + second if isinstance(e, HighThroughputExecutor)]
    assert len({id(pool.provider) for pool in pools}) == len(pools)
    assert all(pool.interchange_proc is None for pool in pools)
    assert threading.active_count() == before


@pytest.mark.parametrize("name", SITES)
def test_workers_reach_the_driver_where_the_site_says_only(name, dummy):
    site_file = dummy(name)
    for executor in site_file.executors():
        if isinstance(executor, HighThroughputExecutor):
            assert executor.address == LOOPBACK == site_file.site.address
            assert executor.loopback_address == LOOPBACK
            assert executor.encrypted


@pytest.mark.parametrize("name", SITES)
def test_a_block_that_ended_is_noticed_within_seconds(name, dummy):
    for executor in dummy(name).executors():
        if isinstance(executor, HighThroughputExecutor):
            assert executor.status_polling_interval <= 10
            assert 0 < executor.heartbeat_period <= 30


@pytest.mark.parametrize("name", SITES)
def test_tiers_run_from_fast_to_lasting(name, dummy):
    tiers = dummy(name).site.tiers
    names = [tier.name for tier in tiers]
    order = ["memory", "nvme", "burst_buffer", "file_system"]
    assert names == [known for known in order if known in names]
    for tier in tiers:
        assert tier.capacity_bytes is None or tier.capacity_bytes > 0
        assert tier.scope in ("node", "job", "site")
        assert Template(tier.root).is_valid()
    if tiers:
        assert not tiers[-1].is_volatile
        assert tiers[-1].scope == "site"


@pytest.mark.parametrize("name", SITES)
def test_a_missing_variable_is_refused_with_its_meaning(name, dummy, monkeypatch):
    needs = dummy(name).site.needs
    for variable, meaning in needs.items():
        monkeypatch.setenv(variable, "")
        with pytest.raises(ValueError, match=f"not set: {variable} ") as refused:
            require_environment(load_site(name).site)
        assert meaning in str(refused.value)
        assert f"export {variable}=VALUE" in str(refused.value)
        monkeypatch.setenv(variable, "dummy")


@pytest.mark.parametrize("name", SITES)
def test_batch_scripts_are_written_and_nothing_is_submitted(
    name, dummy, scheduler, tmp_path
):
    executors = dummy(name).executors()
    on_clusters = [
        executor.label
        for executor in executors
        if isinstance(getattr(executor, "provider", None), ClusterProvider)
    ]
    scripts = batch_scripts(executors, tmp_path / "run")
    assert list(scripts) == on_clusters
    for label, script in scripts.items():
        assert script.startswith("#!/bin/bash")
        assert f"parsl.{label}.block-0.TIME" in script
        assert f"export PYTHONPATH={CHECKOUT}" in script
        assert "-m parsl.executors.high_throughput.process_worker_pool" in script
    assert set(scheduler.read_text().split()) <= {"sacct"}
    assert not (tmp_path / "run").exists()


SETTINGS = {
    "HEADRACE_ACCOUNT": "m1234",
    "HEADRACE_WALLTIME": "02:00:00",
    "HEADRACE_NODES": "4",
    "HEADRACE_WORKER_INIT": "module load python",
}
MORE = {
    "cori": {"HEADRACE_BURST_BUFFER_GB": "200"},
    "slurm": {
        "HEADRACE_CONSTRAINT": "ib",
        "HEADRACE_GPUS": "4",
        "HEADRACE_PARTITION": "long",
        "HEADRACE_SCHEDULER_OPTIONS": "#SBATCH --mail-type=FAIL",
    },
    "summit": {"HEADRACE_SPECTRAL_FOLDER": "/gpfs/alpine/m1234/my run"},
}


@pytest.mark.parametrize("name", CLUSTERS)
def test_batch_scripts_are_those_on_record(name, dummy):
    """To change them on purpose, compare with `--dry-run` and edit the files."""
    site_file = dummy(name, **SETTINGS, **MORE.get(name, {}))
    scripts = batch_scripts(site_file.executors(), Path("/scratch/run"))
    on_record = {
        path.name.split(".")[1]: path.read_text()
        for path in SCRIPTS.glob(f"{name}.*.sh")
    }
    assert set(scripts) == set(on_record)
    for label, script in scripts.items():
        text = script.replace(sys.executable, "PYTHON")
        assert text.replace(str(CHECKOUT), "CHECKOUT") == on_record[label]


def test_cori_uses_a_persistent_burst_buffer_where_one_is_named(dummy):
    site_file = dummy("cori", HEADRACE_BURST_BUFFER_NAME="fields")
    script = batch_scripts(site_file.executors(), Path("/run"))["knl"]
    assert "\n#DW persistentdw name=fields\n" in script
    assert "jobdw" not in script
    [buffer] = [t for t in site_file.site.tiers if t.name == "burst_buffer"]
    assert (buffer.root, buffer.scope) == ("${DW_PERSISTENT_STRIPED_fields}", "site")


def test_cori_simulates_on_either_kind_of_node(dummy):
    assert dummy("cori").site.roles["sim"] == "knl"
    roles = dummy("cori", HEADRACE_CORI_SIM="haswell").site.roles
    assert roles["sim"] == "haswell"
    assert roles["train"] == "haswell"


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("cori", {"HEADRACE_CORI_SIM": "gpu"}, "must be knl or haswell; got 'gpu'"),
        (
            "cori",
            {"HEADRACE_BURST_BUFFER_GB": "1.5"},
            "HEADRACE_BURST_BUFFER_GB must be a whole number >= 1; got '1.5'",
        ),
        ("slurm", {"HEADRACE_NODES": "0"}, "HEADRACE_NODES must be a whole number"),
        ("slurm", {"HEADRACE_WALLTIME": "90"}, "must be HH:MM:SS .*; got '90'"),
        ("slurm", {"HEADRACE_POLL_S": "often"}, "HEADRACE_POLL_S must be a whole"),
        (
            "summit",
            {"HEADRACE_ADDRESS": "ib9"},
            "or one of the interfaces .*lo.*; got ib9. Set HEADRACE_ADDRESS",
        ),
        ("summit", {"HEADRACE_ADDRESS": "0.0.0.0"}, "must be the one address that"),
    ],
)
def test_a_bad_setting_is_refused_by_name(name, settings, message, dummy, tmp_path):
    with pytest.raises(ValueError, match=message):
        batch_scripts(dummy(name, **settings).executors(), tmp_path)


def test_a_tier_names_its_missing_variable_and_its_fallback(dummy, monkeypatch):
    monkeypatch.delenv("DW_JOB_STRIPED", raising=False)
    tiers = {tier.name: tier for tier in dummy("cori").site.tiers}
    line = describe_tier(tiers["burst_buffer"])
    assert "not set here: DW_JOB_STRIPED: ${SCRATCH}/headrace/burst_buffer in" in line
    monkeypatch.setenv("DW_JOB_STRIPED", "/tmp/buffer")
    assert "not set" not in describe_tier(tiers["burst_buffer"])
    monkeypatch.delenv("SCRATCH", raising=False)
    assert "SCRATCH: no fallback" in describe_tier(tiers["file_system"])


@pytest.mark.parametrize("name", CLUSTERS)
def test_a_run_is_refused_before_any_job(name, tmp_path, scheduler):
    journal = Journal(tmp_path / "journal.jsonl")
    try:
        with pytest.raises(ValueError, match=f"site {name} needs environment"):
            parsl_config(load_site(name), journal, tmp_path)
    finally:
        journal.finish()
    assert scheduler.read_text() == ""


def test_dry_run_prints_batch_scripts_and_says_where_there_are_none(
    command, monkeypatch, tmp_path
):
    none = command("--dry-run")
    assert "batch scripts: none, site laptop has no batch system" in none.stdout
    refused = command("--dry-run", "--site", "summit")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "not set: HEADRACE_ACCOUNT (account" in refused.stderr
    monkeypatch.setenv("HEADRACE_ACCOUNT", "abc123")
    monkeypatch.setenv("HEADRACE_ADDRESS", LOOPBACK)
    done = command("--dry-run", "--site", "summit", "--run-dir", "my_run")
    assert done.returncode == 0, done.stderr
    assert "tier nvme         ${BBPATH} (volatile, seen by the node)" in (done.stdout)
    assert "batch script of executor gpu:\n#!/bin/bash" in done.stdout
    assert f"{tmp_path}/my_run/parsl/000/submit_scripts" in done.stdout
    assert "#BSUB -P abc123" in done.stdout
    assert not (tmp_path / "my_run").exists()


def test_parsl_perf_runs_on_a_site(tmp_path):
    words = ["--site", "laptop", "--iterate", "10"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.parsl_perf", *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Will run 10 tasks" in done.stdout
    assert done.stdout.rstrip().endswith("The end")
