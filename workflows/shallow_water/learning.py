"""The steps that learn: networks, a linear correction, and who is simulated next.

Test members are the last of the ensemble; no training, choice or guard sees them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from simulators.sphere import Diffusion, change_truncation
from surrogates.distributed.checkpoint import load_checkpoint
from surrogates.sphere import (
    FlowNetwork,
    FlowSchedule,
    FlowShape,
    LinearCorrection,
    carry_ahead,
    corrected,
    fit_linear_correction,
    flow_network_of,
    flow_network_state,
    measure_scales,
    pairs_of,
    train_flow_network,
)
from surrogates.sphere.flow import Advance
from surrogates.sphere.flow_guard import QUANTITIES, Guard, roll_out_guarded
from workflows.engine.driving.training import (
    Trained,
    Training,
    failure_of,
    train_in_process,
)
from workflows.engine.files.arrays import read_arrays, write_arrays
from workflows.engine.files.artefacts import Manifest, artefact, digest_of
from workflows.engine.watching.events import Log
from workflows.shallow_water.fields import (
    FlowRecord,
    advection_of,
    draw_states,
    harmonics_of,
    propagator_of,
    read_flows,
)
from workflows.shallow_water.steps import tuned

N_SCALED = 16  # members whose states set the scales of a network


@dataclass(frozen=True, slots=True)
class NetworkRecord:
    """A network to train on the first `members` members.

    Attributes:
        name: of the model in the report.
        shown_members: test members whose one-step skill a training curve shows.
    """

    name: str
    flow: FlowRecord
    network: Literal["sfno", "unet"]
    width: int
    depth: int
    members: int
    shown_members: tuple[int, ...]
    schedule: FlowSchedule
    threads: int


def train_network(
    record: NetworkRecord,
    folder: Path,
    log: Log,
    *,
    blocks: Sequence[Manifest],
    tuning: Manifest | None = None,
) -> Manifest:
    """Trains a network in a process of its own; goes on from an earlier checkpoint.

    With a tuning the network adds to the coarse solver, else to carried vorticity.
    """
    arguments, digest = dict[str, Any](), digest_of(blocks)
    if tuning is not None:
        diffusion = asdict(tuned(tuning, record.flow.truncation))
        arguments["diffusion"] = diffusion
        digest = f"{digest} {diffusion}"
    return train_in_process(
        fit_network,
        record,
        folder,
        f"{record.name}_{record.members}",
        arguments=arguments,
        data_digest=digest,
        n_threads=record.threads,
    )


def fit_network(
    record: NetworkRecord,
    training: Training,
    *,
    diffusion: Mapping[str, Any] | None = None,
) -> Trained:
    """The trained network and its size; what the training process does.

    The network adds to what carries vorticity along, or to the coarse solver with this
    diffusion, after a linear correction of it, which is kept with the network.
    """
    flow, run = record.flow, training.folder
    _, flows = read_flows(run, flow.truncation, range(record.members))
    _, shown = read_flows(run, flow.truncation, record.shown_members)
    harmonics = harmonics_of(flow.truncation)
    known: Advance = advection_of(flow)
    if diffusion is not None:
        coarse = Diffusion(**diffusion)
        solver = propagator_of(flow.truncation, coarse, flow.interval_s)
        solver.check(flows[:, 0])  # the network may lead it where it fails
        known = solver.follow
    correction = fit_linear_correction(known, *pairs_of(flows))
    base = corrected(known, correction)
    shape = FlowShape(
        record.network,
        record.width,
        record.depth,
        flow.interval_s,
        "advection" if diffusion is None else "solver",
    )
    before, after = pairs_of(flows[:N_SCALED])
    scales = measure_scales(harmonics, before, carry_ahead(base, before), after)
    generator = torch.Generator().manual_seed(record.schedule.first.seed)
    network = FlowNetwork(harmonics, shape, scales, base, generator)
    train_flow_network(
        network,
        flows,
        record.schedule,
        training.checkpoint,
        training.data_digest,
        shown=shown,
        log=training.log,
    )
    n_parameters = sum(p.numel() for p in network.parameters())
    facts = {"network": record.name, "parameters": n_parameters}
    state = {**flow_network_state(network), "correction": correction.arrays()}
    return state, facts


def read_network(
    folder: Path, training: Manifest, bases: Mapping[str, Advance], truncation: int
) -> FlowNetwork:
    """The network that a training left, over that of the bases which it had."""
    path = folder / training.artefacts["checkpoint"].path
    state = load_checkpoint(path)["description"]
    correction = LinearCorrection(**state["correction"])
    base = corrected(bases[state["shape"]["base"]], correction)
    return flow_network_of(state, harmonics_of(truncation), base)


@dataclass(frozen=True, slots=True)
class CorrectionRecord:
    """A linear correction of the coarse solver, learned from the first members."""

    flow: FlowRecord
    members: int


def fit_correction(
    record: CorrectionRecord,
    folder: Path,
    log: Log,
    *,
    blocks: Sequence[Manifest],
    tuning: Manifest,
) -> Manifest:
    """Fits the linear correction of the coarse solver with its tuned diffusion."""
    flow = record.flow
    _, flows = read_flows(folder, flow.truncation, range(record.members))
    diffusion = tuned(tuning, flow.truncation)
    coarse = propagator_of(flow.truncation, diffusion, flow.interval_s)
    correction = fit_linear_correction(coarse, *pairs_of(flows))
    path = folder / "fields" / "linear_correction.npz"
    write_arrays(path, **correction.arrays())
    return Manifest({"correction": artefact(path, folder)})


def read_correction(folder: Path, fitted: Manifest) -> LinearCorrection:
    """The correction that `fit_correction` left."""
    arrays = read_arrays(folder / fitted.artefacts["correction"].path)
    return LinearCorrection(**{name: torch.tensor(x) for name, x in arrays.items()})


def read_guard(folder: Path, summary: Manifest) -> Guard:
    """The ranges of the training flows."""
    arrays = read_arrays(folder / summary.artefacts["summary"].path)
    return Guard(*(torch.tensor(arrays[name]) for name in ("lowest", "highest")))


@dataclass(frozen=True, slots=True)
class SelectionRecord:
    """Candidates to choose members from.

    Attributes:
        flow: of the ensemble.
        mode: `flagged` for those whose rollouts the guard stops first, or `random`.
        members: to choose.
        first_member: the member that the first of them becomes.
        candidates: numbers of flows, which no other member has.
        seed: of the ensemble.
    """

    flow: FlowRecord
    mode: Literal["flagged", "random"]
    members: int
    first_member: int
    candidates: tuple[int, ...]
    seed: int


def select_members(
    record: SelectionRecord,
    folder: Path,
    log: Log,
    *,
    network: Manifest,
    summary: Manifest,
    tuning: Manifest,
) -> Manifest:
    """Rolls candidates out under the guard, and chooses which are to be simulated.

    The first ones where the training of the network stopped itself.
    """
    flow = record.flow
    if failure_of(network) is not None:
        chosen = list(record.candidates[: record.members])
        return _selected(record, chosen, flagged_share=None, flagged_chosen=None)
    diffusion = tuned(tuning, flow.truncation)
    states = draw_states(record.candidates, record.seed, flow.truth_truncation)
    coarse = propagator_of(flow.truncation, diffusion, flow.interval_s)
    first = change_truncation(states, flow.truncation)
    coarse.check(first)
    rolled = roll_out_guarded(
        read_network(
            folder, network, {"advection": advection_of(flow)}, flow.truncation
        ),
        coarse.model,
        read_guard(folder, summary),
        coarse.follow,
        first,
        flow.n_steps,
    )
    stopped = rolled.outside.any(-1)  # (candidates, steps)
    lasted = stopped.int().cumsum(-1).eq(0).sum(-1)  # steps before the guard
    order = lasted.argsort(stable=True)
    if record.mode == "random":  # numbers carry no order: the first are as good as any
        order = torch.arange(len(order))
    chosen = [record.candidates[k] for k in order[: record.members].tolist()]
    tell_stops(log, record.candidates, rolled.outside, flow)
    return _selected(
        record,
        chosen,
        flagged_share=float(stopped.any(-1).double().mean()),
        flagged_chosen=int(stopped.any(-1)[order[: record.members]].sum()),
    )


def _selected(
    record: SelectionRecord,
    chosen: list[int],
    *,
    flagged_share: float | None,
    flagged_chosen: int | None,
) -> Manifest:
    facts = {
        "chosen": chosen,
        "first_member": record.first_member,
        "flagged_share": flagged_share,
        "flagged_chosen": flagged_chosen,
    }
    return Manifest(facts=facts)


def tell_stops(
    log: Log, numbers: Sequence[int], outside: Tensor, flow: FlowRecord
) -> None:
    """Logs where the guard stopped each flow for the first time, and why.

    Args:
        log: of the task.
        numbers: of the flows.
        outside: ranges that were left, (flows, steps, quantities).
        flow: of the ensemble.
    """
    for number, left in zip(numbers, outside, strict=True):
        steps = left.any(-1).nonzero().flatten()
        if len(steps):
            reasons = zip(QUANTITIES, left[steps[0]], strict=True)
            log(
                {
                    "event": "guard",
                    "flow": number,
                    "lead_h": (int(steps[0]) + 1) * flow.interval_h,
                    "reason": ", ".join(name for name, is_left in reasons if is_left),
                }
            )
