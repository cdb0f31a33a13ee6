"""Summary and report of a shallow-water run, from the manifests and files of tasks."""

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from itertools import product
from pathlib import Path
from typing import Any

from workflows.engine.driving.steering import Steered
from workflows.engine.driving.training import failure_of
from workflows.engine.files.arrays import read_arrays
from workflows.engine.files.artefacts import Manifest
from workflows.engine.pages.publishing import Answer, publish
from workflows.engine.pages.report import Metric, Section
from workflows.engine.watching.events import read_events
from workflows.shallow_water import cost, lead, models, sections
from workflows.shallow_water.config import ShallowWaterConfig

Facts = Mapping[str, Any]  # of JSON
Points = Mapping[str, Sequence[cost.Point]]


@dataclass(frozen=True, slots=True)
class Results:
    """What the tasks of a run found.

    Attributes:
        summary: of the whole ensemble: members, failed ones.
        tuning: diffusion of each solver.
        evaluation: scores, arrays and seconds of all models.
        trainings: of the networks that were evaluated.
        selections: of the members that a network chose, by round.
        steered: how that ended; None without steering.
    """

    summary: Manifest
    tuning: Manifest
    evaluation: Manifest
    _: KW_ONLY
    trainings: Sequence[Manifest]
    selections: Sequence[Manifest]
    steered: Steered | None


def write_results(folder: Path, config: ShallowWaterConfig, results: Results) -> str:
    """Publishes the report and the summary; returns the closing words."""
    flow, evaluation = config.flow, results.evaluation
    scores: models.Scores = evaluation.facts["errors"]  # type: ignore[assignment]  # JSON
    points = {
        kind: cost.points_of(scores, evaluation.timings, kind, flow.truth_truncation)
        for kind in models.KINDS
    }
    words = _lead(config, results, scores, points)
    trainings = {k: v for t in results.trainings for k, v in t.timings.items()}
    failed: Any = results.summary.facts["failed"]  # JSON
    answer = Answer(
        title="Shallow water on the sphere: solvers and what learned from them",
        lead=words,
        sections=_sections(folder, config, results, points),
        metrics=metrics_of(evaluation.facts, flow.truncation),
        timings={**evaluation.timings, **trainings},
        closing=words,
        failed=failed,
        facts={
            "truncation": flow.truncation,
            "truth_truncation": flow.truth_truncation,
            "parameters": {
                str(t.facts["network"]): t.facts["parameters"]
                for t in results.trainings
                if failure_of(t) is None
            },
            "steering": _steering(config, results),
        },
    )
    return publish(folder, answer)


def metrics_of(evaluation: Facts, truncation: int) -> dict[str, Metric]:
    """The numbers of the answer; those that are not finite are left out."""
    scores: models.Scores = evaluation["errors"]
    metrics = {}
    for model in (m for m in models.NETWORKS if m in scores):
        for kind in models.KINDS:
            error = models.error_of(scores, model, kind, models.DAY)
            if error is not None:
                metrics[f"{model}_vorticity_error_day_{models.DAY}_{kind}"] = Metric(
                    value=error[0],
                    unit="1",
                    interval=(error[1], error[2]),
                    baselines=_baselines(scores, kind, truncation),
                )
    metrics |= _skills(evaluation["one_step_skill"])
    metrics |= _share_of_coarse(scores, truncation)
    drifts = [v for v in evaluation["mass_drift"].values() if v is not None]
    if drifts:
        metrics["largest_mass_drift"] = Metric(value=max(drifts), unit="1")
    if evaluation.get("solver_share") is not None:
        metrics["solver_share_of_guarded_intervals"] = Metric(
            value=evaluation["solver_share"], unit="1"
        )
    return metrics


def _steering(config: ShallowWaterConfig, results: Results) -> dict[str, Any]:
    """Mode, rounds and why they ended; JSON values."""
    rounds: list[Any] = [dict(selection.facts) for selection in results.selections]
    return {
        "mode": config.steering.mode,
        "rounds": [
            {
                "members": len(told["chosen"]),
                "flagged_chosen": told["flagged_chosen"],
                "flagged_share": told["flagged_share"],
            }
            for told in rounds
        ],
        "reason": results.steered.reason if results.steered else "",
    }


def _lead(
    config: ShallowWaterConfig,
    results: Results,
    scores: models.Scores,
    points: Points,
) -> list[str]:
    flow, evaluation = config.flow, results.evaluation.facts
    share: Any = evaluation.get("solver_share")
    paragraphs = [
        lead.describe_ensemble(
            results.summary.facts, flow.truncation, flow.truth_truncation, flow.days
        ),
        *(lead.describe_best(scores, kind, flow.truncation) for kind in models.KINDS),
        lead.describe_correction(scores, flow.truncation, models.DAY),
        lead.describe_winners(points),
        lead.describe_guard(share, _steering(config, results)),
        *(
            f"A training stopped itself, and its network is left out: {cause}"
            for training in results.trainings
            if (cause := failure_of(training)) is not None
        ),
    ]
    return [paragraph for paragraph in paragraphs if paragraph]


def _sections(
    folder: Path, config: ShallowWaterConfig, results: Results, points: Points
) -> list[Section]:
    facts, truncation = results.evaluation.facts, config.flow.truncation
    arrays = read_arrays(folder / results.evaluation.artefacts["evaluation"].path)
    return [
        sections.describe_flows(arrays, truncation),
        sections.describe_errors(arrays, facts),
        sections.describe_scales(arrays, facts, truncation),
        sections.describe_cost(points, truncation),
        sections.describe_training(
            read_events(folder),
            results.tuning.facts,
            _steering(config, results),
        ),
    ]


def _baselines(scores: models.Scores, kind: str, truncation: int) -> dict[str, float]:
    errors = {
        m: models.error_of(scores, m, kind, models.DAY)
        for m in lead.rivals_of(scores, truncation)
    }
    return {m: error[0] for m, error in errors.items() if error is not None}


def _skills(
    skills: Mapping[str, Mapping[str, Sequence[float | None]]],
) -> dict[str, Metric]:
    """Of vorticity, over one interval."""
    return {
        f"{model}_one_step_skill_{kind}": Metric(
            value=values[0], unit="1", baselines={"persistence": 0.0}
        )
        for model, by_kind in skills.items()
        for kind, values in by_kind.items()
        if values[0] is not None
    }


def _share_of_coarse(scores: models.Scores, truncation: int) -> dict[str, Metric]:
    """What each correction leaves of the error, by kind of flow."""
    coarse = models.solver(truncation)
    finer = models.finer_solver(scores, truncation)
    metrics = {}
    for model, kind in product(models.CORRECTIONS, models.KINDS):
        share, of_finer = (
            lead.share_of(scores, m, coarse, kind, models.DAY) for m in (model, finer)
        )
        if share is not None:
            beside = {} if finer is None or of_finer is None else {finer: of_finer}
            name = f"{model}_share_of_coarse_error_day_{models.DAY}_{kind}"
            metrics[name] = Metric(
                value=share, unit="1", baselines={coarse: 1.0} | beside
            )
    return metrics
