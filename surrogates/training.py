"""What every training loop here shares: resuming to the same bits, divergence, time.

Protocol: the loop resumes; after every good epoch it saves, then logs an event `epoch`
with `epoch`, `epochs`, `seconds_left`, a label `training` ("network on 250 members"), a
phrase `status` ("error 0.133 m"), and the numbers that figures of its own need. `fit`
is the loop of supervised training: Adam on a given loss, one cycle of learning rates.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from surrogates.distributed.checkpoint import load_checkpoint, save_checkpoint

MAX_GRADIENT_NORM = 1.0

Log = Callable[[Mapping[str, object]], None]
Network = TypeVar("Network", bound=nn.Module)


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


def fit(  # noqa: PLR0913  # a training in full: what, how, on what, and who is told
    network: Network,
    loss: Callable[[Network, Tensor], Tensor],
    n_samples: int,
    settings: TrainingSettings,
    checkpoint: Path,
    data_digest: str,
    *,
    evaluate: Callable[[float], Mapping[str, object]],
    label: str,
    log: Log,
    identity: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """Trains `network` in place, from `checkpoint` where there is one.

    Args:
        network: freshly built, on the device of its choice.
        loss: of the network and some samples, by number (batch,) on the CPU; a scalar.
        n_samples: number of samples; each pass takes them in another order, and leaves
            out the last ones that fill no batch.
        settings: length, batches, learning rate.
        checkpoint: written after every epoch; at the end it holds the trained weights.
        data_digest: identifies the samples; a checkpoint of others is refused.
        evaluate: what to log of an epoch, given its mean loss: a phrase `status`, and
            numbers. It decides nothing.
        label: what trains, for the log.
        log: receives one record per epoch.
        identity: further plain values that tell this training from others.

    Raises:
        DivergenceError: the loss became non-finite; the last good checkpoint stays.
        ValueError: the checkpoint is of other samples, settings or identity.
    """
    batch = min(settings.batch_size, n_samples)
    n_steps = min(n_samples // batch, settings.epoch_steps or n_samples)
    n_epochs = -(-settings.steps // n_steps)
    optimiser = torch.optim.Adam(network.parameters(), settings.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, settings.learning_rate, total_steps=n_epochs * n_steps + 1
    )
    parts = {"network": network, "optimiser": optimiser, "schedule": schedule}
    told = {"data_digest": data_digest, "settings": asdict(settings), **identity}
    generator = torch.Generator()
    first = resume_training(checkpoint, told, parts, generator, log)
    # from the seed again, not from the stored state: an epoch may begin within a pass
    batches = _batches(n_samples, batch, generator.manual_seed(settings.seed))
    batches = islice(batches, first * n_steps, None)
    began = time.monotonic()
    for epoch in range(first, n_epochs):
        losses = []
        for picks in islice(batches, n_steps):
            losses.append(_step(network, loss(network, picks), optimiser))
            _require_finite(losses[-1], epoch, settings)
            schedule.step()
        facts = evaluate(sum(losses) / n_steps)
        save_training(checkpoint, told, parts, generator, epoch + 1)
        left = seconds_left(began, epoch + 1 - first, n_epochs - first)
        place = {"training": label, "epoch": epoch + 1, "epochs": n_epochs}
        log({"event": "epoch", **place, **facts, "seconds_left": left})


def save_training(
    checkpoint: Path,
    identity: Mapping[str, Any],
    stateful: Mapping[str, Any],
    generator: torch.Generator,
    epochs: int,
) -> None:
    """Writes all that a training needs to go on after `epochs` epochs.

    Args:
        checkpoint: replaced; a kill leaves the old one or the new one.
        identity: plain values that tell this training from others: data, settings.
        stateful: networks, optimisers, schedules: whatever has a `state_dict`.
        generator: what the next epochs draw from.
        epochs: number of epochs done.
    """
    save_checkpoint(
        checkpoint,
        {
            **identity,
            "epochs": epochs,
            "generator": generator.get_state(),
            "states": {name: part.state_dict() for name, part in stateful.items()},
        },
    )


def resume_training(
    checkpoint: Path,
    identity: Mapping[str, Any],
    stateful: Mapping[str, Any],
    generator: torch.Generator,
    log: Log,
) -> int:
    """Loads what `save_training` wrote into the parts; the number of epochs done.

    A damaged one is discarded: training from the start ends in the same bits.

    Returns:
        Epochs done; 0, with the parts as they were, if there is nothing to load.

    Raises:
        ValueError: the checkpoint is of a training with another identity.
    """
    if not checkpoint.exists():
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
    for name, part in stateful.items():
        part.load_state_dict(state["states"][name])
    generator.set_state(state["generator"])
    return int(state["epochs"])


def seconds_left(began: float, n_done: int, n_all: int) -> float:
    """Estimate from the epochs that this process has done since `began` (monotonic)."""
    return (time.monotonic() - began) * (n_all - n_done) / n_done


def _batches(
    n_samples: int, batch: int, generator: torch.Generator
) -> Iterator[Tensor]:
    """Numbers (batch,) of samples, one shuffled pass after the other."""
    n_batches = n_samples // batch
    while True:
        order = torch.randperm(n_samples, generator=generator)
        yield from order[: n_batches * batch].reshape(n_batches, batch)


def _step(network: nn.Module, loss: Tensor, optimiser: torch.optim.Optimizer) -> float:
    """One optimiser step; returns the loss before it."""
    optimiser.zero_grad()
    torch.autograd.backward(loss)
    nn.utils.clip_grad_norm_(network.parameters(), MAX_GRADIENT_NORM)
    optimiser.step()
    return loss.item()


def _require_finite(loss: float, epoch: int, settings: TrainingSettings) -> None:
    if not math.isfinite(loss):
        raise DivergenceError(
            f"the training loss must stay finite; got {loss} in epoch {epoch + 1}. "
            f"Lower train.learning_rate (now {settings.learning_rate:g}); the last "
            f"good checkpoint, after {epoch} epochs, is kept."
        )
