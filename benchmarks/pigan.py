"""Accuracy of the physics-informed GAN beside its classical rivals, over seeds.

    python -m benchmarks.pigan [--markdown] [--seeds 3] [--workers 2] [--only WORD ...]

Real mesh; ln T is Gaussian (Matérn-5/2, variance 2.5, length 0.04 = 2.4 km, mean of the
reference field), conditional on row 0 of the sets of 100 observations, which the
generators are not told unless a row says so; the true kernel they are, unless a row
says that it is wrong or fitted. A seed draws 1,000 training members, the
cells of 200 ln T sensors, and the network; 8,000 further members are the reference of
all scores, and 4,000 generated ones are scored, 100 where snapshots are inverted.
Seconds are those of training, or of computing a rival's statistics, on one core.
Intervals are 90 %, Student's t over seeds; "simulated members" is the sampling
error of that many simulated full fields. Needs the published data.
"""

import os
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import lru_cache, partial
from multiprocessing import get_context
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.rows import parser_of, print_row
from benchmarks.surrogate_accuracy import DEFAULT_DATA, with_interval
from data.sources.aquifer import Aquifer
from data.sources.hanford import read_hanford
from simulators.random_fields import (
    Covariance,
    fields_from_coordinates,
    fit_covariance,
    karhunen_loeve,
    krige,
    sample_members,
)
from simulators.subsurface import FlowSolver
from surrogates.pigan.build import PiganShape
from surrogates.pigan.heads import HEAD, LOG_TRANSMISSIVITY
from surrogates.pigan.train import GanSettings
from workflows.hanford import generative
from workflows.hanford import generative_evaluation as evaluation
from workflows.hanford.fields import flow_problem
from workflows.hanford.generative import PiganRecord
from workflows.hanford.sensing import Site, SiteRecord
from workflows.hanford.sensing import site_of as site_from

TRUTH = Covariance("matern52", variance=2.5, correlation_length=0.04)
N_TERMS = 1000
N_TRAINING, N_HELD_OUT, N_REFERENCE, N_GENERATED = 1000, 500, 8000, 4000
REFERENCE_SEED, FIRST_SEED = 7, 100
STEPS, LONG_STEPS = 1200, 7000
N_INVERTED = 100
WRONG = {"length_factor": 2.0, "variance_factor": 0.6}

Scores = dict[str, dict[str, float]]


class Found(NamedTuple):
    """Scores by field, and what it took."""

    scores: Scores
    seconds: float


class Case(NamedTuple):
    """A row of the table: how it is computed for one seed."""

    name: str
    compute: Callable[[int], Found]


def site_of(seed: int, **changes: object) -> Site:
    """What a generator may know, for the sensors and members of one seed.

    The assumed covariance is the true one times the factors among the changes or, with
    `is_fitted`, the one that is most likely for the 100 measurements.
    """
    is_fitted = changes.pop("is_fitted", False)
    record = SiteRecord(
        problem="mixed",
        snapshots=N_TRAINING,
        log_transmissivity_sensors=200,
        head_sensors=323,
        knows_measurements=False,
        kernel=TRUTH.kernel,
        variance_factor=1.0,
        length_factor=1.0,
        ensemble_members=N_TRAINING + N_HELD_OUT,
        test_members=N_HELD_OUT,
        seed=seed,
    )
    record = replace(record, **changes)  # type: ignore[arg-type]  # fields of the record
    aquifer, measured = problem()
    members = simulate(seed, N_TRAINING + N_HELD_OUT)
    training = {name: field[: record.snapshots] for name, field in members.items()}
    held_out = {name: field[N_TRAINING:] for name, field in members.items()}
    model, mean = TRUTH, float(aquifer.reference_log_transmissivity.mean())
    if is_fitted:
        points = torch.tensor(aquifer.cell_centroids)
        fitted = fit_covariance(points[measured[0]], measured[1])
        model, mean = fitted.covariance, fitted.mean
    return site_from(record, aquifer, model, mean, measured, (training, held_out))


@lru_cache
def problem() -> tuple[Aquifer, tuple[Tensor, Tensor]]:
    """The published site, and the cells and values of the measurements."""
    folder = Path(os.environ.get("HEADRACE_HANFORD_DATA", DEFAULT_DATA))
    aquifer = read_hanford(folder)
    cells = torch.tensor(aquifer.observation_sets[100][0])
    values = torch.tensor(aquifer.reference_log_transmissivity)[cells]
    return aquifer, (cells, values)


@lru_cache
def simulate(seed: int, n: int) -> dict[str, Tensor]:
    """Members of the conditional prior with their heads, (n, cells) float32 each."""
    aquifer, (cells, values) = problem()
    points = torch.tensor(aquifer.cell_centroids)
    mean = float(aquifer.reference_log_transmissivity.mean())
    kriged = krige(points, points[cells], values, TRUTH, mean)
    prior = karhunen_loeve(kriged.mean, kriged.covariance, n_terms=N_TERMS)
    mesh, forcing = flow_problem(aquifer)
    solver = FlowSolver(mesh)
    log_t, heads = [], []
    for start in range(0, n, 500):
        members = range(start, min(start + 500, n))
        fields = fields_from_coordinates(prior, sample_members(prior, seed, members))
        log_t.append(fields.float())
        heads.append(solver.solve(fields, forcing).float())
    return {LOG_TRANSMISSIVITY: torch.cat(log_t), HEAD: torch.cat(heads)}


def reference() -> dict[str, Tensor]:
    """The held-out members that every row is compared with."""
    return simulate(REFERENCE_SEED, N_REFERENCE)


def record_of(seed: int, shape: PiganShape, **settings: float) -> PiganRecord:
    """A generator's record; only shape and settings matter here."""
    chosen = GanSettings(steps=STEPS, seed=seed)
    chosen = replace(chosen, **settings)  # type: ignore[arg-type]  # its own fields
    return PiganRecord(_NO_SITE, shape, chosen, threads=1)


_NO_SITE = SiteRecord(
    "mixed", 0, 0, 0, knows_measurements=False, kernel="matern52", variance_factor=1,
    length_factor=1, ensemble_members=0, test_members=0, seed=0,
)  # fmt: skip


def trained(
    seed: int,
    changes: Mapping[str, object],
    shape: PiganShape,
    settings: Mapping[str, float],
) -> Found:
    """Trains a generator and scores it."""
    site, record = site_of(seed, **changes), record_of(seed, shape, **settings)
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        model, stopped = generative.train(
            site, record, Path(folder) / "pigan.pt", "", _unlogged
        )
        seconds = time.perf_counter() - began
    generated = evaluation.sample(model, N_GENERATED, seed)
    scores = evaluation.score(site, generated, reference())
    more = {
        "consistency": evaluation.consistency_of(model, generated, reference()),
        "memorisation": evaluation.memorisation_of(site, generated),
        "stopped": float(stopped is not None),
    }
    return Found({**scores, "model": more}, seconds)


def started(seed: int, changes: Mapping[str, object]) -> Found:
    """The Gaussian fit to the readings of ln T, kriging and the solver: no training."""
    site, record = site_of(seed, **changes), record_of(seed, PiganShape())
    began = time.perf_counter()
    model = generative.new_model(site, record)
    generated = evaluation.sample(model, N_GENERATED, seed)
    seconds = time.perf_counter() - began
    return Found(evaluation.score(site, generated, reference()), seconds)


def inverted(seed: int, changes: Mapping[str, object]) -> Found:
    """Snapshots inverted one by one, each to one draw."""
    site = site_of(seed, **changes)
    began = time.perf_counter()
    fields = generative.inverted_fields(site, N_INVERTED, seed)
    seconds = time.perf_counter() - began
    return Found(evaluation.score(site, fields, reference()), seconds)


def interpolated(seed: int, changes: Mapping[str, object]) -> Found:
    """Kriged statistics of the readings."""
    site = site_of(seed, **changes)
    began = time.perf_counter()
    scores = evaluation.score_interpolation(site, reference())
    return Found(scores, time.perf_counter() - began)


def simulated(seed: int, n: int) -> Found:
    """So many simulated full fields: the sampling error."""
    fields = {k: v[:n] for k, v in simulate(seed, N_TRAINING + N_HELD_OUT).items()}
    return Found(evaluation.score(site_of(seed), fields, reference()), 0.0)


MIXED: Mapping[str, object] = {}
FEW = {"snapshots": 200}
TOLD = {"knows_measurements": True}
INVERSE = {"problem": "inverse", "is_fitted": True}
INVERSE_WRONG = {"problem": "inverse", **WRONG}
FORWARD = {"problem": "forward"}
SOLVER, NETWORK = PiganShape(), PiganShape("residual")
LONG = {"steps": LONG_STEPS}


def generator(
    changes: Mapping[str, object],
    shape: PiganShape = SOLVER,
    settings: Mapping[str, float] = MappingProxyType({}),
) -> Callable[[int], Found]:
    """Computes a row of a trained generator."""
    return partial(trained, changes=dict(changes), shape=shape, settings=dict(settings))


def rival(
    compute: Callable[..., Found], changes: Mapping[str, object]
) -> Callable[[int], Found]:
    """Computes a row of a classical answer."""
    return partial(compute, changes=dict(changes))


CASES = [
    Case("simulated members, 1000", partial(simulated, n=1000)),
    Case("simulated members, 200", partial(simulated, n=200)),
    Case("simulated members, 100", partial(simulated, n=100)),
    Case("interpolated statistics, 1000 snapshots", rival(interpolated, MIXED)),
    Case("interpolated statistics, 200 snapshots", rival(interpolated, FEW)),
    Case("Gaussian fit + kriging + solver, 1000", rival(started, MIXED)),
    Case("Gaussian fit + kriging + solver, 200", rival(started, FEW)),
    Case("told measurements: Gaussian + solver, 1000", rival(started, TOLD)),
    Case("told measurements: PI-GAN solver, 1000", generator(TOLD)),
    Case("inversion, one by one, 100 snapshots", rival(inverted, MIXED)),
    Case("PI-GAN solver, 1000", generator(MIXED)),
    Case("PI-GAN solver, 200", generator(FEW)),
    Case("wrong kernel: Gaussian + solver, 1000", rival(started, WRONG)),
    Case("wrong kernel: PI-GAN solver, 1000", generator(WRONG)),
    Case(
        "PI-GAN solver, generator on the mesh, 1000",
        generator(MIXED, PiganShape(generator="mesh")),
    ),
    Case(
        "PI-GAN solver, moments without critics, 1000",
        generator(MIXED, SOLVER, {"adversarial_weight": 0.0}),
    ),
    Case("forward: Gaussian + solver, 1000", rival(started, FORWARD)),
    Case("forward: PI-GAN solver, 1000", generator(FORWARD)),
    Case("inverse, fitted kernel: prior + solver", rival(started, INVERSE)),
    Case("inverse, fitted kernel: one by one, 100", rival(inverted, INVERSE)),
    Case("inverse, fitted kernel: PI-GAN solver, 1000", generator(INVERSE)),
    Case("inverse, wrong kernel: prior + solver", rival(started, INVERSE_WRONG)),
    Case("inverse, wrong kernel: one by one, 100", rival(inverted, INVERSE_WRONG)),
    Case("inverse, wrong kernel: PI-GAN solver, 1000", generator(INVERSE_WRONG)),
    Case(
        "network head, linear skip, no penalty, 1000", generator(MIXED, NETWORK, LONG)
    ),
    Case(
        "residual, weight 0.1, 1000",
        generator(MIXED, NETWORK, {**LONG, "residual_weight": 0.1}),
    ),
    Case(
        "residual, weight 1, 1000",
        generator(MIXED, NETWORK, {**LONG, "residual_weight": 1.0}),
    ),
    Case("none, 1000", generator(MIXED, PiganShape("none"), LONG)),
]


def main() -> None:
    """Prints a line or a table row per case, when all of its seeds are there."""
    parser = parser_of(str(__doc__))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", nargs="*", help="cases whose name has these words")
    options = parser.parse_args()
    words = options.only or []
    cases = [case for case in CASES if all(word in case.name for word in words)]
    context = get_context("spawn")
    seeds = range(FIRST_SEED, FIRST_SEED + options.seeds)
    with ProcessPoolExecutor(options.workers, context, use_one_thread) as pool:
        rows = [(case, [pool.submit(case.compute, s) for s in seeds]) for case in cases]
        for case, futures in rows:
            found = [future.result() for future in futures]
            print_row(row_of(case, found), markdown=options.markdown)


def use_one_thread() -> None:
    """Every worker uses one core."""
    torch.set_num_threads(1)


def row_of(case: Case, found: list[Found]) -> tuple[str, str, str, str]:
    """What, head, ln T, the rest; with intervals over seeds."""

    def over_seeds(field: str, key: str) -> str:
        by_seed = [item.scores.get(field, {}) for item in found]
        values = [scores[key] for scores in by_seed if key in scores]
        return with_interval(values) if values else "–"

    columns = []
    for field in (HEAD, LOG_TRANSMISSIVITY):
        parts = [f"{label} {over_seeds(field, key)}" for label, key in SHOWN]
        columns.append(", ".join(part for part in parts if not part.endswith("–")))
    rest = [f"{with_interval([item.seconds for item in found])} s"]
    rest += [
        f"{key} {over_seeds('model', key)}"
        for key in ("consistency", "memorisation", "stopped")
        if "model" in found[0].scores
    ]
    return case.name, f"head: {columns[0]}", f"ln T: {columns[1]}", ", ".join(rest)


SHOWN = (
    ("mean", "mean_error"),
    ("deviation", "deviation_error"),
    ("spread", "spread_error"),
    ("coverage", "coverage_90"),
    ("covariance", "covariance_error"),
    ("rank", "rank_ratio"),
    ("W1", "wasserstein_1"),
)


def _unlogged(record: Mapping[str, object]) -> None:
    """Drops the events of a training."""


if __name__ == "__main__":
    main()
