"""Clusters in a folder: a real Slurm of virtual nodes, and stand-ins for LSF."""

import os
import shutil
import subprocess
import sys
import uuid
from pathlib import Path

import psutil
import pytest

HERE = Path(__file__).parent
CHECKOUT = HERE.parents[2]
PROGRAMS = HERE.parent / "engine" / "programs"

# on import, so that `little_workflow` and the steps are there for the test modules
sys.path[:0] = [str(HERE), str(PROGRAMS)]

SETTINGS = {
    "HEADRACE_ACCOUNT": "m1234",
    "HEADRACE_ADDRESS": "127.0.0.1",
    "HEADRACE_POLL_S": "2",
    "HEADRACE_WORKERS": "1",
    "HEADRACE_HANFORD_DATA": "",  # the synthetic aquifer needs no files
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": os.pathsep.join(map(str, (HERE, PROGRAMS, CHECKOUT))),
}


@pytest.fixture(scope="session")
def slurm(tmp_path_factory):
    """The folder of a running Slurm; clients find it by SLURM_CONF."""
    from throwaway_slurm import running_slurm, why_not

    if why_not():
        pytest.skip(why_not())
    with running_slurm(tmp_path_factory.mktemp("slurm")) as folder:
        yield folder
        left = subprocess.run(["squeue", "-h"], capture_output=True, check=True)
        assert left.stdout == b"", "a job outlived its run"


@pytest.fixture
def lsf(tmp_path, monkeypatch):
    """The spool folder of the stand-ins for LSF and jsrun, first on the path."""
    monkeypatch.setenv("PATH", f"{HERE / 'lsf'}:{os.environ['PATH']}")
    monkeypatch.setenv("LSF_SPOOL", str(tmp_path / "lsf"))
    return tmp_path / "lsf"


@pytest.fixture(autouse=True)
def settings(tmp_path, monkeypatch):
    """Settings of cluster sites for this machine; afterwards no process is left."""
    from throwaway_slurm import processes_with

    for name in [n for n in os.environ if n.startswith("HEADRACE_")]:
        monkeypatch.delenv(name)
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    mark = uuid.uuid4().hex
    monkeypatch.setenv("HEADRACE_TEST_MARK", mark)
    # what every batch system sets, and the tiers of the sites
    monkeypatch.setenv("USER", f"test-{mark}")
    for name in ("SCRATCH", "BBPATH"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(name, str(tmp_path / name))
    yield
    shutil.rmtree(f"/dev/shm/test-{mark}", ignore_errors=True)
    _, alive = psutil.wait_procs(processes_with(mark), timeout=60)
    left = [str(process) for process in alive]
    for process in alive:
        process.kill()
    assert left == [], "processes outlived their test"


@pytest.fixture
def command(tmp_path):
    """Run a workflow's command line in `tmp_path`; returns the ended process."""

    def run(module, *words):
        return subprocess.run(
            [sys.executable, "-m", module, *map(str, words)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
        )

    return run


@pytest.fixture
def campaign_on(tmp_path):
    """`with campaign_on(site) as campaign`: a campaign in `tmp_path / site`."""
    import io
    from contextlib import contextmanager

    from rich.console import Console

    from workflows.engine.driving.campaign import open_campaign
    from workflows.engine.sites.site import load_site
    from workflows.engine.watching.progress import Progress

    @contextmanager
    def opened(site):
        folder = tmp_path / site
        folder.mkdir()
        progress = Progress(Console(file=io.StringIO()), folder)
        with open_campaign(folder, 0, load_site(site), progress) as campaign:
            yield campaign

    return opened
