"""What the report says of the generator: words, metrics, the table, the pictures."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data.sources.aquifer import Aquifer
from workflows.engine.artefacts import Manifest
from workflows.engine.events import read_events
from workflows.engine.report import Grid, Illustration, Metric, Section, number
from workflows.hanford import generative_figures as figures
from workflows.hanford.fields import read_arrays

Scores = Mapping[str, Mapping[str, Mapping[str, float]]]

RIVALS = {
    "simulation": "simulated members, as many as snapshots",
    "pigan": "PI-GAN",
    "gaussian": "Gaussian fit + kriging + solver",
    "interpolation": "interpolated statistics of the sensors",
    "inversion": "snapshots inverted one by one",
}
CALIBRATED = "simulated ensembles: 95 % are below"
TOLD = {
    "forward": "ln T at the sensors",
    "inverse": "head at the wells, and the measurements of ln T",
    "mixed": "ln T at the sensors and head at the wells",
}
COLUMNS = (
    ("log_transmissivity", "mean_error", "ln T: mean, σ"),
    ("log_transmissivity", "deviation_error", "deviation"),
    ("log_transmissivity", "wasserstein_1", "W₁"),
    ("log_transmissivity", "coverage_90", "90 % coverage"),
    ("hydraulic_head", "mean_error", "head: mean, σ"),
    ("hydraulic_head", "spread_error", "spread"),
    ("hydraulic_head", "covariance_error", "covariance"),
    ("hydraulic_head", "rank_ratio", "rank ratio"),
    ("hydraulic_head", "wasserstein_1", "W₁"),
    ("hydraulic_head", "coverage_90", "90 % coverage"),
)
METRICS = {
    "pigan_head_spread_error": ("hydraulic_head", "spread_error"),
    "pigan_head_mean_error": ("hydraulic_head", "mean_error"),
    "pigan_head_coverage_90": ("hydraulic_head", "coverage_90"),
    "pigan_log_transmissivity_mean_error": ("log_transmissivity", "mean_error"),
    "pigan_log_transmissivity_deviation_error": (
        "log_transmissivity",
        "deviation_error",
    ),
}


def describe_generator(
    folder: Path, aquifer: Aquifer, problem: str, pigan: Manifest, joint_law: Manifest
) -> Section:
    """The joint law of both fields, as learned from sensors alone."""
    arrays = read_arrays(folder / joint_law.artefacts["generated"].path)
    events = [e for e in read_events(folder) if e.get("event") == "epoch"]
    maps = [
        Illustration(
            f"generator_{name}",
            figures.moment_maps(aquifer, arrays, name),
            "Left: test members of the simulation. Middle: generated members. Right: "
            "their difference, with the sensors of the field as dots.",
        )
        for name in figures.FIELDS
    ]
    return Section(
        "The joint law of transmissivity and head, from sensors alone",
        [
            _what_it_knows(problem, pigan, joint_law),
            _compare_rivals(_scores(joint_law)),
            _what_scores_mean(),
        ],
        [
            *maps,
            Illustration(
                "generated_pairs",
                figures.generated_pairs(aquifer, arrays),
                "Three generated members: each head belongs to the ln T above it.",
            ),
            Illustration(
                "generator_correlation",
                figures.correlation_slice(aquifer, arrays),
                "A slice of the covariance: correlation of every cell with the head in "
                "one well (cross).",
            ),
            Illustration(
                "generator_spread",
                figures.spread_profile(arrays),
                "Half of the 16 to 84 % range of head in every cell.",
            ),
            Illustration(
                "generator_training",
                figures.gan_curves(events),
                "Training: averaged weights on held-out snapshots, which decide "
                "nothing. 250 members are generated, so the curves scatter. While the "
                "learning rate is high, averages lose correlation and spread; its fall "
                "over the second half brings both back.",
            ),
        ],
        [_score_table(joint_law)],
    )


def describe_joint_law(joint_law: Manifest, problem: str) -> str:
    """The result in two sentences for the head of the report."""
    scores = _scores(joint_law)
    found = scores["pigan"]["hydraulic_head"]
    words = (
        f"From {TOLD[problem]} alone, a physics-informed GAN finds the mean head to "
        f"{found['mean_error']:.2f} standard deviations and the spread of head to "
        f"{found['spread_error']:.0%}"
    )
    return f"{words}. {_compare_rivals(scores)}"


def metrics_of(joint_law: Manifest) -> dict[str, Metric]:
    """The generator's scores beside those of its rivals."""
    scores, facts = _scores(joint_law), joint_law.facts
    metrics = {
        label: Metric(
            value=scores["pigan"][field][key],
            unit="1",
            baselines={
                rival: by_field[field][key]
                for rival, by_field in scores.items()
                if rival != "pigan" and key in by_field.get(field, {})
            },
        )
        for label, (field, key) in METRICS.items()
    }
    for key in ("consistency", "memorisation_ratio"):
        value: Any = facts[key]
        metrics[f"pigan_{key}"] = Metric(value=value, unit="1")
    return metrics


def _scores(joint_law: Manifest) -> Scores:
    scores: Any = joint_law.facts["scores"]  # JSON
    return scores  # type: ignore[no-any-return]  # JSON


def _compare_rivals(scores: Scores) -> str:
    """Whether a classical answer comes closer to the head, in spread and in mean."""
    words = []
    for key, what in (("spread_error", "spread"), ("mean_error", "mean")):
        better = _better_rivals(scores, key)
        if better:
            words.append(f"in the {what} of head {' and '.join(better)} did better")
    if not words:
        return (
            "The generator is closer than every classical rival that was tried, in "
            "mean and spread of head."
        )
    return f"But {', '.join(words)}."


def _better_rivals(scores: Scores, key: str) -> list[str]:
    """Classical answers with a smaller error of the head."""
    ours = scores["pigan"]["hydraulic_head"][key]
    return [
        RIVALS[rival]
        for rival, by_field in scores.items()
        if rival not in {"pigan", "simulation"}
        and by_field.get("hydraulic_head", {}).get(key, math.inf) < ours
    ]


def _what_it_knows(problem: str, pigan: Manifest, joint_law: Manifest) -> str:
    consistency: Any = joint_law.facts["consistency"]
    memorisation: Any = joint_law.facts["memorisation_ratio"]
    words = (
        f"The generator has seen training members at sensors only: {TOLD[problem]}. "
        "Its kernel is that of the prior. Generated heads miss the flow equations of "
        f"their own transmissivity by {consistency:.2g} of the spread; generated "
        f"readings are {memorisation:.2f} times as far from the nearest snapshot as "
        "held-out ones (1: nothing is repeated)."
    )
    if pigan.facts["stopped"]:
        cause = pigan.facts["stopped"]
        words += f" Training ended early, with the last good weights: {cause}"
    return words


def _what_scores_mean() -> str:
    return (
        "Errors are against the test members: of the mean field over the rms standard "
        "deviation; of deviation, robust spread and covariance relative to their norm; "
        "W₁ is the one-point Wasserstein distance over the robust spread. Coverage is "
        "that of the 5 to 95 % interval in cells without sensor or measurement. The "
        "first row is the sampling error of simulated full fields, which no generator "
        "saw; below the last row lie 95 % of simulated ensembles, and within its "
        "intervals of rank ratio and coverage 90 %."
    )


def _score_table(joint_law: Manifest) -> Grid:
    scores = _scores(joint_law)
    calibration: Any = joint_law.facts["calibration"]

    def row(label: str, values: Mapping[str, Mapping[str, float]]) -> list[str]:
        cells = [values.get(field, {}).get(key) for field, key, _ in COLUMNS]
        return [label, *("–" if v is None else f"{v:.3f}" for v in cells)]

    rows = [row(RIVALS[r], scores[r]) for r in RIVALS if r in scores]
    bounds = [
        "{} to {}".format(*map(number, calibration[field][key]))
        if key in {"coverage_90", "rank_ratio"}
        else f"{calibration[field][key][1]:.3f}"
        for field, key, _ in COLUMNS
    ]
    rows.append([CALIBRATED, *bounds])
    return Grid(
        ["", *(label for _, _, label in COLUMNS)],
        rows,
        "Generated and simulated ensembles against the test members.",
    )
