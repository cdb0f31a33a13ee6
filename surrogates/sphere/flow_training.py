"""Training of flow networks: on single intervals, then on several in a row.

The first stage learns pairs x(t), x(t + D) of simulated flows. The second rolls the
network out from the truth over some intervals and learns from the error at each of
them, with gradients through all, also through the base below the network: an
error that would grow is charged with its growth. Sources: Brandstetter, Worrall and
Welling (2022), arXiv:2202.03376, on what is missing without; Kochkov et al. (2021),
doi:10.1073/pnas.2101784118, for gradients through the solver.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from simulators.sphere import Grid, power_spectrum
from surrogates.sphere.flow import AT_ONCE, FlowNetwork, carry_ahead, pairs_of
from surrogates.training import Log, TrainingSettings, fit, supervised

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
    base = carry_ahead(network.base, before)

    def evaluate(mean_loss: float) -> dict[str, object]:
        found = _forecast(network, before, base)
        skill = float(one_step_skill(found, before, after)[0])
        return {
            "status": f"one-step skill {skill:.3f}",
            "training_loss": mean_loss,
            "one_minus_skill": 1 - skill,
            "curve": "one_minus_skill",
        }

    shape = asdict(network.shape)
    label = f"{shape['network']} over {shape['base']}"
    for length, settings, file in _stages(schedule, checkpoint):
        loss, n_windows = _rollout_loss(network, flows, length, schedule.quiet)
        identity = {
            "data_digest": data_digest,
            "settings": asdict(settings),
            "shape": shape,
            "intervals": length,
            "quiet": schedule.quiet,
        }
        learner = supervised(
            network.network, loss, n_windows, settings, evaluate=evaluate, label=label
        )
        fit(learner, file, identity, log)  # a complete stage is loaded, not trained


def _stages(
    schedule: FlowSchedule, checkpoint: Path
) -> Iterator[tuple[int, TrainingSettings, Path]]:
    """Intervals in a row, settings and checkpoint of each stage."""
    first, steps = schedule.first, schedule.rollout_steps
    yield 1, first, checkpoint
    if steps:
        n_epochs = first.steps // first.epoch_steps if first.epoch_steps else 0
        settings = replace(
            first,
            steps=steps,
            epoch_steps=max(1, steps // n_epochs) if n_epochs else None,
            learning_rate=ROLLOUT_RATE * first.learning_rate,
        )
        yield schedule.rollout_length, settings, checkpoint.with_suffix(".rollout.pt")


def _rollout_loss(
    network: FlowNetwork, flows: Tensor, length: int, quiet: tuple[float, float]
) -> tuple[Callable[[Tensor], Tensor], int]:
    """The loss of rollouts from some windows, by number; the number of all windows.

    An error counts by its size over that of the base alone after as many intervals.
    """
    n_members, n_times = flows.shape[:2]
    states = flows.flatten(0, 1)  # (members and times, 3, l, m)
    # where each window begins among the states
    begins = torch.arange(n_members * n_times).reshape(n_members, n_times)
    begins = begins[:, : n_times - length].flatten()
    first_base = state = carry_ahead(network.base, states[begins])
    sizes = []  # of zonal means and waves, (windows, 3, 2), in units of the residual
    for k in range(length):
        if k:
            state = carry_ahead(network.base, state)
        missing = _parts_of_power(states[begins + k + 1] - state)
        size = missing / network.residual.flatten()[:, None] ** 2
        sizes.append(size + size.new_tensor(quiet) * size.mean(0))

    def loss(picks: Tensor) -> Tensor:
        state, losses = states[begins[picks]], []
        for k, size in enumerate(sizes):
            base = network.base(state) if k else first_base[picks]
            output = network.output(state, base)
            state = base + network.change(output)
            target = network.target(base, states[begins[picks] + k + 1])
            grid = network.harmonics.grid
            losses.append(relative_squared_error(output, target, size[picks], grid))
        return torch.stack(losses).mean()

    return loss, len(begins)


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


def one_step_skill(found: Tensor, before: Tensor, after: Tensor) -> Tensor:
    """1 - MSE/MSE of persistence, per channel (3,); 1 is perfect, 0 no better.

    Args:
        found: what a model makes of `before`, (pairs, 3, l, m).
        before: x(t).
        after: x(t + D).
    """
    error, change = (_power(x - after).sum(0) for x in (found, before))
    return 1 - error / change


@torch.no_grad()
def _forecast(network: FlowNetwork, before: Tensor, base: Tensor) -> Tensor:
    """What a network makes of states, from what its base makes of them."""
    parts = zip(*(torch.split(x, AT_ONCE) for x in (before, base)), strict=True)
    return torch.cat([y + network.change(network.output(x, y)) for x, y in parts])


def _power(coefficients: Tensor) -> Tensor:
    """Area mean of the squared field without its mean, (..., 3), float64."""
    return power_spectrum(coefficients)[..., 1:].double().sum(-1)


def _parts_of_power(coefficients: Tensor) -> Tensor:
    """`_power` of the zonal mean and of the waves, (..., 3, 2)."""
    zonal = coefficients[..., 1:, 0].abs().double().square().sum(-1) / 2
    return torch.stack((zonal, _power(coefficients) - zonal), dim=-1)
