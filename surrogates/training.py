"""One training loop for every learner; it resumes to the same bits.

A `Learner` gives its parts, its steps and its evaluation. After every good epoch `fit`
saves, then logs an event `epoch` with `epoch`, `epochs`, `seconds_left`, a label
`training` ("network on 250 members"), a phrase `status` ("error 0.133 m"), and the
numbers that figures need. Weights change in `update` alone, where ranks share their
gradients. `supervised` makes the learner of one network.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from surrogates.distributed.checkpoint import load_checkpoint, save_checkpoint
from surrogates.distributed.collectives import ONE_PROCESS, Collectives

MAX_GRADIENT_NORM = 1.0

Log = Callable[[Mapping[str, object]], None]
Losses = Mapping[str, float]


class StoppedTrainingError(ArithmeticError):
    """A training stopped itself; the same training would again."""


class DivergenceError(StoppedTrainingError):
    """The loss is no longer finite."""


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """How long and how to train.

    Attributes:
        steps: of the optimiser; rounded up to whole epochs.
        batch_size: samples per step, at most all.
        learning_rate: the largest of the cycle.
        seed: of the order of the samples.
        epoch_steps: steps between checkpoints, where a pass over the samples has more.
    """

    steps: int
    batch_size: int
    learning_rate: float
    seed: int
    epoch_steps: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Learner:
    """What `fit` trains, on the device that its parts are on.

    Attributes:
        label: what trains, for the log.
        steps: how many there are.
        epoch_steps: steps between checkpoints; the last epoch may have fewer.
        parts: networks, optimisers, schedules: whatever has a `state_dict`.
        step: does the step of a number (from 0) by calls of `update`; returns losses by
            name, of which the first must stay finite.
        diverged: the message where it is not, given its value and the epochs before.
        evaluate: what to log of an epoch, given its losses and the epochs before: a
            phrase `status`, and numbers. Where it raises, the epoch is not saved.
        generator: what the steps draw from, on the CPU.
    """

    label: str
    steps: int
    epoch_steps: int
    parts: Mapping[str, Any]  # torch has no common type of what has a `state_dict`
    step: Callable[[int, Collectives], Losses]
    diverged: Callable[[float, int], str]
    evaluate: Callable[[Sequence[Losses], int], Mapping[str, object]] = lambda *_: {}
    generator: torch.Generator = field(default_factory=torch.Generator)


def fit(
    learner: Learner,
    checkpoint: Path | None = None,
    identity: Mapping[str, Any] = MappingProxyType({}),
    log: Log = lambda _: None,
    collectives: Collectives = ONE_PROCESS,
) -> None:
    """Trains the parts of `learner` in place, from `checkpoint` where there is one.

    Args:
        learner: with freshly built parts.
        checkpoint: replaced after every epoch; at the end it holds the trained weights.
            None keeps none.
        identity: plain values that tell this training from others: data, settings.
        log: receives one record per epoch.
        collectives: the ranks that train together; rank 0 saves and logs.

    Raises:
        DivergenceError: the loss became non-finite; the last good checkpoint stays.
        ValueError: the checkpoint is of a training with another identity.
    """
    n_epochs = -(-learner.steps // learner.epoch_steps)
    first = _resume(learner, checkpoint, identity, log)
    began = time.monotonic()
    for epoch in range(first, n_epochs):
        losses = _run_epoch(learner, epoch, collectives)
        facts = learner.evaluate(losses, epoch)
        if collectives.rank:
            continue
        done = epoch + 1
        if checkpoint:
            states = {name: part.state_dict() for name, part in learner.parts.items()}
            draws = learner.generator.get_state()
            progress = {"epochs": done, "generator": draws, "states": states}
            save_checkpoint(checkpoint, {**identity, **progress})
        left = (time.monotonic() - began) * (n_epochs - done) / (done - first)
        place = {"training": learner.label, "epoch": done, "epochs": n_epochs}
        log({"event": "epoch", **place, **facts, "seconds_left": left})


def update(
    optimiser: torch.optim.Optimizer,
    loss: Tensor,
    parameters: Iterable[Tensor],
    collectives: Collectives,
    max_norm: float | None = None,
) -> float:
    """One step of an optimiser of `parameters`; returns the loss before it.

    The ranks share their gradients first; then those above `max_norm` are shortened.
    """
    parameters = list(parameters)
    optimiser.zero_grad()
    torch.autograd.backward(loss)
    collectives.average_gradients(parameters)
    if max_norm is not None:
        nn.utils.clip_grad_norm_(parameters, max_norm)
    optimiser.step()
    return loss.item()


def supervised(
    network: nn.Module,
    loss: Callable[[Tensor], Tensor],
    n_samples: int,
    settings: TrainingSettings,
    *,
    evaluate: Callable[[float], Mapping[str, object]],
    label: str,
) -> Learner:
    """The learner of one network: Adam with one cycle of learning rates.

    Args:
        network: freshly built, on the device of its choice.
        loss: of some samples, by number (batch,) on the CPU; a scalar.
        n_samples: number of samples; each pass takes them in another order, and leaves
            out the last ones that fill no batch.
        settings: length, batches, learning rate.
        evaluate: what to log of an epoch, given its mean loss.
        label: what trains, for the log.
    """
    batch, rate = min(settings.batch_size, n_samples), settings.learning_rate
    epoch_steps = min(n_samples // batch, settings.epoch_steps or n_samples)
    n_steps = -(-settings.steps // epoch_steps) * epoch_steps
    optimiser = torch.optim.Adam(network.parameters(), rate)
    cycle = torch.optim.lr_scheduler.OneCycleLR
    schedule = cycle(optimiser, rate, total_steps=n_steps + 1)
    generator = torch.Generator()
    batches = enumerate(_batches(n_samples, batch, generator, settings.seed))

    def step(number: int, collectives: Collectives) -> Losses:
        # a resumed training passes over the batches of the steps before
        picks = next(picks for n, picks in batches if n == number)
        weights = network.parameters()
        value = update(optimiser, loss(picks), weights, collectives, MAX_GRADIENT_NORM)
        schedule.step()
        return {"loss": value}

    def mean(losses: Sequence[Losses]) -> float:
        return sum(each["loss"] for each in losses) / len(losses)

    return Learner(
        label=label,
        steps=n_steps,
        epoch_steps=epoch_steps,
        parts={"network": network, "optimiser": optimiser, "schedule": schedule},
        generator=generator,
        step=step,
        evaluate=lambda losses, _: evaluate(mean(losses)),
        diverged=lambda value, epoch: (
            f"the training loss must stay finite; got {value} in epoch {epoch + 1}. "
            f"Lower the learning rate (now {rate:g}); the last good checkpoint, after "
            f"{epoch} epochs, is kept."
        ),
    )


def _resume(
    learner: Learner, checkpoint: Path | None, identity: Mapping[str, Any], log: Log
) -> int:
    """Loads a checkpoint into the parts, if there is one; the number of epochs done.

    A damaged one is discarded: training from the start ends in the same bits.
    """
    if not checkpoint or not checkpoint.exists():
        return 0
    try:
        state = load_checkpoint(checkpoint)
    except ValueError as error:
        log({"event": "checkpoint discarded", "cause": str(error)})
        return 0
    for name, wanted in identity.items():
        if state.get(name) != wanted:
            raise ValueError(
                f"{checkpoint} must belong to the same {name}: it has "
                f"{state.get(name)}, the run has {wanted}. Remove it to train anew."
            )
    for name, part in learner.parts.items():
        part.load_state_dict(state["states"][name])
    learner.generator.set_state(state["generator"])
    return int(state["epochs"])


def _run_epoch(
    learner: Learner, epoch: int, collectives: Collectives
) -> Sequence[Losses]:
    """The losses of the steps of one epoch."""
    start, losses = epoch * learner.epoch_steps, []
    for number in range(start, min(start + learner.epoch_steps, learner.steps)):
        losses.append(learner.step(number, collectives))
        judged = next(iter(losses[-1].values()))
        if not math.isfinite(judged):
            raise DivergenceError(learner.diverged(judged, epoch))
    return losses


def _batches(
    n_samples: int, batch: int, generator: torch.Generator, seed: int
) -> Iterator[Tensor]:
    """Numbers (batch,) of samples, one shuffled pass after the other."""
    # from the seed, not from a stored state: an epoch may begin within a pass
    generator.manual_seed(seed)
    n_batches = n_samples // batch
    while True:
        order = torch.randperm(n_samples, generator=generator)
        yield from order[: n_batches * batch].reshape(n_batches, batch)
