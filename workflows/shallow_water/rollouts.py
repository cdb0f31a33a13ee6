"""Rollouts of the test members by every model, with the time that they take.

`truth`, `persistence`, `climatology` and `advection`, `solver_t21` and the like, the
networks by their name, `guarded` for the first of them under the guard; `linear` and
`linear_advection` for the coarse solver and for advection with a regression on top,
`hybrid` for the former with a network as well.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from simulators.shallow_water import ShallowWater
from simulators.sphere import Propagator, change_truncation
from surrogates.sphere import FlowNetwork, roll_out
from surrogates.sphere.flow import Advance
from surrogates.sphere.flow_guard import Guard, roll_out_guarded
from workflows.engine.files.arrays import read_arrays
from workflows.engine.files.artefacts import Manifest
from workflows.shallow_water import models
from workflows.shallow_water.fields import (
    TRUTH_DIFFUSION,
    FlowRecord,
    draw_states,
    kinds_of,
    read_flows,
    require_kinds,
)
from workflows.shallow_water.steps import solve_flows, tuned

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, eq=False)
class Test:
    """The members that no training saw.

    Attributes:
        flow: of the ensemble.
        numbers: of the flows.
        truth: (members, times, 3, l, m), at the truncation of the networks.
        states: first states at the truncation of the truth.
    """

    flow: FlowRecord
    numbers: tuple[int, ...]
    truth: Tensor
    states: Tensor

    @property
    def kinds(self) -> NDArray[np.int64]:
        """0 for a jet, 1 for a random state, (members,)."""
        return kinds_of(self.numbers)

    @property
    def first(self) -> Tensor:
        """First states at the truncation of the networks."""
        return self.truth[:, 0]


@dataclass(frozen=True, slots=True, eq=False)
class Rollout:
    """What a model makes of the test members.

    Attributes:
        flows: (members, times, 3, l, m).
        member_day_s: seconds per member and simulated day; None where it costs nothing.
    """

    flows: Tensor
    member_day_s: float | None = None


def read_test(
    folder: Path, flow: FlowRecord, members: Sequence[int], seed: int
) -> Test:
    """The test members of a run.

    Raises:
        ValueError: no jet or no random state is among them.
    """
    ids, truth = read_flows(folder, flow.truncation, members)
    numbers = tuple(ids.tolist())
    require_kinds("test", kinds_of(numbers))
    states = draw_states(numbers, seed, flow.truth_truncation)
    return Test(flow, numbers, truth, states)


def baselines(test: Test, folder: Path, summary: Manifest) -> dict[str, Rollout]:
    """No change, and the mean of the training flows of the same kind."""
    arrays = read_arrays(folder / summary.artefacts["summary"].path)
    climatology = torch.as_tensor(arrays["climatology"])[test.kinds]
    return {
        "persistence": Rollout(test.first[:, None].expand_as(test.truth)),
        "climatology": Rollout(climatology[:, None].expand_as(test.truth)),
    }


def solvers(
    test: Test, truncations: Sequence[int], tuning: Manifest
) -> dict[str, Rollout]:
    """Coarse solvers with tuned diffusion, unbroken; members that fail are NaN."""
    found = {}
    for truncation in truncations:
        first = change_truncation(test.states, truncation)
        run = partial(solve_flows, test.flow, first, tuned(tuning, truncation))
        (flows, _), seconds = _timed(run, len(first) * test.flow.days)
        found[models.solver(truncation)] = Rollout(flows, seconds)
    return found


def truth_member_day_s(test: Test) -> float:
    """What a day of the truth costs: seconds per member."""
    day = replace(test.flow, days=1)
    run = partial(solve_flows, day, test.states, TRUTH_DIFFUSION)
    return _timed(run, len(test.states))[1]


def unguarded(test: Test, advance: Advance) -> Rollout:
    """Any model by itself."""
    run = partial(roll_out, advance, test.first, test.flow.n_steps)
    return Rollout(*_timed(run, len(test.first) * test.flow.days))


def guarded(
    test: Test, network: FlowNetwork, guard: Guard, coarse: Propagator[ShallowWater]
) -> tuple[Rollout, Tensor]:
    """A network under a guard, with the coarse solver to fall back to.

    Also which ranges its steps left, (members, steps, quantities).
    """
    flow = test.flow
    run = partial(
        roll_out_guarded,
        network,
        coarse.model,
        guard,
        coarse.follow,
        test.first,
        flow.n_steps,
    )
    found, seconds = _timed(run, len(test.first) * flow.days)
    return Rollout(found.flows, seconds), found.outside


def _timed(run: Callable[[], Result], member_days: int) -> tuple[Result, float]:
    """A result, and the seconds per member-day that it took."""
    began = time.perf_counter()
    result = run()
    return result, (time.perf_counter() - began) / member_days
