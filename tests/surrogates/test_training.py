"""Trainings as small as they can be: random draws to shrink, a line to fit."""

import time
from dataclasses import asdict, replace

import pytest
import torch

from surrogates.distributed.checkpoint import load_checkpoint
from surrogates.distributed.collectives import ONE_PROCESS
from surrogates.training import (
    DivergenceError,
    Learner,
    StoppedTrainingError,
    TrainingSettings,
    fit,
    supervised,
    update,
)


class KilledError(Exception):
    """Stands for the end of a process right after an epoch's log line."""


def kill_after(epoch):
    def log(record):
        if record["epoch"] == epoch:
            raise KilledError

    return log


def drawing(rate=0.1, pause_s=0.0, stops_in=None):
    """Fits a network to zero on what its steps draw; two updates in each, as a GAN's.

    Seven steps in epochs of two: the last epoch is a shorter one.
    """
    torch.manual_seed(0)
    network, generator = torch.nn.Linear(3, 1), torch.Generator().manual_seed(1)
    optimiser = torch.optim.Adam(network.parameters(), rate)

    def step(_, collectives):
        time.sleep(pause_s)
        for _ in range(2):
            inputs = torch.randn(8, 3, generator=generator)
            loss = network(inputs).square().sum()
            loss = update(optimiser, loss, network.parameters(), collectives)
        return {"loss": loss, "unjudged": torch.nan}

    def evaluate(losses, epoch):
        if epoch == stops_in:
            raise StoppedTrainingError("no use")
        return {"status": "ok", "steps": len(losses), "before": epoch}

    return Learner(
        label="draws",
        steps=7,
        epoch_steps=2,
        parts={"network": network, "optimiser": optimiser},
        generator=generator,
        step=step,
        evaluate=evaluate,
        diverged=lambda loss, epoch: f"got {loss} after {epoch} epochs",
    )


def train(path, log=lambda _: None, *, learner=None, collectives=ONE_PROCESS, **other):
    """Trains a learner that draws; its network."""
    learner = learner or drawing()
    fit(learner, path, {"data_digest": "d" * 64, **other}, log, collectives)
    return learner.parts["network"]


@pytest.mark.parametrize("epoch", [1, 2, 3, 4])
def test_a_resumed_training_ends_in_the_bits_of_an_undisturbed_one(tmp_path, epoch):
    train(tmp_path / "whole.pt")
    with pytest.raises(KilledError):
        train(tmp_path / "cut.pt", kill_after(epoch))
    told = []
    train(tmp_path / "cut.pt", told.append)
    assert [record["epoch"] for record in told] == list(range(epoch + 1, 5))
    assert (tmp_path / "cut.pt").read_bytes() == (tmp_path / "whole.pt").read_bytes()


def test_the_last_epoch_has_the_steps_that_are_left(tmp_path):
    told = []
    train(tmp_path / "c.pt", told.append)
    assert [record["steps"] for record in told] == [2, 2, 2, 1]
    assert [record["before"] for record in told] == [0, 1, 2, 3]


def test_a_damaged_checkpoint_is_discarded_and_the_bits_are_the_same(tmp_path):
    train(tmp_path / "good.pt")
    damaged = bytearray((tmp_path / "good.pt").read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (tmp_path / "bad.pt").write_bytes(damaged)
    told = []
    train(tmp_path / "bad.pt", told.append)
    events = ["checkpoint discarded", *4 * ["epoch"]]
    assert [record["event"] for record in told] == events
    assert (tmp_path / "bad.pt").read_bytes() == (tmp_path / "good.pt").read_bytes()


def test_a_refused_checkpoint_leaves_parts_and_generator_alone(tmp_path):
    train(tmp_path / "c.pt", settings={"rate": 0.1})
    learner, fresh = drawing(), drawing()
    with pytest.raises(ValueError, match="must belong to the same settings"):
        train(tmp_path / "c.pt", learner=learner, settings={"rate": 0.2})
    assert torch.equal(learner.parts["network"].weight, fresh.parts["network"].weight)
    assert torch.equal(learner.generator.get_state(), fresh.generator.get_state())


def test_an_evaluation_that_stops_leaves_the_checkpoint_before(tmp_path):
    with pytest.raises(KilledError):
        train(tmp_path / "cut.pt", kill_after(2))
    told = []
    with pytest.raises(StoppedTrainingError):
        train(tmp_path / "c.pt", told.append, learner=drawing(stops_in=2))
    assert len(told) == 2
    assert (tmp_path / "c.pt").read_bytes() == (tmp_path / "cut.pt").read_bytes()


def test_a_learner_words_its_divergence(tmp_path):
    with pytest.raises(DivergenceError, match=r"^got inf after 0 epochs$"):
        train(tmp_path / "c.pt", learner=drawing(rate=1e30))
    assert not (tmp_path / "c.pt").exists()


def test_without_a_checkpoint_the_same_weights_are_left(tmp_path):
    kept, lost = train(tmp_path / "c.pt"), train(None)
    assert torch.equal(kept.weight, lost.weight)


def test_time_left_counts_the_epochs_of_this_process(tmp_path):
    with pytest.raises(KilledError):
        train(tmp_path / "c.pt", kill_after(1))
    told = []
    train(tmp_path / "c.pt", told.append, learner=drawing(pause_s=0.01))
    # two steps and one more epoch behind; a busy machine takes longer
    assert told[0]["seconds_left"] >= 2 * 0.02
    assert told[-1]["seconds_left"] == 0


class Ranks:
    """This process as one of two, with what the other one's gradients are."""

    size = 2

    def __init__(self, rank=0, others=()):
        self.rank, self.others = rank, others

    def average_gradients(self, parameters):
        for parameter, other in zip(parameters, self.others, strict=False):
            parameter.grad = (parameter.grad + other) / 2


def test_the_first_rank_saves_and_tells(tmp_path):
    told = []
    first = train(tmp_path / "0.pt", collectives=Ranks(0))
    second = train(tmp_path / "1.pt", told.append, collectives=Ranks(1))
    assert (tmp_path / "0.pt").exists()
    assert not (tmp_path / "1.pt").exists()
    assert told == []
    assert torch.equal(first.weight, second.weight)


@pytest.mark.parametrize("max_norm", [None, 1e-3])
def test_ranks_that_share_gradients_step_like_one_with_all_samples(max_norm):
    """The mean over halves is the gradient of the whole, which alone is shortened."""
    inputs = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
    stepped = []
    for n, part in ((1, inputs), (2, inputs[:4])):
        torch.manual_seed(0)
        network = torch.nn.Linear(3, 1)
        weights = list(network.parameters())
        other = torch.autograd.grad(network(inputs[4:]).square().mean(), weights)
        ranks = ONE_PROCESS if n == 1 else Ranks(others=other)
        # plain descent: its step is as long as the gradient
        optimiser = torch.optim.SGD(weights, 1.0)
        update(optimiser, network(part).square().mean(), weights, ranks, max_norm)
        stepped.append(network.weight.detach())
    torch.testing.assert_close(*stepped)


SETTINGS = TrainingSettings(steps=30, batch_size=4, learning_rate=0.1, seed=3)
INPUTS = torch.randn(14, 3, generator=torch.Generator().manual_seed(2))
TARGETS = INPUTS @ torch.tensor([[1.0], [-2.0], [0.5]])


def fit_line(path, settings=SETTINGS, log=lambda _: None, seen=None, **options):
    """A linear network fitted to a line; `seen` collects the samples of each step."""
    torch.manual_seed(0)
    network = torch.nn.Linear(3, 1)
    targets = options.pop("targets", TARGETS)

    def loss(picks):
        if seen is not None:
            seen.append(picks.tolist())
        return (network(INPUTS[picks]) - targets[picks]).square().mean()

    learner = supervised(
        network,
        loss,
        len(INPUTS),
        settings,
        evaluate=lambda training_loss: {"status": "ok", "loss": training_loss},
        label="line",
    )
    identity = {"data_digest": "d" * 64, "settings": asdict(settings), **options}
    fit(learner, path, identity, log)
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

    with pytest.raises(KilledError):
        fit_line(tmp_path / "cut.pt", settings, kill_after(killed_after), cut)
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
        ({"grid": "64x128"}, "grid"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused(tmp_path, change, named):
    fit_line(tmp_path / "c.pt", grid="32x64")
    with pytest.raises(ValueError, match=f"must belong to the same {named}"):
        fit_line(tmp_path / "c.pt", **{"grid": "32x64", **change})


def test_a_loss_that_is_not_finite_ends_the_fit_and_keeps_the_checkpoint(tmp_path):
    path, targets, good = tmp_path / "c.pt", TARGETS.clone(), []

    def poison(record):
        good.append(path.read_bytes())
        if record["epoch"] == 2:
            targets[:] = torch.nan

    told = r"in epoch 3\. Lower the learning rate \(now 0.1\); .* 2 epochs, is kept"
    with pytest.raises(DivergenceError, match=told):
        fit_line(path, log=poison, targets=targets)
    assert path.read_bytes() == good[-1]
    assert load_checkpoint(path)["epochs"] == 2
