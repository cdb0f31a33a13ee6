import json
import os
import pickle
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from surrogates.distributed.launcher import TrainingError, launch

RANKS = """
import os
import signal
from pathlib import Path

import torch


def describe(*, text):
    return {"text": text, "threads": torch.get_num_threads(), "pid": os.getpid()}


def fail():
    raise ValueError("rate must be > 0; got -1.")


def fill_disk():
    raise BlockingIOError("no space left on tier")


def miss_file():
    raise FileNotFoundError("no table")


def state_numpy():
    import numpy

    return {"error": numpy.float32(0.5)}


def die():
    print("about to die", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


def wait_for_ever(*, ready):
    import select

    os.mkfifo(ready + ".fifo")
    Path(ready).write_text(str(os.getpid()))
    open(ready + ".fifo").read()  # nobody ever writes
    return {}


def hang_in_compiled_code(*, ready):
    import re

    Path(ready).write_text(str(os.getpid()))
    re.match(r"(a+)+$", "a" * 40 + "b")  # no thread of this process runs meanwhile


def leave_a_child():
    import subprocess

    return {"pid": subprocess.Popen(["sleep", "1000"]).pid}
"""


@pytest.fixture
def ranks(tmp_path, monkeypatch):
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "rank_functions.py").write_text(RANKS)
    monkeypatch.syspath_prepend(str(tmp_path / "lib"))
    return tmp_path / "lib"


def test_a_call_runs_in_its_own_process_with_its_threads(ranks, tmp_path):
    result = launch(
        "rank_functions:describe",
        {"text": "ü"},
        n_threads=1,
        folder=tmp_path / "work",
    )
    assert result["text"] == "ü"
    assert result["threads"] == 1
    assert result["pid"] != os.getpid()
    assert list((tmp_path / "work").iterdir()) == []  # nothing is left behind


def test_a_failure_is_told_with_its_cause(ranks, tmp_path):
    message = r"^ValueError: rate must be > 0; got -1.$"
    with pytest.raises(TrainingError, match=message) as caught:
        launch("rank_functions:fail", {}, n_threads=1, folder=tmp_path)
    assert caught.value.is_deterministic
    assert pickle.loads(pickle.dumps(caught.value)).is_deterministic


def test_a_killed_process_is_told_with_its_last_output(ranks, tmp_path):
    message = r"ended by signal 9(?s:.)*about to die"
    with pytest.raises(TrainingError, match=message) as caught:
        launch("rank_functions:die", {}, n_threads=1, folder=tmp_path)
    assert not caught.value.is_deterministic


def test_a_failure_of_storage_is_not_deterministic(ranks, tmp_path):
    with pytest.raises(TrainingError, match=r"^BlockingIOError: no space") as caught:
        launch("rank_functions:fill_disk", {}, n_threads=1, folder=tmp_path)
    assert not caught.value.is_deterministic


def test_a_missing_file_is_as_permanent_as_in_a_task(ranks, tmp_path):
    with pytest.raises(TrainingError, match=r"^FileNotFoundError: no table") as caught:
        launch("rank_functions:miss_file", {}, n_threads=1, folder=tmp_path)
    assert caught.value.is_deterministic


def test_facts_that_are_no_json_would_fail_again(ranks, tmp_path):
    with pytest.raises(TrainingError, match="float32 is not JSON") as caught:
        launch("rank_functions:state_numpy", {}, n_threads=1, folder=tmp_path)
    assert caught.value.is_deterministic


def test_the_traceback_of_the_process_is_kept(ranks, tmp_path):
    with pytest.raises(TrainingError) as caught:
        launch("rank_functions:fail", {}, n_threads=1, folder=tmp_path)
    error = pickle.loads(pickle.dumps(caught.value))
    assert 'raise ValueError("rate must be > 0; got -1.")' in error.remote_traceback


def ends(process):
    """Whether a process ends within 20 s."""
    try:
        watched = os.pidfd_open(process)
    except ProcessLookupError:
        return True
    ended, _, _ = select.select([watched], [], [], 20.0)
    os.close(watched)
    return bool(ended)


def test_what_a_rank_leaves_running_ends_with_it(ranks, tmp_path):
    left = launch("rank_functions:leave_a_child", {}, n_threads=1, folder=tmp_path)
    assert ends(left["pid"])


@pytest.mark.parametrize("function", ["wait_for_ever", "hang_in_compiled_code"])
def test_a_rank_ends_when_its_parent_is_killed(function, ranks, tmp_path):
    ready = tmp_path / "ready"
    program = (
        "from surrogates.distributed.launcher import launch\n"
        "from pathlib import Path\n"
        f"launch('rank_functions:{function}', {json.dumps({'ready': str(ready)})},"
        f" n_threads=1, folder=Path({str(tmp_path)!r}))\n"
    )
    root = Path(__file__).parents[3]
    environment = {**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{ranks}"}
    parent = subprocess.Popen([sys.executable, "-c", program], env=environment)
    with parent:
        while not ready.exists() or not ready.read_text():
            assert parent.poll() is None
        parent.send_signal(signal.SIGKILL)
    assert ends(int(ready.read_text())), "the rank outlived its parent by 20 s"
