"""What the tasks that simulate do: blocks of flows, their summary, the diffusion.

Paths are below the run folder. Every step can be repeated: it overwrites what an
earlier, killed attempt left, with the same bytes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data.ensemble_store import Format, StoreLayout, create_store
from simulators.random_fields import member_generator
from simulators.shallow_water import split_fields, stack_fields
from simulators.sphere import (
    Diffusion,
    IntegrationError,
    change_truncation,
    gauss_grid_for,
    integrate,
)
from surrogates.sphere.flow_guard import guard_of
from surrogates.sphere.flow_scores import vorticity_error
from workflows.engine.driving.ensemble import require_quorum, without_failing
from workflows.engine.files.arrays import write_arrays
from workflows.engine.files.artefacts import Manifest, artefact
from workflows.engine.files.ensemble_files import STORES, store_members
from workflows.engine.watching.events import Log
from workflows.shallow_water import models
from workflows.shallow_water.fields import (
    DAY_S,
    FIELDS,
    HOUR_S,
    KINDS,
    TRUTH_DIFFUSION,
    FlowRecord,
    draw_states,
    harmonics_of,
    kinds_of,
    model_of,
    propagator_of,
    read_flows,
    require_kinds,
    scheme_of,
)

# order, e-folding time [h] of the shortest wave
DIFFUSIONS = ((4, 28.0), (8, 2.0), (8, 8.0), (8, 28.0))


@dataclass(frozen=True, slots=True)
class BlockRecord:
    """One block of members to draw and simulate."""

    flow: FlowRecord
    members: int
    block_size: int
    block: int
    seed: int
    store_format: Format = "zarr"


def simulate_block(
    record: BlockRecord, folder: Path, log: Log, *, selection: Manifest | None = None
) -> Manifest:
    """Draws the flows of a block, simulates them with the truth, writes their shards.

    The number of a flow is that of its member, or what a selection chose for it.
    """
    flow, store = record.flow, folder / STORES[record.store_format]
    members = _create(record, store).members(record.block)
    numbers, facts = list(members), dict[str, object]()
    if selection:
        numbers, facts = _chosen(selection, members)
    states = draw_states(numbers, record.seed, flow.truth_truncation)
    flows, causes = solve_flows(flow, states, TRUTH_DIFFUSION)
    fields = harmonics_of(flow.truncation).synthesise(flows)
    seeds = [member_generator(record.seed, n).initial_seed() for n in numbers]
    manifest = store_members(
        store,
        record.block,
        {variable.name: fields[:, :, k] for k, variable in enumerate(FIELDS)},
        seeds=seeds,
        failed={members[row]: cause for row, cause in causes.items()},
        provenance={"numbers of the flows": " ".join(map(str, numbers))},
        folder=folder,
        log=log,
    )
    facts |= {"failed": [[members[k], seeds[k], why] for k, why in causes.items()]}
    return Manifest(manifest.artefacts, {**manifest.facts, **facts})


def _create(record: BlockRecord, store: Path) -> StoreLayout:
    flow = record.flow
    grid = gauss_grid_for(flow.truncation)
    latitude, longitude = (x.rad2deg().numpy() for x in (grid.latitude, grid.longitude))
    store.parent.mkdir(exist_ok=True)
    hours = np.arange(flow.n_steps + 1) * flow.interval_h
    return create_store(
        store,
        n_members=record.members,
        block_size=record.block_size,
        variables=FIELDS,
        coordinates={
            "time": ("time", hours, {"units": "hours"}),
            "lat": ("lat", latitude, {"units": "degrees_north"}),
            "lon": ("lon", longitude, {"units": "degrees_east"}),
        },
        attributes={
            "title": f"shallow water at T{flow.truth_truncation}, cut to "
            f"T{flow.truncation}",
            "seed": record.seed,
        },
        format=record.store_format,
        dimensions=("time", "lat", "lon"),
    )


def _chosen(
    selection: Manifest, members: Sequence[int]
) -> tuple[list[int], dict[str, object]]:
    """Numbers of the flows that a selection gave these members, and its own facts."""
    facts: Any = dict(selection.facts)
    first, chosen = facts["first_member"], facts["chosen"]
    numbers = [chosen[member - first] for member in members]
    return numbers, {name: facts[name] for name in ("flagged_share", "flagged_chosen")}


def solve_flows(
    flow: FlowRecord, states: Tensor, diffusion: Diffusion
) -> tuple[Tensor, dict[int, str]]:
    """Flows of a model at the truncation of its first states.

    Args:
        flow: how long, how often, and at what truncation they are kept.
        states: first states (members, 3, l, m).
        diffusion: of the model.

    Returns:
        Flows (members, times, 3, l', m') at the truncation of the networks; those of
        members that fail are NaN, with the cause by row.
    """
    truncation = states.shape[-1] - 1
    model, scheme = model_of(truncation, diffusion), scheme_of(truncation)

    def run(rows: list[int]) -> Tensor:
        snapshots = integrate(
            model,
            split_fields(states[rows]),
            scheme,
            flow.days * DAY_S,
            flow.interval_s,
        )
        try:
            later = [stack_fields(snapshot.state) for snapshot in snapshots]
        except IntegrationError as error:  # its words number the rows of a batch
            raise IntegrationError(
                f"T{truncation}: not finite, or without fluid somewhere, at step "
                f"{error.step}; last good after {error.last_good.time_s:g} s",
                error.members,
                error.step,
                error.last_good,
            ) from error
        found = torch.stack([states[rows], *later], dim=1)
        return change_truncation(found, flow.truncation)

    rows, found, causes = without_failing(run, len(states), IntegrationError)
    n = flow.truncation + 1
    flows = torch.full((len(states), flow.n_steps + 1, 3, n, n), torch.nan) * (1 + 0j)
    if found is not None:
        flows[rows] = found
    return flows, causes


@dataclass(frozen=True, slots=True)
class SummaryRecord:
    """The training members so far, and what is asked of them.

    Attributes:
        truncation: of the flows.
        members: number of them.
        drawn_members: the first of them, whose kind their number tells.
        quorum: share of all members that must not fail.
        margin: by which the guard's ranges are widened, as a share.
    """

    truncation: int
    members: int
    drawn_members: int
    quorum: float
    margin: float


def summarise(
    record: SummaryRecord, folder: Path, log: Log, *, blocks: Sequence[Manifest]
) -> Manifest:
    """Climatology of each kind of training flow; the ranges that guard a rollout.

    Raises:
        ValueError: fewer members than the quorum have a result, or none of a kind.
    """
    told: list[Any] = [dict(block.facts) for block in blocks]
    failed = [item for facts in told for item in facts["failed"]]
    n_members = sum(facts["members"] for facts in told)
    causes = {member: cause for member, _, cause in failed}
    require_quorum(causes, n_members, record.quorum)
    ids, flows = read_flows(folder, record.truncation, range(record.members))
    drawn, kinds = ids < record.drawn_members, kinds_of(ids.tolist())
    require_kinds("training", kinds[drawn])
    climatology = [flows[drawn & (kinds == k)].mean((0, 1)) for k in range(len(KINDS))]
    model = model_of(record.truncation, TRUTH_DIFFUSION)
    guard = guard_of(model, flows, record.margin)
    path = folder / "fields" / f"summary_{record.members}.npz"
    write_arrays(
        path,
        climatology=torch.stack(climatology),
        lowest=guard.lowest,
        highest=guard.highest,
    )
    facts = {"members": n_members, "failed": failed}
    return Manifest({"summary": artefact(path, folder)}, facts)


@dataclass(frozen=True, slots=True)
class TuningRecord:
    """Truncations whose diffusion is tuned, on the first `members` members."""

    flow: FlowRecord
    truncations: tuple[int, ...]
    members: int
    seed: int


def tune_diffusion(
    record: TuningRecord, folder: Path, log: Log, *, blocks: Sequence[Manifest]
) -> Manifest:
    """The diffusion with the least error of vorticity on day 5, per truncation."""
    flow = record.flow
    ids, flows = read_flows(folder, flow.truncation, range(record.members))
    truth = flows[:, int(models.DAY * DAY_S / flow.interval_s)]
    states = draw_states(ids.tolist(), record.seed, flow.truth_truncation)
    facts = {}
    for truncation in record.truncations:
        tried = []
        first = change_truncation(states, truncation)
        for order, hours in DIFFUSIONS:
            diffusion = Diffusion(hours * HOUR_S, order)
            propagator = propagator_of(truncation, diffusion, models.DAY * DAY_S)
            later = change_truncation(propagator(first), flow.truncation)
            error = float(vorticity_error(later, truth).mean())
            tried.append([order, hours * HOUR_S, error])
        # a strength with which a member fails is none: NaN is never the least
        best = min(tried, key=lambda row: (math.isnan(row[2]), row[2]))
        if math.isnan(best[2]):
            raise ValueError(
                f"the solver at T{truncation} must follow the first {record.members} "
                "training flows with some diffusion of those that are tried; got none. "
                "Look at those flows, or simulate at a higher flow.truncation."
            )
        names = ("order", "e_folding_time_s", "error")
        facts[models.solver(truncation)] = {
            **dict(zip(names, best, strict=True)),
            "tried": [row for row in tried if not math.isnan(row[2])],
        }
    return Manifest(facts=facts)


def tuned(tuning: Manifest, truncation: int) -> Diffusion:
    """The diffusion that was found for a truncation."""
    found: Any = tuning.facts[models.solver(truncation)]
    return Diffusion(found["e_folding_time_s"], found["order"])
