"""What every training loop here shares: resuming to the same bits, divergence, time.

Protocol: the loop resumes; after every good epoch it saves, then logs an event `epoch`
with `epoch`, `epochs`, `seconds_left`, a label `training` ("network on 250 members"), a
phrase `status` ("error 0.133 m"), and the numbers that figures of its own need.
"""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from surrogates.distributed.checkpoint import load_checkpoint, save_checkpoint

Log = Callable[[Mapping[str, object]], None]


class DivergenceError(ArithmeticError):
    """The loss is no longer finite."""


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
