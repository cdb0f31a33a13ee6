"""Training of flow networks: on single intervals, then on several in a row.

The first stage learns pairs x(t), x(t + D) of simulated flows. The second rolls the
network out from the truth over some intervals and learns from the error at each of
them, with gradients through all, also through the base below the network: an
error that would grow is charged with its growth. Sources: Brandstetter, Worrall and
Welling (2022), arXiv:2202.03376, on what is missing without; Kochkov et al. (2021),
doi:10.1073/pnas.2101784118, for gradients through the solver.
"""

from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from simulators.sphere import Grid, power_spectrum
from surrogates.sphere.flow import (
    AT_ONCE,
    CHANNELS,
    FlowNetwork,
    carry_ahead,
    pairs_of,
)
from surrogates.training import Log, TrainingSettings, fit

ROLLOUT_RATE = 0.3  # largest learning rate of the second stage, as a share of the first


@dataclass(frozen=True, slots=True)
class FlowSchedule:
    """How long a flow network trains.

    Attributes:
        first: the stage of single intervals.
        rollout_steps: optimiser steps of the second stage; 0 leaves it out.
        rollout_length: its intervals in a row.
        quiet: size, in units of all pairs' mean, of zonal means and of waves that count
            half. Before a jet breaks the base lacks little, which only small values
            show to the network.
    """

    first: TrainingSettings
    rollout_steps: int = 0
    rollout_length: int = 4
    quiet: tuple[float, float] = (0.02, 0.0005)


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
    before, after = pairs_of(shown)
    held_out = _HeldOut(before, carry_ahead(network.base, before), after)
    first = schedule.first
    stages = [(1, first, checkpoint)]
    if schedule.rollout_steps:
        n_epochs = first.steps // first.epoch_steps if first.epoch_steps else 0
        settings = replace(
            first,
            steps=schedule.rollout_steps,
            epoch_steps=max(1, schedule.rollout_steps // n_epochs)
            if n_epochs
            else None,
            learning_rate=ROLLOUT_RATE * first.learning_rate,
        )
        file = checkpoint.with_suffix(".rollout.pt")
        stages.append((schedule.rollout_length, settings, file))
    for length, settings, file in stages:  # a complete stage is loaded, not trained
        windows = _windows(network, flows, length, schedule.quiet)
        _train(network, windows, settings, file, data_digest, held_out, log)


class _HeldOut(NamedTuple):
    """Pairs whose skill is shown, each (pairs, 3, l, m)."""

    before: Tensor
    base: Tensor
    after: Tensor


class _Windows(NamedTuple):
    """Where rollouts of some intervals begin, and what the base makes of them.

    Attributes:
        flows: (members, times, 3, l, m).
        bases: after the first interval, (members, windows, 3, l, m).
        sizes: mean square error of the base alone after each interval, of the zonal
            mean and the waves of each channel, in units of the residual; with the
            least sizes that count, (intervals, members, windows, 3, 2).
        quiet: of the schedule.
    """

    flows: Tensor
    bases: Tensor
    sizes: Tensor
    quiet: tuple[float, float]


def _windows(
    network: FlowNetwork, flows: Tensor, length: int, quiet: tuple[float, float]
) -> _Windows:
    n_members, n_windows = len(flows), flows.shape[1] - length
    first = state = carry_ahead(network.base, flows[:, :n_windows].flatten(0, 1))
    sizes = []
    for k in range(length):
        if k:
            state = carry_ahead(network.base, state)
        missing = flows[:, k + 1 : k + 1 + n_windows].flatten(0, 1) - state
        size = _parts_of_power(missing) / network.residual.flatten()[:, None] ** 2
        sizes.append(size + size.new_tensor(quiet) * size.mean(0))
    shape = (n_members, n_windows)
    first = first.reshape(*shape, *flows.shape[2:])
    by_window = torch.stack(sizes).reshape(length, *shape, CHANNELS, 2)
    return _Windows(flows, first, by_window, quiet)


def relative_squared_error(
    output: Tensor, target: Tensor, size: Tensor, grid: Grid
) -> Tensor:
    """Mean over pairs, channels and parts of I((output - target)^2)/size.

    I is the area mean; the parts are the zonal mean and the waves about it. A flow
    that is about to break changes little at first, and errors made then grow with it:
    an absolute loss hardly sees them. Waves have a size of their own, as the diffusion
    of a jet hides what they lack.

    Args:
        output: (pairs, 3, lat, lon), in units of the residual.
        target: of the same shape.
        size: mean square error that each pair has without the network, (pairs, 3, 2).
        grid: of output and target.

    Returns:
        Scalar, float64.

    Raises:
        ValueError: if the shapes differ, which would broadcast silently.
    """
    if output.shape != target.shape or size.shape != (*output.shape[:2], 2):
        raise ValueError(
            "output and target must have one shape, and each pair and channel two "
            f"sizes; got {tuple(output.shape)}, {tuple(target.shape)} and "
            f"{tuple(size.shape)}."
        )
    error = output - target
    zonal = error.mean(-1, keepdim=True)
    parts = (zonal.expand_as(error), error - zonal)
    squares = torch.stack([grid.area_mean(part**2) for part in parts], dim=-1)
    return (squares / size).mean()


def _train(
    network: FlowNetwork,
    windows: _Windows,
    settings: TrainingSettings,
    checkpoint: Path,
    data_digest: str,
    held_out: _HeldOut,
    log: Log,
) -> None:
    flows, bases, sizes, quiet = windows
    n_members, n_windows = bases.shape[:2]

    def loss(_: nn.Module, picks: Tensor) -> Tensor:
        member, time = picks // n_windows, picks % n_windows
        state, losses = flows[member, time], []
        for k, size in enumerate(sizes):
            base = network.base(state) if k else bases[member, time]
            output = network.output(state, base)
            state = base + network.change(output)
            target = network.target(base, flows[member, time + k + 1])
            losses.append(
                relative_squared_error(
                    output, target, size[member, time], network.harmonics.grid
                )
            )
        return torch.stack(losses).mean()

    shape = asdict(network.shape)
    fit(
        network.network,
        loss,
        n_members * n_windows,
        settings,
        checkpoint,
        data_digest,
        evaluate=partial(_shown_skill, network, held_out),
        label=f"{shape['network']} over {shape['base']}",
        log=log,
        identity={"shape": shape, "intervals": len(sizes), "quiet": quiet},
    )


def _shown_skill(
    network: FlowNetwork, held_out: _HeldOut, mean_loss: float
) -> dict[str, object]:
    """What the log says at the end of an epoch."""
    found = _forecast(network, held_out)
    skill = one_step_skill(found, held_out.before, held_out.after)
    return {
        "status": f"one-step skill {float(skill[0]):.3f}",
        "training_loss": mean_loss,
        "one_minus_skill": 1 - float(skill[0]),
        "curve": "one_minus_skill",
    }


def one_step_skill(found: Tensor, before: Tensor, after: Tensor) -> Tensor:
    """1 - MSE/MSE of persistence, per channel (3,); 1 is perfect, 0 no better.

    Args:
        found: what a model makes of `before`, (pairs, 3, l, m).
        before: x(t).
        after: x(t + D).
    """
    error, change = (_power(x - after).sum(0) for x in (found, before))
    return 1 - error / change


def _forecast(network: FlowNetwork, pairs: _HeldOut) -> Tensor:
    """What a network makes of the states, from what its base makes of them."""
    parts = (torch.split(x, AT_ONCE) for x in (pairs.before, pairs.base))
    with torch.no_grad():
        found = [
            base + network.change(network.output(before, base))
            for before, base in zip(*parts, strict=True)
        ]
    return torch.cat(found)


def _power(coefficients: Tensor) -> Tensor:
    """Area mean of the squared field without its mean, (..., 3), float64."""
    return power_spectrum(coefficients)[..., 1:].double().sum(-1)


def _parts_of_power(coefficients: Tensor) -> Tensor:
    """`_power` of the zonal mean and of the waves, (..., 3, 2)."""
    zonal = coefficients[..., 1:, 0].abs().double().square().sum(-1) / 2
    return torch.stack((zonal, _power(coefficients) - zonal), dim=-1)
