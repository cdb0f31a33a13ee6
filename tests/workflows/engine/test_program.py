"""A study of one file, run as a program: every process finds its steps."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from workflows.engine.files.run_folder import read_run

CHECKOUT = Path(__file__).parents[3]
STUDY = """
from dataclasses import dataclass

from workflows.engine.files.artefacts import Manifest
from workflows.engine.command.command_line import Workflow, command_line
from workflows.engine.command.settings import Section
from workflows.engine.driving.tasks import Task
from workflows.engine.driving.training import train_in_process


@dataclass(frozen=True)
class Number:
    value: int


def double(record, folder, log):
    return Manifest(facts={"value": 2 * record.value})


def learn(record, folder, log, *, doubled):
    return train_in_process(
        fit, record, folder, "fit", arguments={"doubled": doubled.facts["value"]},
        data_digest="", n_threads=1,
    )


def fit(record, training, *, doubled):
    return {}, {"sum": record.value + doubled}


def run(config, campaign):
    from workflows.engine.driving.campaign import gather

    limited = Task(double, "sim", "1", time_limit_s=60)
    doubled = campaign.submit(limited, Number(7))
    learned = campaign.submit(Task(learn, "train", "1"), Number(7), doubled=doubled)
    [manifest] = gather([learned])
    (campaign.folder / "summary.json").write_text('{"metrics": {}}')
    return f"sum {manifest.facts['sum']}"


class Config(Section):
    pass


application = command_line(
    Workflow("own", "A study.", Config, {"standard": {}}, lambda config: "", run)
)
if __name__ == "__main__":
    application()
"""


def start(words, cwd, text=None):
    return subprocess.run(
        [sys.executable, *words],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT), "OMP_NUM_THREADS": "1"},
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("site", ["laptop", "laptop_htex"])
def test_limited_steps_and_trainings_of_a_single_file_find_it(tmp_path, site):
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "own.py").write_text(STUDY)
    (tmp_path / "study" / "data.py").write_text("raise ImportError('of the user')")
    done = start(["study/own.py", "--run-dir", "run", "--site", site], tmp_path)
    assert done.stdout == "sum 21\n", done.stderr
    stored = read_run(tmp_path / "run")
    assert stored["program"] == ["python", str(tmp_path / "study" / "own.py")]
    words = ["-m", "own", "--run-dir", "../run", "--site", site]
    again = start(words, tmp_path / "study")
    assert "0 tasks computed, 2 reused" in again.stderr, again.stderr


def test_study_without_a_file_is_refused_with_a_sentence(tmp_path):
    done = start(["-", "--run-dir", "run"], tmp_path, STUDY)
    assert done.returncode == 1
    assert "importable module; got __main__:double" in done.stderr
