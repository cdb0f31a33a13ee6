"""Scores of every model on the test members, beside baselines and coarse solvers.

Errors are relative l2 errors of vorticity against the truth, cut at the truncation of
the networks; a coarser solver is charged with the scales that it lacks.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from simulators.shallow_water import ShallowWater, split_fields
from simulators.shallow_water.diagnostics import kinetic_energy_spectrum
from simulators.sphere import SphericalHarmonics
from surrogates.scores import mean_interval
from surrogates.sphere import carry_ahead, corrected, one_step_skill, pairs_of
from surrogates.sphere.flow import Advance
from surrogates.sphere.flow_scores import horizon, invariant_drifts, vorticity_error
from workflows.engine.driving.training import failure_of
from workflows.engine.files.arrays import write_arrays
from workflows.engine.files.artefacts import Manifest, artefact
from workflows.engine.watching.events import Log
from workflows.shallow_water import models
from workflows.shallow_water.fields import (
    KINDS,
    FlowRecord,
    advection_of,
    propagator_of,
)
from workflows.shallow_water.learning import (
    read_correction,
    read_guard,
    read_network,
    tell_stops,
)
from workflows.shallow_water.rollouts import (
    Rollout,
    Test,
    baselines,
    guarded,
    read_test,
    solvers,
    truth_member_day_s,
    unguarded,
)
from workflows.shallow_water.steps import tuned

Value = TypeVar("Value")
_Arrays: TypeAlias = dict[str, NDArray[Any] | Tensor]
MAP_DAYS = (4, 5, 6)
SCORED_DAYS = (1, 2, 3, 4, 5, 6)
RESOLVED = 2 / 3  # of the truncation: degrees whose energy is compared


@dataclass(frozen=True, slots=True)
class EvaluationRecord:
    """Which test members, and with which coarse solvers beside the networks.

    Attributes:
        flow: of the ensemble.
        test_members: their numbers.
        solvers: truncations, with that of the networks.
        seed: of the ensemble.
    """

    flow: FlowRecord
    test_members: tuple[int, ...]
    solvers: tuple[int, ...]
    seed: int


def evaluate(
    record: EvaluationRecord,
    folder: Path,
    log: Log,
    *,
    summary: Manifest,
    tuning: Manifest,
    networks: Sequence[Manifest],
    correction: Manifest,
) -> Manifest:
    """Rolls every model out from the first states of the test members, and scores it.

    The guard watches the first of the networks. One whose training stopped itself is
    left out.
    """
    flow = record.flow
    test = read_test(folder, flow, record.test_members, record.seed)
    diffusion = tuned(tuning, flow.truncation)
    coarse = propagator_of(flow.truncation, diffusion, flow.interval_s)
    coarse.check(test.first)  # from here on, a network may lead it where it fails
    bases: dict[str, Advance] = {
        "advection": advection_of(flow),
        "solver": coarse.follow,
    }
    trained = {
        str(found.facts["network"]): read_network(folder, found, bases, flow.truncation)
        for found in networks
        if failure_of(found) is None
    }
    stepped: dict[str, Advance] = {"advection": bases["advection"]}
    under_guard, by_solver = dict[str, Rollout](), dict[str, Tensor]()
    if trained:
        watched = next(iter(trained.values()))
        stepped |= {"linear_advection": watched.base, **trained}
        rollout, outside = guarded(test, watched, read_guard(folder, summary), coarse)
        tell_stops(log, test.numbers, outside, flow)
        under_guard["guarded"] = rollout
        by_solver["by_solver"] = outside.any(-1)  # (members, steps)
    rollouts = {
        "truth": Rollout(test.truth),
        **baselines(test, folder, summary),
        **solvers(test, record.solvers, tuning),
        **{name: unguarded(test, advance) for name, advance in stepped.items()},
        **under_guard,
        "linear": unguarded(
            test, corrected(coarse.follow, read_correction(folder, correction))
        ),
    }
    path = folder / "fields" / "evaluation.npz"
    arrays = _arrays(test, rollouts, coarse.model)
    write_arrays(path, **by_solver, **arrays)
    timings = {
        f"{name}_member_day_s": rollout.member_day_s
        for name, rollout in rollouts.items()
        if rollout.member_day_s is not None
    }
    timings[f"{models.solver(flow.truth_truncation)}_member_day_s"] = (
        truth_member_day_s(test)
    )
    facts = _facts(flow, arrays, record.seed)
    if by_solver:
        facts["solver_share"] = float(by_solver["by_solver"].double().mean())
    facts["one_step_skill"] = {
        name: _skill(test, advance) for name, advance in stepped.items()
    }
    return Manifest({"evaluation": artefact(path, folder)}, facts, timings)


def _arrays(
    test: Test, rollouts: Mapping[str, Rollout], model: ShallowWater
) -> _Arrays:
    """What the pictures are drawn from; see the names there."""
    flow, grid = test.flow, model.harmonics.grid
    steps = [int(day * 24 / flow.interval_h) for day in MAP_DAYS]
    shown = [int((test.kinds == kind).argmax()) for kind in range(len(KINDS))]
    arrays: _Arrays = {
        "leads_h": np.arange(1, flow.n_steps + 1) * flow.interval_h,
        "kind": test.kinds,
        "latitude": grid.latitude.rad2deg(),
        "longitude": grid.longitude.rad2deg(),
        "map_days": np.array(MAP_DAYS),
    }
    for name, rollout in rollouts.items():
        if name != "truth":
            arrays[f"error_{name}"] = vorticity_error(rollout.flows, test.truth)[:, 1:]
        if not _is_looked_at(name, flow):
            continue
        drifts = invariant_drifts(model, rollout.flows)
        arrays[f"mass_drift_{name}"] = drifts.mass[:, 1:]
        arrays[f"energy_drift_{name}"] = drifts.energy[:, 1:]
        arrays[f"enstrophy_drift_{name}"] = drifts.potential_enstrophy[:, 1:]
        arrays[f"spectrum_{name}"] = _spectra(test, rollout.flows, model.harmonics)
        if name not in models.NETWORKS or name in models.MAPPED:
            vorticity = rollout.flows[shown][:, steps, 0]
            arrays[f"map_{name}"] = model.harmonics.synthesise(vorticity)
    return arrays


def _is_looked_at(name: str, flow: FlowRecord) -> bool:
    """Whether spectra and invariants of a model are kept."""
    is_other_solver = models.truncation_of(name) not in (None, flow.truncation)
    return name not in models.BASELINES and not is_other_solver


def _spectra(test: Test, flows: Tensor, harmonics: SphericalHarmonics) -> Tensor:
    """Mean kinetic energy by degree on day 5 [m2/s2], (kinds, T+1)."""
    states = flows[:, models.DAY * 24 // test.flow.interval_h]
    spectra = kinetic_energy_spectrum(harmonics, split_fields(states))
    return torch.stack([spectra[test.kinds == k].mean(0) for k in range(len(KINDS))])


def _facts(flow: FlowRecord, arrays: _Arrays, seed: int) -> dict[str, object]:
    """Scores by model and kind, JSON values; None where a rollout is not finite."""
    generator = torch.Generator().manual_seed(seed)
    errors, spectra, drifts = (
        {
            model: torch.as_tensor(arrays[f"{name}_{model}"])
            for model in models.with_array(arrays, name)
        }
        for name in ("error", "spectrum", "mass_drift")
    )
    kinds = np.asarray(arrays["kind"])
    tried = [model for model in spectra if model != "truth"]
    return {
        "errors": {
            model: _by_kind(kinds, partial(_scores, flow, values, generator))
            for model, values in errors.items()
        },
        "horizon_h": {
            model: _by_kind(kinds, partial(_horizon_h, flow, values, errors))
            for model, values in errors.items()
        },
        "spectrum_ratio": {
            model: _ratios(spectra[model], spectra["truth"]) for model in tried
        },
        "mass_drift": {model: _largest(drifts[model]) for model in tried},
    }


def _by_kind(
    kinds: NDArray[np.int64], value: Callable[[NDArray[np.bool_]], Value]
) -> dict[str, Value]:
    """A value of the members of each kind, chosen by rows."""
    return {name: value(kinds == kind) for kind, name in enumerate(KINDS)}


def _scores(
    flow: FlowRecord,
    errors: Tensor,
    generator: torch.Generator,
    rows: NDArray[np.bool_],
) -> dict[str, list[float] | None]:
    """Mean error (members, leads) and its 90 % interval by day."""
    scores: dict[str, list[float] | None] = {}
    for day in SCORED_DAYS:
        values = errors[rows, day * 24 // flow.interval_h - 1]
        is_finite = bool(values.isfinite().all())
        interval = mean_interval(values, generator) if is_finite else ()
        scores[str(day)] = [float(values.mean()), *interval] if is_finite else None
    return scores


def _horizon_h(
    flow: FlowRecord,
    errors: Tensor,
    of_models: Mapping[str, Tensor],
    rows: NDArray[np.bool_],
) -> int:
    """The last lead [h] until which the mean error is below that of climatology."""
    mean, limit = (x[rows].mean(0) for x in (errors, of_models["climatology"]))
    return horizon(mean, limit) * flow.interval_h


def _ratios(spectra: Tensor, truth: Tensor) -> dict[str, list[float] | None]:
    """Least and greatest E(l)/E_truth(l) of resolved degrees, by kind."""
    n_resolved = int(RESOLVED * (truth.shape[-1] - 1)) + 1
    ratios = (spectra / truth)[:, 1:n_resolved]
    return {
        name: [float(row.min()), float(row.max())]
        if bool(row.isfinite().all())
        else None
        for name, row in zip(KINDS, ratios, strict=True)
    }


def _largest(drifts: Tensor) -> float | None:
    """Largest change among those that are finite."""
    finite = drifts[drifts.isfinite()].abs()
    return float(finite.max()) if len(finite) else None


def _skill(test: Test, advance: Advance) -> dict[str, list[float | None]]:
    """One-step skill against persistence of the three fields, by kind.

    None where a model cannot follow a pair.
    """

    def skill(rows: NDArray[np.bool_]) -> list[float | None]:
        before, after = pairs_of(test.truth[rows])
        with torch.no_grad():
            found = carry_ahead(advance, before)
        skills = one_step_skill(found, before, after)
        return [float(x) if x.isfinite() else None for x in skills]

    return _by_kind(test.kinds, skill)
