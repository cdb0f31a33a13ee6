"""What the report says of the generator: words, metrics, the table, the pictures."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data.sources.aquifer import Aquifer
from workflows.engine.driving.training import failure_of
from workflows.engine.files.arrays import read_arrays
from workflows.engine.files.artefacts import Manifest
from workflows.engine.pages.report import Grid, Illustration, Metric, Section, number
from workflows.engine.watching.events import read_events
from workflows.hanford import generative_figures as figures
from workflows.hanford.config import HanfordConfig

Scores = Mapping[str, Mapping[str, Mapping[str, float]]]

HEADING = "The joint law of transmissivity and head, from sensors alone"
PIGAN = "PI-GAN"
INVERSION = "snapshots inverted one by one"
INTERPOLATION = "interpolated statistics of the sensors"
TOLD = {
    "forward": ["ln T at the sensors"],
    "inverse": ["head at the wells", "the measurements of ln T"],
    "mixed": ["ln T at the sensors", "head at the wells"],
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
    folder: Path,
    aquifer: Aquifer,
    config: HanfordConfig,
    pigan: Manifest,
    joint_law: Manifest,
) -> Section:
    """The joint law of both fields, as learned from sensors alone.

    The rivals alone if the training stopped itself.
    """
    cause = failure_of(pigan)
    if cause is not None:
        return Section(
            HEADING,
            [_failure(cause), _what_scores_mean()],
            tables=[_score_table(joint_law, config)],
        )
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
        HEADING,
        [
            _what_it_knows(config, pigan, joint_law),
            _compare_rivals(_scores(joint_law), config),
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
                "Training. Losses and moment distance are the generator's against the "
                "training snapshots; rank is that of the averaged weights over the "
                "training snapshots'; errors of spread are those of the averaged "
                "weights on held-out snapshots, which decide nothing. 250 members "
                "are generated, so the curves scatter.",
            ),
        ],
        [_score_table(joint_law, config)],
    )


def describe_joint_law(
    pigan: Manifest, joint_law: Manifest, config: HanfordConfig
) -> str:
    """The result in two sentences for the head of the report."""
    cause = failure_of(pigan)
    if cause is not None:
        return _failure(cause)
    scores = _scores(joint_law)
    found = scores["pigan"]["hydraulic_head"]
    words = (
        f"From {_told(config)} alone, a physics-informed GAN finds the mean head to "
        f"{found['mean_error']:.2f} standard deviations and the spread of head to "
        f"{found['spread_error']:.0%}"
    )
    return f"{words}. {_compare_rivals(scores, config)}"


def metrics_of(joint_law: Manifest) -> dict[str, Metric]:
    """The generator's scores beside those of its rivals."""
    scores, facts = _scores(joint_law), joint_law.facts
    if "pigan" not in scores:
        return {}
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


def _failure(cause: str) -> str:
    return f"The training of the {PIGAN} stopped itself and left no generator: {cause}"


def _told(config: HanfordConfig) -> str:
    """What the generator was told, in words."""
    told = list(TOLD[config.problem])
    if config.pigan.knows_measurements and config.problem != "inverse":
        told.append("the measurements of ln T")
    return f"{', '.join(told[:-1])} and {told[-1]}" if len(told) > 1 else told[0]


def _labels(config: HanfordConfig) -> dict[str, str]:
    """Rows of the table, in their order."""
    is_fit = config.problem != "inverse"
    return {
        "simulation": "simulated members, as many as snapshots",
        "pigan": PIGAN,
        "gaussian": "Gaussian fit + kriging + solver" if is_fit else "prior + solver",
        "interpolation": INTERPOLATION,
        "few_simulated": "simulated members, as many as inverted",
        "few_generated": f"{PIGAN}, as many as inverted",
        "inversion": INVERSION,
    }


def _compare_rivals(scores: Scores, config: HanfordConfig) -> str:
    """Whether a classical answer comes closer to the head, in spread and in mean."""
    words = []
    for key, what in (("spread_error", "spread"), ("mean_error", "mean")):
        better = _better_rivals(scores, key, _labels(config))
        if better:
            words.append(f"in the {what} of head {' and '.join(better)} did better")
    if not words:
        return (
            "The generator's errors in mean and spread of head are smaller than those "
            "of every classical rival that was tried."
        )
    return f"But {', '.join(words)}."


def _better_rivals(scores: Scores, key: str, labels: Mapping[str, str]) -> list[str]:
    """Classical answers with a smaller error of the head, of as many members."""
    equals = {
        "gaussian": "pigan",
        "interpolation": "pigan",
        "inversion": "few_generated",
    }
    return [
        labels[rival]
        for rival, ours in equals.items()
        if key in scores.get(rival, {}).get("hydraulic_head", {})
        and scores[rival]["hydraulic_head"][key] < scores[ours]["hydraulic_head"][key]
    ]


def _what_it_assumes(config: HanfordConfig) -> str:
    """The covariance that the generator starts from."""
    pigan = config.pigan
    if pigan.generator == "mesh":
        return "It assumes no covariance."
    factors = (pigan.variance_factor, pigan.length_factor)
    if factors == (1.0, 1.0):
        return "Its kernel is that of the prior."
    return (
        f"Its kernel is that of the prior with {factors[0]:g} times the variance and "
        f"{factors[1]:g} times the correlation length."
    )


def _what_it_knows(config: HanfordConfig, pigan: Manifest, joint_law: Manifest) -> str:
    consistency: Any = joint_law.facts["consistency"]
    memorisation: Any = joint_law.facts["memorisation_ratio"]
    words = (
        f"The generator was told {_told(config)} of training members. "
        f"{_what_it_assumes(config)} Generated heads miss the flow equations of "
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
        "saw. Inverted snapshots are few, so their errors are mostly those of so few "
        "members: they compare with the two rows above them. Below the last row lie "
        "95 % of simulated ensembles of the size that it names, and within its "
        "intervals of rank ratio and coverage 90 %."
    )


def _score_table(joint_law: Manifest, config: HanfordConfig) -> Grid:
    scores = _scores(joint_law)
    calibration: Any = joint_law.facts["calibration"]

    def row(label: str, values: Mapping[str, Mapping[str, float]]) -> list[str]:
        cells = [values.get(field, {}).get(key) for field, key, _ in COLUMNS]
        return [label, *("–" if v is None else f"{v:.3f}" for v in cells)]

    labels = _labels(config)
    rows = [row(labels[r], scores[r]) for r in labels if r in scores]
    bounds = [
        "{} to {}".format(*map(number, calibration[field][key]))
        if key in {"coverage_90", "rank_ratio"}
        else f"{calibration[field][key][1]:.3f}"
        for field, key, _ in COLUMNS
    ]
    n = calibration["members"]
    rows.append([f"{n} simulated members: 95 % of ensembles are below", *bounds])
    return Grid(
        ["", *(label for _, _, label in COLUMNS)],
        rows,
        "Generated and simulated ensembles against the test members.",
    )
