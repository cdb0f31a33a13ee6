"""Summary and report of a Hanford run, from the manifests and files of its tasks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.sources.aquifer import Aquifer
from data.sources.aquifer_file import read_aquifer
from workflows.engine.files.artefacts import Manifest
from workflows.engine.pages.publishing import Answer, publish
from workflows.engine.pages.report import Metric
from workflows.hanford import generative_sections, lead, sections
from workflows.hanford.config import HanfordConfig
from workflows.hanford.fields import AQUIFER
from workflows.hanford.site_data import describe

NOMINAL_COVERAGE = 0.9


@dataclass(frozen=True, slots=True)
class Results:
    """What the tasks of a run found."""

    prior: Manifest
    statistics: Manifest
    evaluation: Manifest
    pigan: Manifest
    joint_law: Manifest


def write_results(folder: Path, config: HanfordConfig, results: Results) -> str:
    """Publishes the report and the summary; returns the closing words."""
    aquifer = read_aquifer(folder / AQUIFER)
    rmse = _rmse(results)
    prior, statistics = results.prior, results.statistics
    evaluation, joint_law = results.evaluation, results.joint_law
    joint_law_words = generative_sections.describe_joint_law(
        results.pigan, joint_law, config
    )
    is_synthetic = aquifer.is_synthetic
    failed: Any = statistics.facts["failed"]  # JSON
    answer = Answer(
        title="Transmissivity and head of a synthetic aquifer"
        if is_synthetic
        else "Transmissivity and head under the Hanford Site",
        lead=[
            f"{describe(aquifer)}.",
            lead.describe_prior(
                prior.facts, config.prior.kernel, is_synthetic=is_synthetic
            )
            + lead.describe_answer(prior.facts, statistics.facts),
            lead.describe_learning(rmse, evaluation.facts, evaluation.timings),
            joint_law_words,
        ],
        sections=[
            sections.describe_site(folder, aquifer, prior, statistics),
            sections.describe_uncertainty(folder, aquifer, statistics),
            sections.describe_learning(folder, aquifer, evaluation),
            sections.describe_cost(evaluation),
            generative_sections.describe_generator(
                folder, aquifer, config, results.pigan, joint_law
            ),
        ],
        metrics=_metrics(aquifer, results, rmse),
        timings={**evaluation.timings, **results.pigan.timings, **joint_law.timings},
        closing=[
            describe(aquifer),
            "head error on test members: "
            + ", ".join(
                f"{model} {rmse[model][0]:.3f} m"
                for model in ("mean", "ridge", "network")
                if model in rmse
            ),
            joint_law_words,
        ],
        failed=failed,
        facts={
            "aquifer": "synthetic" if is_synthetic else "hanford",
            "prior": {name: prior.facts[name] for name in _PRIOR_FACTS},
        },
        digests=aquifer.digests,
    )
    return publish(folder, answer)


def _rmse(results: Results) -> dict[str, Sequence[float]]:
    """RMSE [m] and interval of each model with the most training members.

    Without the network if that training stopped itself.
    """
    scores: Mapping[str, Mapping[str, Sequence[float]]] = results.evaluation.facts[
        "rmse_m"
    ]  # type: ignore[assignment]  # JSON
    most = list(scores["mean"])[-1]
    return {m: by_size[most] for m, by_size in scores.items() if most in by_size}


def _metrics(
    aquifer: Aquifer, results: Results, rmse: Mapping[str, Sequence[float]]
) -> dict[str, Metric]:
    """The numbers of the answer, each beside what it has to beat."""
    facts: dict[str, Any] = {**results.prior.facts, **results.statistics.facts}
    metrics = generative_sections.metrics_of(results.joint_law)
    if "network" in rmse:
        value, low, high = rmse["network"]
        rivals = ("mean", "ridge", "untrained")
        metrics["network_head_rmse"] = Metric(
            value=value,
            unit="m",
            interval=(low, high),
            baselines={model: rmse[model][0] for model in rivals},
        )
        metrics["network_share_of_ridge_rmse"] = Metric(
            value=value / rmse["ridge"][0], unit="1", baselines={"ridge": 1.0}
        )
    if facts["has_own_measurements"]:
        return metrics
    return metrics | _against_reference(aquifer, facts)


def _against_reference(aquifer: Aquifer, facts: Mapping[str, Any]) -> dict[str, Metric]:
    """How the answer compares with the field from which the measurements were taken."""
    return {
        "reference_head_coverage_90": Metric(
            value=facts["reference_coverage"],
            unit="1",
            baselines={
                "nominal": NOMINAL_COVERAGE,
                "lowest_plausible": facts["lowest_plausible_coverage"],
            },
        ),
        "ensemble_mean_head_rmse": Metric(
            value=facts["reference_head_rmse_m"],
            unit="m",
            baselines={"kriged_field": facts["kriged_head_rmse_m"]},
        ),
        "kriging_log_transmissivity_rmse": Metric(
            value=facts["kriging_rmse"],
            unit="1",
            baselines={"mean": float(aquifer.reference_log_transmissivity.std())},
        ),
    }


_PRIOR_FACTS = (
    "mean",
    "variance",
    "correlation_length_m",
    "nugget",
    "modes",
    "captured_share",
)
