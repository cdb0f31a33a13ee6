"""A workflow as its user starts it, in a process of its own: run, kill, compare."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass

import pytest

from workflows.engine.driving.journal import read_journal
from workflows.engine.watching.events import read_events


@dataclass(frozen=True)
class Job:
    """A workflow with its settings and environment."""

    workflow: str
    settings: dict
    environment: dict

    def words(self, folder, site="laptop", settings=None):
        settings = self.settings if settings is None else settings
        chosen = [f"--set={key}={value}" for key, value in settings.items()]
        program = [sys.executable, "-m", f"workflows.{self.workflow}"]
        return [*program, "--run-dir", str(folder), "--site", site, *chosen]

    def start(self, folder, site="laptop", settings=None):
        """Runs to the end; any folder will do to start from."""
        return subprocess.run(
            self.words(folder, site, settings),
            env=self.environment,
            cwd=folder.parent,
            capture_output=True,
            text=True,
            check=False,
        )

    def kill_when(self, folder, has_come):
        """SIGKILL the whole process group as soon as `has_come(events)`."""
        output = folder.with_suffix(".log")
        with output.open("ab") as stream:
            job = subprocess.Popen(
                self.words(folder),
                env=self.environment,
                start_new_session=True,
                stdout=stream,
                stderr=stream,
            )
            while not (folder / "events").exists() or not has_come(read_events(folder)):
                assert job.poll() is None, output.read_text()
                time.sleep(0.005)  # a poll of files that another process writes
            os.killpg(job.pid, signal.SIGKILL)
            job.wait()

    @staticmethod
    def summary_of(folder):
        """What must not depend on where and when a run was made."""
        summary = json.loads((folder / "summary.json").read_text())
        del summary["timings"], summary["run_id"]
        return summary

    @staticmethod
    def artefacts_of(folder):
        """Every file that a journal line vouches for, by its digest."""
        lines = read_journal(folder / "journal.jsonl")
        return {
            a["path"]: a["sha256"] for line in lines for a in line["artefacts"].values()
        }

    @staticmethod
    def started(step):
        """For `kill_when`: a task of this step has begun."""
        return lambda events: any(
            e["event"] == "start" and e["task"].startswith(step) for e in events
        )


@pytest.fixture(scope="session")
def job_of(tmp_path_factory):
    """Builds a job; it has no published data, and one thread per process."""
    ours = {
        "XDG_CACHE_HOME": str(tmp_path_factory.mktemp("cache")),
        "HEADRACE_HANFORD_DATA": "",
        "OMP_NUM_THREADS": "1",
    }
    return lambda workflow, settings: Job(workflow, settings, {**os.environ, **ours})
