"""Summary and report of a Hanford run, from the manifests and files of its tasks."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.ensemble_store import store_bytes
from data.sources.aquifer import Aquifer
from data.sources.aquifer_file import read_aquifer
from workflows.engine.artefacts import Manifest
from workflows.engine.ensemble_files import store_of
from workflows.engine.events import read_events
from workflows.engine.report import (
    Metric,
    Summary,
    complete_summary,
    describe_provenance,
    write_report,
    write_summary,
)
from workflows.engine.run_sections import describe_run
from workflows.engine.staging import describe_staging
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
    """Writes `summary.json` and `report.html`; returns the closing words."""
    aquifer = read_aquifer(folder / AQUIFER)
    run: dict[str, Any] = json.loads((folder / "run.json").read_text())
    summary = _summary(run, aquifer, results)
    write_summary(folder / "summary.json", summary)
    rmse = _rmse(results)
    write_report(
        folder / "report.html",
        title="Transmissivity and head under the Hanford Site"
        if not aquifer.is_synthetic
        else "Transmissivity and head of a synthetic aquifer",
        lead=[
            f"{describe(aquifer)}.",
            lead.describe_prior(
                results.prior.facts,
                config.prior.kernel,
                is_synthetic=aquifer.is_synthetic,
            )
            + lead.describe_answer(results.prior.facts, results.statistics.facts),
            lead.describe_learning(rmse, results.evaluation.timings),
            generative_sections.describe_joint_law(results.joint_law, config),
        ],
        summary=summary,
        sections=[
            sections.describe_site(folder, aquifer, results.prior, results.statistics),
            sections.describe_uncertainty(folder, aquifer, results.statistics),
            sections.describe_learning(folder, aquifer, results.evaluation),
            sections.describe_cost(results.evaluation),
            generative_sections.describe_generator(
                folder, aquifer, config, results.pigan, results.joint_law
            ),
            describe_staging(read_events(folder), store_bytes(store_of(folder))),
            *describe_run(folder),
        ],
        provenance=describe_provenance(run, aquifer.digests),
    )
    return "\n".join(
        [
            describe(aquifer),
            f"head error on test members: mean {rmse['mean'][0]:.3f} m, "
            f"ridge {rmse['ridge'][0]:.3f} m, network {rmse['network'][0]:.3f} m",
            generative_sections.describe_joint_law(results.joint_law, config),
            f"report: {folder / 'report.html'}",
        ]
    )


def _rmse(results: Results) -> dict[str, Sequence[float]]:
    """RMSE [m] and interval of each model with the most training members."""
    scores: Mapping[str, Mapping[str, Sequence[float]]] = results.evaluation.facts[
        "rmse_m"
    ]  # type: ignore[assignment]  # JSON
    return {model: list(by_size.values())[-1] for model, by_size in scores.items()}


def _summary(run: Mapping[str, Any], aquifer: Aquifer, results: Results) -> Summary:
    rmse = _rmse(results)
    baselines = {model: rmse[model][0] for model in ("mean", "ridge", "untrained")}
    facts: dict[str, Any] = {**results.prior.facts, **results.statistics.facts}
    metrics = {
        "network_head_rmse": Metric(
            value=rmse["network"][0],
            unit="m",
            interval=(rmse["network"][1], rmse["network"][2]),
            baselines=baselines,
        ),
        "network_share_of_ridge_rmse": Metric(
            value=rmse["network"][0] / rmse["ridge"][0],
            unit="1",
            baselines={"ridge": 1.0},
        ),
        "failed_members": Metric(value=float(len(facts["failed"])), unit="1"),
    }
    metrics |= generative_sections.metrics_of(results.joint_law)
    if not facts["has_own_measurements"]:
        metrics |= _against_reference(aquifer, facts)
    timings = {
        **results.evaluation.timings,
        **results.pigan.timings,
        **results.joint_law.timings,
    }
    return complete_summary(
        run,
        metrics,
        timings,
        aquifer="synthetic" if aquifer.is_synthetic else "hanford",
        prior={name: results.prior.facts[name] for name in _PRIOR_FACTS},
    )


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
