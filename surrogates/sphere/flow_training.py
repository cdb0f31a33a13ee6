"""Training of flow networks: one interval from the truth, then from their own states.

Stage 0 learns pairs x(t), x(t + D) of simulated flows. Each further stage first rolls
the network out along the flows, starting again from the truth now and then, and learns
to return from where it came to x(t + D): the errors that it meets when it runs freely
become part of its training. No gradient goes through a rollout, so that a stage costs
as much per step as the first. Sources: Ross, Gordon and Bagnell (2011),
arXiv:1011.0686; Brandstetter, Worrall and Welling (2022), arXiv:2202.03376.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from simulators.sphere import Grid, power_spectrum
from surrogates.sphere.flow import FlowNetwork
from surrogates.training import Log, TrainingSettings, fit

AT_ONCE = 64  # pairs of a rollout or an evaluation
LARGEST_ERROR = 2.0  # of a rolled state, in units of the residual; beyond is hopeless
# mean square change, in units of all pairs' mean, of pairs that count half
QUIET = 0.05


class FlowPairs(NamedTuple):
    """What a step has to do, each (pairs, 3, l, m)."""

    before: Tensor
    base: Tensor  # what the network adds to
    after: Tensor


@dataclass(frozen=True, slots=True)
class FlowSchedule:
    """How long a flow network trains.

    Attributes:
        first: stage 0.
        rollout_steps: optimiser steps of each further stage.
        rollout_stages: number of those.
        rollout_length: intervals between two starts from the truth, on average.
    """

    first: TrainingSettings
    rollout_steps: int
    rollout_stages: int
    rollout_length: float = 4.0


def flow_pairs(network: FlowNetwork, flows: Tensor) -> FlowPairs:
    """The pairs of flows (members, times, 3, l, m), by member, then time."""
    before, after = flows[:, :-1].flatten(0, 1), flows[:, 1:].flatten(0, 1)
    return FlowPairs(before, _bases(network, before), after)


def train_flow_network(
    network: FlowNetwork,
    flows: Tensor,
    schedule: FlowSchedule,
    checkpoint: Path,
    data_digest: str,
    *,
    shown: Tensor,
    log: Log,
) -> None:
    """Trains in place; a killed training goes on to the same bits.

    Args:
        network: freshly built.
        flows: of the training members, (members, times, 3, l, m).
        schedule: of the training.
        checkpoint: of stage 0; those of later stages lie beside it.
        data_digest: identifies the flows.
        shown: flows of other members, whose one-step skill is logged; decides nothing.
        log: receives one record per epoch.

    Raises:
        DivergenceError: the loss became non-finite.
        ValueError: a checkpoint is of other data or settings.
    """
    truth, held_out = flow_pairs(network, flows), flow_pairs(network, shown)
    files = [
        checkpoint.with_suffix(f".{stage}.pt") if stage else checkpoint
        for stage in range(schedule.rollout_stages + 1)
    ]
    begun = max((k for k, file in enumerate(files) if file.exists()), default=0)
    for stage in range(max(begun - 1, 0), len(files)):
        # the stage before the last one begun is complete: it is loaded, not trained
        pairs, settings = truth, schedule.first
        if stage:
            settings = replace(settings, steps=schedule.rollout_steps)
            if stage >= begun:
                pairs = _rolled_pairs(network, flows, truth, schedule, stage)
        _train(network, pairs, settings, files[stage], data_digest, held_out, log)


def relative_squared_error(output: Tensor, target: Tensor, grid: Grid) -> Tensor:
    """Mean over pairs of I((output - target)^2)/(I(target^2) + 0.05), I the area mean.

    A flow that is about to break changes little at first, and errors made then grow
    with it: an absolute loss hardly sees them. On perturbed jets at T42 an equally long
    training led a U-Net to an error of 0.52 of the vorticity on day 4 with the absolute
    loss, and of 0.26 with this one (one seed).

    Args:
        output: (pairs, 3, lat, lon), in units of the residual.
        target: of the same shape.
        grid: of both.

    Returns:
        Scalar, float64.

    Raises:
        ValueError: if the shapes differ, which would broadcast silently.
    """
    if output.shape != target.shape:
        raise ValueError(
            "output and target must have one shape; got "
            f"{tuple(output.shape)} and {tuple(target.shape)}."
        )
    error, size = (grid.area_mean(x**2).mean(dim=-1) for x in (output - target, target))
    return (error / (size + QUIET)).mean()


def _train(
    network: FlowNetwork,
    pairs: FlowPairs,
    settings: TrainingSettings,
    checkpoint: Path,
    data_digest: str,
    held_out: FlowPairs,
    log: Log,
) -> None:
    def loss(_: nn.Module, picks: Tensor) -> Tensor:
        before, base, after = (x[picks] for x in pairs)
        return relative_squared_error(
            network.output(before, base),
            network.target(base, after),
            network.harmonics.grid,
        )

    def evaluate(mean_loss: float) -> dict[str, object]:
        skill = one_step_skill(network, held_out)
        return {
            "status": f"one-step skill {float(skill[0]):.3f}",
            "training_loss": mean_loss,
            "one_minus_skill": 1 - float(skill[0]),
            "curve": "one_minus_skill",
        }

    shape = network.shape
    label = f"{shape.network}{' over a coarse model' if shape.corrects else ''}"
    fit(
        network.network,
        loss,
        len(pairs.before),
        settings,
        checkpoint,
        data_digest,
        evaluate=evaluate,
        label=label,
        log=log,
        identity={"shape": asdict(shape)},
    )


def one_step_skill(network: FlowNetwork, pairs: FlowPairs) -> Tensor:
    """1 - MSE/MSE of persistence, per channel (3,); 1 is perfect, 0 no better."""
    errors, changes = [], []
    with torch.no_grad():
        for before, base, after in _parts(pairs):
            found = base + network.change(before, base)
            errors.append(_power(found - after))
            changes.append(_power(before - after))
    return 1 - torch.cat(errors).sum(0) / torch.cat(changes).sum(0)


def _bases(network: FlowNetwork, states: Tensor) -> Tensor:
    return torch.cat([network.base(part) for part in torch.split(states, AT_ONCE)])


def _power(coefficients: Tensor) -> Tensor:
    """Area mean of the squared field without its mean, (..., 3), float64."""
    return power_spectrum(coefficients)[..., 1:].double().sum(-1)


def _parts(pairs: FlowPairs) -> Iterator[tuple[Tensor, ...]]:
    return zip(*(torch.split(x, AT_ONCE) for x in pairs), strict=True)


def _rolled_pairs(
    network: FlowNetwork,
    flows: Tensor,
    truth: FlowPairs,
    schedule: FlowSchedule,
    stage: int,
) -> FlowPairs:
    """As many pairs as the truth has, from states that the network reaches itself."""
    generator = torch.Generator().manual_seed(schedule.first.seed + stage)
    n_members, n_times = flows.shape[:2]
    state, found = flows[:, 0], []
    with torch.no_grad():
        for time in range(n_times - 1):
            base = _bases(network, state)
            pairs = FlowPairs(state, base, flows[:, time + 1])
            found.append(pairs)
            change = torch.cat([network.change(*part[:2]) for part in _parts(pairs)])
            afresh = torch.rand(n_members, generator=generator)
            afresh = (afresh < 1 / schedule.rollout_length).to(state.device)
            afresh |= ~_is_near(network, pairs)
            state = torch.where(
                afresh[:, None, None, None], flows[:, time + 1], base + change
            )
    rolled = FlowPairs(
        *(torch.stack(x, dim=1).flatten(0, 1) for x in zip(*found, strict=True))
    )
    near = _is_near(network, rolled)[:, None, None, None]
    return FlowPairs(*(torch.where(near, *x) for x in zip(rolled, truth, strict=True)))


def _is_near(network: FlowNetwork, pairs: FlowPairs) -> Tensor:
    """Whether the way back to the truth is short enough to be learned, (pairs,)."""
    missing = _power(pairs.after - pairs.base).sqrt() / network.residual.flatten()
    near: Tensor = (missing <= LARGEST_ERROR).all(dim=-1)  # not so where NaN
    return near
