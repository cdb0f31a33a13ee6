"""Training in a process of its own: checkpoint, facts, continuation, failure."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import torch

from surrogates.distributed.checkpoint import load_checkpoint
from surrogates.distributed.launcher import TrainingError
from workflows.engine.driving.training import failure_of, train_in_process, train_rank
from workflows.engine.files.artefacts import is_intact
from workflows.engine.watching.events import close_event_logs, read_events


def train(folder, function="count", **arguments):
    import little_training  # on the import path by a fixture

    return train_in_process(
        getattr(little_training, function),
        little_training.Settings(steps=5, sizes=(2, 3)),
        folder,
        "little",
        arguments=arguments,
        data_digest="d" * 64,
        n_threads=1,
    )


def test_a_training_leaves_its_network_with_the_digest_of_its_data(tmp_path):
    manifest = train(tmp_path, first=2)
    assert manifest.artefacts["checkpoint"].path == "checkpoints/little.pt"
    assert is_intact(manifest.artefacts["checkpoint"], tmp_path)
    assert manifest.facts == {"is_tuple": True, "threads": 1}
    assert manifest.timings["little_training_s"] > 0
    kept = load_checkpoint(tmp_path / "checkpoints" / "little.pt")
    assert kept["data_digest"] == "d" * 64
    assert torch.equal(kept["description"]["weights"], torch.full((2, 3), 7.0))
    assert [event["status"] for event in read_events(tmp_path)] == ["from 2"]
    close_event_logs(tmp_path)


def test_a_second_call_goes_on_from_the_state_of_the_first(tmp_path):
    train(tmp_path, first=0)
    (tmp_path / "checkpoints" / "little.pt").unlink()
    train(tmp_path, first=0)
    kept = load_checkpoint(tmp_path / "checkpoints" / "little.pt")
    assert kept["description"]["weights"][0, 0] == 10


def test_a_failure_reaches_the_step_with_its_cause(tmp_path):
    with pytest.raises(TrainingError, match=r"ArithmeticError: the loss .* got 5"):
        train(tmp_path, "diverge")
    assert not (tmp_path / "checkpoints" / "little.pt").exists()


def test_a_training_that_stops_itself_leaves_its_cause_and_no_model(tmp_path):
    manifest = train(tmp_path, "stop")
    assert failure_of(manifest) == "the loss must stay finite; got 5."
    assert manifest.artefacts == {}
    assert failure_of(train(tmp_path, first=0)) is None
    assert [e["event"] for e in read_events(tmp_path)] == ["model failed", "epoch"]
    close_event_logs(tmp_path)


def test_ranks_of_one_training_do_not_wait_for_one_another(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    call = {
        "function": "little_training:meet",
        "record_type": "little_training:Settings",
        "record": {"steps": 5, "sizes": (2, 3)},
        "folder": str(tmp_path),
        "name": "little",
        "data_digest": "",
        "arguments": {"ranks": Barrier(2, timeout=10)},
    }
    with ThreadPoolExecutor() as pool:
        ranks = [pool.submit(train_rank, **call) for _ in range(2)]
    assert [rank.result() for rank in ranks] == [{}, {}]
    close_event_logs(tmp_path)
