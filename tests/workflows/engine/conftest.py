"""The test workflow on the import path, and runs of it in this process or another."""

import io
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from rich.console import Console

from workflows.engine.driving.campaign import open_campaign
from workflows.engine.sites.site import load_site
from workflows.engine.watching.progress import Progress

PROGRAMS = Path(__file__).parent / "programs"
CHECKOUT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def little_workflow_is_importable(monkeypatch):
    """For this process, for workers and for command lines."""
    monkeypatch.syspath_prepend(PROGRAMS)
    monkeypatch.setenv("PYTHONPATH", f"{PROGRAMS}{os.pathsep}{CHECKOUT}")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.delenv("HEADRACE_SITE", raising=False)


@pytest.fixture
def campaign_on(tmp_path):
    """`with campaign_on(site) as campaign`: a campaign in `tmp_path / "run"`."""

    @contextmanager
    def opened(site="laptop", seed=0):
        folder = tmp_path / "run"
        folder.mkdir(exist_ok=True)
        progress = Progress(Console(file=io.StringIO()), folder)
        with open_campaign(folder, seed, load_site(str(site)), progress) as campaign:
            yield campaign

    return opened


@pytest.fixture
def command(tmp_path):
    """Run the test workflow's command line in `tmp_path`; returns the ended process."""

    def run(*words):
        return subprocess.run(
            [sys.executable, "-m", "little_workflow", *map(str, words)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run
