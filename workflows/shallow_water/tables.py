"""The tables of a shallow-water report."""

from collections.abc import Mapping, Sequence
from typing import Any

from workflows.engine.pages.report import Grid
from workflows.shallow_water import models

Facts = Mapping[str, Any]  # of JSON

_SECONDS_PER_HOUR = 3600


def score_table(scores: models.Scores, kind: str) -> Grid:
    """Error of every model by day, with its interval."""
    days = sorted({day for by in scores.values() for day in by.get(kind, {})}, key=int)
    rows = [
        [
            models.label(model),
            *(_interval(models.error_of(scores, model, kind, int(d))) for d in days),
        ]
        for model in models.ordered(scores)
    ]
    return Grid(
        [f"error, {models.KINDS[kind]}", *(f"day {day}" for day in days)],
        rows,
        "Relative L2 error of vorticity [-], 90 % bootstrap interval in brackets.",
    )


def _interval(error: tuple[float, float, float] | None) -> str:
    if error is None:
        return "not finite"
    value, low, high = error
    return f"{value:.3f} ({low:.3f} to {high:.3f})"


def skill_table(skill: Mapping[str, Mapping[str, Sequence[float | None]]]) -> Grid:
    """Skill of models over one interval, by field."""
    rows = [
        [models.label(model), models.KINDS[kind], *(_rounded(v) for v in values)]
        for model, by_kind in skill.items()
        for kind, values in by_kind.items()
    ]
    return Grid(
        ["one interval", "flows", "vorticity", "divergence", "geopotential"],
        rows,
        "Skill 1 - MSE/MSE of persistence over one interval: 1 is perfect, 0 no better "
        "than no change.",
    )


def horizon_table(facts: Facts, last_lead_h: float) -> Grid:
    """How long each model beats climatology, and what it does to scales and mass."""
    found = {*facts["horizon_h"], *facts["spectrum_ratio"], *facts["mass_drift"]}
    rows = []
    for model in models.ordered(found - {"climatology"}):
        row = [models.label(model)]
        for kind in models.KINDS:
            horizon = facts["horizon_h"].get(model, {}).get(kind)
            ratio = facts["spectrum_ratio"].get(model, {}).get(kind)
            row += [_hours(horizon, last_lead_h), _range(ratio)]
        rows.append([*row, _scientific(facts["mass_drift"].get(model))])
    header = [
        f"{name}: {what}"
        for name in models.KINDS.values()
        for what in ("horizon, h", "E(l), share of the truth's")
    ]
    return Grid(
        ["model", *header, "largest mass drift"],
        rows,
        "Horizon: last lead with a smaller mean error than climatology. Spectrum: "
        f"lowest and highest ratio on day {models.DAY} up to two thirds of the "
        "truncation. Mass: relative change.",
    )


def tuning_table(tuning: Facts) -> Grid:
    """The diffusion that each solver was given."""
    rows = [
        [
            models.label(model),
            f"∇{'⁴' if found['order'] == 4 else '⁸'}",  # noqa: PLR2004  # del^4, del^8
            f"{found['e_folding_time_s'] / _SECONDS_PER_HOUR:g}",
            _rounded(found["error"]),
            str(len(found["tried"])),
        ]
        for model, found in tuning.items()
    ]
    return Grid(
        ["solver", "diffusion", "e-folding time, h", "error [-]", "settings tried"],
        rows,
        "Diffusion of each solver: the one with the least error of vorticity on "
        "training flows. The time is that of the shortest wave.",
    )


def steering_table(steering: Facts) -> Grid:
    """What each round of steering added, and why it ended."""
    rows = [
        [
            str(k),
            str(found["members"]),
            "–" if found["flagged_chosen"] is None else str(found["flagged_chosen"]),
            "–" if found["flagged_share"] is None else f"{found['flagged_share']:.0%}",
        ]
        for k, found in enumerate(steering["rounds"], start=1)
    ]
    return Grid(
        [
            "round",
            "members added",
            "of them stopped by the guard",
            "candidates that the guard stopped",
        ],
        rows,
        f"Steering ({steering['mode']} members) ended: {steering['reason']}.",
    )


def _hours(horizon: float | None, last_lead_h: float) -> str:
    if horizon is None:
        return "–"
    return f"≥ {last_lead_h:g}" if horizon >= last_lead_h else f"{horizon:g}"


def _range(ratio: Sequence[float | None] | None) -> str:
    if ratio is None or None in ratio:
        return "–"
    return f"{ratio[0]:.2f} to {ratio[1]:.2f}"


def _rounded(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _scientific(value: float | None) -> str:
    return "–" if value is None else f"{value:.1e}"
