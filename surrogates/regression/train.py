"""Supervised training of a head network: mean square error over the scale of heads."""

import math
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from surrogates.regression.model import HeadNetwork
from surrogates.scores import rmse
from surrogates.training import Log, TrainingSettings, fit, supervised

PREDICTION_BATCH = 128  # members at once; a few arrays of this size stay in the cache


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
    n, scale = len(members.head), network.constants.head_scale_m

    def loss(picks: Tensor) -> Tensor:
        predicted: Tensor = network(members.log_transmissivity[picks])
        return ((predicted - members.head[picks].float()) / scale).square().mean()

    def evaluate(training_loss: float) -> dict[str, object]:
        error = float(rmse(predict(network, shown.log_transmissivity), shown.head))
        return {
            "status": f"error {error:.3f} m",
            "members": n,
            "training_rmse_m": scale * math.sqrt(training_loss),
            "held_out_rmse_m": error,
            "curve": "held_out_rmse_m",
        }

    label = f"network on {n} members"
    learner = supervised(network, loss, n, settings, evaluate=evaluate, label=label)
    identity = {"data_digest": data_digest, "settings": asdict(settings)}
    fit(learner, checkpoint, identity, log)


def predict(network: HeadNetwork, log_transmissivity: Tensor) -> Tensor:
    """Heads (members, n) [m] without gradients, in batches that stay in the cache."""
    n = len(log_transmissivity)
    with torch.no_grad():
        parts = [
            network(log_transmissivity[start : start + PREDICTION_BATCH])
            for start in range(0, n, PREDICTION_BATCH)
        ]
    return torch.cat(parts)
