"""Training loops as small as they can be: momentum, random draws, a line to fit."""

import time
from dataclasses import replace

import pytest
import torch

from surrogates.distributed.checkpoint import load_checkpoint
from surrogates.training import (
    DivergenceError,
    TrainingSettings,
    fit,
    resume_training,
    save_training,
    seconds_left,
)

IDENTITY = {"data_digest": "d" * 64, "settings": {"rate": 0.1}}


def fresh_parts():
    torch.manual_seed(0)
    network = torch.nn.Linear(3, 1)
    optimiser = torch.optim.Adam(network.parameters(), 0.1)
    return {"network": network, "optimiser": optimiser}


def train(path, n_epochs, log=lambda _: None):
    """Trains from the checkpoint, if there is one; the epochs that were done before."""
    parts, generator = fresh_parts(), torch.Generator().manual_seed(1)
    first = resume_training(path, IDENTITY, parts, generator, log)
    for epoch in range(first, n_epochs):
        parts["optimiser"].zero_grad()
        parts["network"](
            torch.randn(8, 3, generator=generator)
        ).square().sum().backward()
        parts["optimiser"].step()
        save_training(path, IDENTITY, parts, generator, epoch + 1)
    return first


def test_a_resumed_training_ends_in_the_bits_of_an_undisturbed_one(tmp_path):
    assert train(tmp_path / "whole.pt", 4) == 0
    train(tmp_path / "cut.pt", 2)
    assert train(tmp_path / "cut.pt", 4) == 2
    assert (tmp_path / "cut.pt").read_bytes() == (tmp_path / "whole.pt").read_bytes()


def test_a_damaged_checkpoint_is_discarded_and_the_bits_are_the_same(tmp_path):
    train(tmp_path / "good.pt", 3)
    damaged = bytearray((tmp_path / "good.pt").read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (tmp_path / "bad.pt").write_bytes(damaged)
    events = []
    assert train(tmp_path / "bad.pt", 3, events.append) == 0
    assert [event["event"] for event in events] == ["checkpoint discarded"]
    assert (tmp_path / "bad.pt").read_bytes() == (tmp_path / "good.pt").read_bytes()


def test_a_refused_checkpoint_leaves_parts_and_generator_alone(tmp_path):
    train(tmp_path / "c.pt", 2)
    parts, generator = fresh_parts(), torch.Generator().manual_seed(1)
    other = {**IDENTITY, "settings": {"rate": 0.2}}
    with pytest.raises(ValueError, match="must belong to the same settings"):
        resume_training(tmp_path / "c.pt", other, parts, generator, lambda _: None)
    for name, weights in fresh_parts()["network"].state_dict().items():
        assert torch.equal(parts["network"].state_dict()[name], weights), name
    untouched = torch.Generator().manual_seed(1)
    assert torch.equal(generator.get_state(), untouched.get_state())


def test_time_left_counts_the_epochs_of_this_process():
    left = seconds_left(time.monotonic() - 10.0, n_done=1, n_all=4)
    assert left == pytest.approx(30.0, rel=0.2)  # a busy machine may pause in between


SETTINGS = TrainingSettings(steps=30, batch_size=4, learning_rate=0.1, seed=3)
INPUTS = torch.randn(14, 3, generator=torch.Generator().manual_seed(2))
TARGETS = INPUTS @ torch.tensor([[1.0], [-2.0], [0.5]])


class KilledError(Exception):
    """Stands for the end of a process right after an epoch's log line."""


def fit_line(path, settings=SETTINGS, log=lambda _: None, seen=None, **options):
    """A linear network fitted to a line; `seen` collects the samples of each step."""
    torch.manual_seed(0)
    network = torch.nn.Linear(3, 1)
    targets = options.pop("targets", TARGETS)

    def loss(model, picks):
        if seen is not None:
            seen.append(picks.tolist())
        return (model(INPUTS[picks]) - targets[picks]).square().mean()

    fit(
        network,
        loss,
        len(INPUTS),
        settings,
        path,
        options.pop("data_digest", "d" * 64),
        evaluate=lambda training_loss: {"status": "ok", "loss": training_loss},
        label="line",
        log=log,
        **options,
    )
    return network


def test_a_fit_finds_the_line_and_tells_each_epoch(tmp_path):
    told = []
    settings = replace(SETTINGS, steps=300)
    network = fit_line(tmp_path / "c.pt", settings, told.append)
    assert (network(INPUTS) - TARGETS).abs().max() < 1e-3
    assert [record["epoch"] for record in told] == [*range(1, 101)]
    keys = ("event", "training", "epochs", "status", "seconds_left")
    assert [told[-1][key] for key in keys] == ["epoch", "line", 100, "ok", 0]
    assert told[-1]["loss"] < 1e-6 * told[0]["loss"]


def test_each_pass_takes_whole_batches_in_another_order(tmp_path):
    seen = []
    fit_line(tmp_path / "c.pt", replace(SETTINGS, steps=6), seen=seen)
    first, second = ([n for batch in p for n in batch] for p in (seen[:3], seen[3:]))
    assert len(set(first)) == len(set(second)) == 12
    assert first != second


@pytest.mark.parametrize("killed_after", [1, 2, 3, 5])
@pytest.mark.parametrize("epoch_steps", [1, 2, 3, 50])
def test_a_killed_fit_ends_in_the_bits_of_an_undisturbed_one(
    tmp_path, epoch_steps, killed_after
):
    settings = replace(SETTINGS, steps=18, epoch_steps=epoch_steps)
    whole, cut, told = [], [], []
    undisturbed = fit_line(tmp_path / "whole.pt", settings, seen=whole)

    def kill(record):
        if record["epoch"] == killed_after:
            raise KilledError

    with pytest.raises(KilledError):
        fit_line(tmp_path / "cut.pt", settings, kill, cut)
    continued = fit_line(tmp_path / "cut.pt", settings, told.append, cut)
    assert cut == whole
    assert told[0]["epoch"] == killed_after + 1
    assert told[0]["epochs"] == 18 // min(epoch_steps, 3)
    assert torch.equal(undisturbed.weight, continued.weight)
    assert (tmp_path / "cut.pt").read_bytes() == (tmp_path / "whole.pt").read_bytes()


def test_epochs_shorter_than_a_pass_train_like_whole_passes(tmp_path):
    by_pass = fit_line(tmp_path / "a.pt")
    by_step = fit_line(tmp_path / "b.pt", replace(SETTINGS, epoch_steps=1))
    assert torch.equal(by_pass.weight, by_step.weight)


def test_a_finished_fit_computes_nothing_more(tmp_path):
    done, seen = fit_line(tmp_path / "c.pt"), []
    again = fit_line(tmp_path / "c.pt", seen=seen)
    assert seen == []
    assert torch.equal(done.weight, again.weight)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"data_digest": "e" * 64}, "data_digest"),
        ({"settings": replace(SETTINGS, seed=4)}, "settings"),
        ({"identity": {"grid": "64x128"}}, "grid"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused(tmp_path, change, named):
    fit_line(tmp_path / "c.pt", identity={"grid": "32x64"})
    with pytest.raises(ValueError, match=f"must belong to the same {named}"):
        fit_line(tmp_path / "c.pt", **{"identity": {"grid": "32x64"}, **change})


def test_a_loss_that_is_not_finite_ends_the_fit_and_keeps_the_checkpoint(tmp_path):
    path, targets, good = tmp_path / "c.pt", TARGETS.clone(), []

    def poison(record):
        good.append(path.read_bytes())
        if record["epoch"] == 2:
            targets[:] = torch.nan

    with pytest.raises(DivergenceError, match=r"in epoch 3.*\(now 0.1\).* 2 epochs"):
        fit_line(path, log=poison, targets=targets)
    assert path.read_bytes() == good[-1]
    assert load_checkpoint(path)["epochs"] == 2
