"""The sections of a Hanford report: the site, what stays open, learning, cost."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data.sources.aquifer import Aquifer
from workflows.engine.files.arrays import read_arrays
from workflows.engine.files.artefacts import Manifest
from workflows.engine.pages.report import Grid, Illustration, Section
from workflows.engine.watching.events import read_events
from workflows.hanford import figures

Scores = Mapping[str, Mapping[str, Sequence[float]]]


def describe_site(
    folder: Path, aquifer: Aquifer, prior: Manifest, statistics: Manifest
) -> Section:
    """Where it is, what drives the flow, what was measured."""
    arrays = read_arrays(folder / statistics.artefacts["statistics"].path)
    observed = read_arrays(folder / prior.artefacts["measurements"].path)["cells"]
    head = arrays["reference_hydraulic_head"]
    return Section(
        "The site",
        [
            "Steady confined flow, -∇·(T∇h) = 0, by two-point-flux finite volumes. "
            "Rivers prescribe the head on part of the boundary, upland inflow enters "
            "through a few faces, the rest is closed."
        ],
        [
            Illustration(
                "site",
                figures.site_map(aquifer, head, observed.astype(np.int64)),
                "Head of the reference transmissivity, boundary conditions, wells and "
                "the cells in which ln T is measured.",
            )
        ],
    )


def describe_uncertainty(
    folder: Path, aquifer: Aquifer, statistics: Manifest
) -> Section:
    """The distribution of transmissivity and head, given the measurements."""
    arrays = read_arrays(folder / statistics.artefacts["statistics"].path)
    return Section(
        "What the measurements leave open",
        figures=[
            Illustration(
                "fields",
                figures.field_maps(aquifer, arrays),
                "Mean and standard deviation over the ensemble. Measurements are taken "
                "as exact values of their cells, so the deviation vanishes there.",
            ),
            Illustration(
                "interval",
                figures.interval_maps(aquifer, arrays),
                "Width of the 90 % interval of the head, and by how much the head of "
                "the reference field lies outside of it (white: inside). The reference "
                "is not the truth behind a user's own measurements.",
            ),
            Illustration(
                "correlation",
                figures.correlation_maps(aquifer, arrays),
                "Correlation of the head with the head at three wells (crosses): what "
                "a measurement there would tell about other places.",
            ),
        ],
    )


def describe_learning(folder: Path, aquifer: Aquifer, evaluation: Manifest) -> Section:
    """What ridge and network learn from how many members."""
    arrays = read_arrays(folder / evaluation.artefacts["evaluation"].path)
    scores: Any = evaluation.facts["rmse_m"]
    return Section(
        "Learning the head",
        [
            "The network starts from the ridge prediction and takes three learned "
            "steps with the residual of the discrete flow equations. 'Before training' "
            "is the same structure with its initial weights: what the mesh operator "
            "gives without learning."
        ],
        [
            Illustration(
                "pairs",
                figures.sample_pairs(aquifer, arrays),
                "Three test members, and what ridge and network miss.",
            ),
            Illustration(
                "training",
                figures.training_curves(read_events(folder)),
                "Error during training: held-out members at the end of each epoch, "
                "which decide nothing, and training members on average over it.",
            ),
            Illustration(
                "learning",
                figures.learning_curves(scores),
                "Error on the test members against the number of training members; "
                "bands are 90 % bootstrap intervals over members.",
            ),
        ],
        [_score_table(scores)],
    )


def describe_cost(evaluation: Manifest) -> Section:
    """What an answer of solver and network costs."""
    return Section(
        "What an answer costs",
        [
            "Time per head field on one core, assembly included. The sparse solver "
            "solves the discrete equations to round-off; a surrogate of the head alone "
            "pays off only where the simulator is dearer than here."
        ],
        [
            Illustration(
                "cost",
                figures.answer_costs(evaluation.timings),
                "Time per answer by number of members per call.",
            )
        ],
    )


def _score_table(scores: Scores) -> Grid:
    sizes = list(scores["mean"])
    rows = [
        [figures.LABELS[model], *(_interval(by_size.get(size)) for size in sizes)]
        for model, by_size in scores.items()
    ]
    return Grid(
        ["RMSE of head, m", *(f"{size} members" for size in sizes)],
        rows,
        "Test members; 90 % bootstrap interval in brackets.",
    )


def _interval(score: Sequence[float] | None) -> str:
    if score is None:
        return "training stopped"
    value, low, high = score
    return f"{value:.3f} ({low:.3f} to {high:.3f})"
