"""Supervised training of a head network: Adam on the mean square error, one cycle.

A checkpoint is written after every epoch with a finite loss; a killed training goes on
from it and ends in the same bits as an undisturbed one. The first non-finite loss stops
the training, and the last good checkpoint stays.
"""

import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from surrogates.regression.model import HeadNetwork
from surrogates.scores import rmse
from surrogates.training import (
    DivergenceError,
    Log,
    resume_training,
    save_training,
    seconds_left,
)

MAX_GRADIENT_NORM = 1.0
PREDICTION_BATCH = 128  # members at once; a few arrays of this size stay in the cache


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """How long and how to train; batches are drawn with `seed`."""

    steps: int
    batch_size: int
    learning_rate: float
    seed: int


@dataclass(frozen=True, slots=True, eq=False)
class Members:
    """Fields of members: ln T (members, n) with T in m²/d, head (members, n) [m]."""

    log_transmissivity: Tensor
    head: Tensor


def train_head_network(
    network: HeadNetwork,
    members: Members,
    settings: TrainingSettings,
    checkpoint: Path,
    data_digest: str,
    *,
    shown: Members,
    log: Log,
) -> None:
    """Trains `network` in place, from `checkpoint` where there is one.

    Args:
        network: freshly built with the settings' seed, on the CPU.
        members: training members.
        settings: length, batches, learning rate.
        checkpoint: written after every epoch; at the end it holds the trained weights.
        data_digest: identifies the members; a checkpoint of others is refused.
        shown: held-out members whose error is logged each epoch; it decides nothing.
        log: receives one record per epoch.

    Raises:
        DivergenceError: the loss became non-finite; the last good checkpoint stays.
        ValueError: the checkpoint is of other members or other settings.
    """
    n = len(members.head)
    batch = min(settings.batch_size, n)
    per_epoch = n // batch
    n_epochs = -(-settings.steps // per_epoch)
    generator = torch.Generator().manual_seed(settings.seed)
    optimiser = torch.optim.Adam(network.parameters(), settings.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, settings.learning_rate, total_steps=n_epochs * per_epoch + 1
    )
    stateful: dict[str, Any] = {
        "network": network,
        "optimiser": optimiser,
        "schedule": schedule,
    }
    identity = {"data_digest": data_digest, "settings": asdict(settings)}
    first = resume_training(checkpoint, identity, stateful, generator, log)
    began = time.monotonic()
    for epoch in range(first, n_epochs):
        order = torch.randperm(n, generator=generator)
        losses = []
        for picks in order[: per_epoch * batch].reshape(per_epoch, batch):
            losses.append(_step(network, members, picks, optimiser))
            _require_finite(losses[-1], epoch, settings)
            schedule.step()
        error = float(rmse(predict(network, shown.log_transmissivity), shown.head))
        training = network.constants.head_scale_m * math.sqrt(sum(losses) / per_epoch)
        save_training(checkpoint, identity, stateful, generator, epoch + 1)
        log(
            {
                "event": "epoch",
                "training": f"network on {n} members",
                "status": f"error {error:.3f} m",
                "epoch": epoch + 1,
                "epochs": n_epochs,
                "members": n,
                "training_rmse_m": training,
                "held_out_rmse_m": error,
                "curve": "held_out_rmse_m",
                "seconds_left": seconds_left(
                    began, epoch + 1 - first, n_epochs - first
                ),
            }
        )


def predict(network: HeadNetwork, log_transmissivity: Tensor) -> Tensor:
    """Heads (members, n) [m] without gradients, in batches that stay in the cache."""
    n = len(log_transmissivity)
    with torch.no_grad():
        parts = [
            network(log_transmissivity[start : start + PREDICTION_BATCH])
            for start in range(0, n, PREDICTION_BATCH)
        ]
    return torch.cat(parts)


def _step(
    network: HeadNetwork,
    members: Members,
    picks: Tensor,
    optimiser: torch.optim.Optimizer,
) -> float:
    """One optimiser step; returns the mean square error over the scale squared."""
    error = network(members.log_transmissivity[picks]) - members.head[picks].float()
    loss: Tensor = (error / network.constants.head_scale_m).square().mean()
    optimiser.zero_grad()
    torch.autograd.backward(loss)
    torch.nn.utils.clip_grad_norm_(network.parameters(), MAX_GRADIENT_NORM)
    optimiser.step()
    return loss.item()


def _require_finite(loss: float, epoch: int, settings: TrainingSettings) -> None:
    if not math.isfinite(loss):
        raise DivergenceError(
            f"the training loss must stay finite; got {loss} in epoch {epoch + 1}. "
            f"Lower train.learning_rate (now {settings.learning_rate:g}); the last "
            f"good checkpoint, after {epoch} epochs, is kept."
        )
