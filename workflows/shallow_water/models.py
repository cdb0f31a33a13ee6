"""The models that a report compares: which there are, their names and colours.

Files and facts know a model by a key: `solver_t42` is the solver at truncation 42.
"""

from collections.abc import Iterable, Mapping, Sequence

KINDS = {"jet": "jets", "random": "random states"}
"""Families of flows, in the order of their numbers in the files."""
BASELINES = {
    "persistence": "persistence",
    "climatology": "climatology",
    "advection": "carried vorticity",
}
"""What needs neither training nor a solver."""
NETWORKS = {
    "sfno": "SFNO",
    "unet": "U-Net",
    "linear_advection": "linearly corrected carried vorticity",
    "linear": "linearly corrected solver",
    "hybrid": "network-corrected solver",
    "guarded": "guarded network",
}
"""What learned, whole or in part."""
CORRECTIONS = ("linear", "hybrid")
"""Of the coarse solver."""
MAPPED = ("sfno", "unet", "hybrid")
"""Of what learned, those whose vorticity is drawn."""
COLOURS = {
    "truth": "#111111",
    "persistence": "#b08a3c",
    "climatology": "#b08a3c",
    "advection": "#b08a3c",
    "sfno": "#1f77b4",
    "unet": "#e0701a",
    "linear_advection": "#12b5cb",
    "linear": "#c2255c",
    "hybrid": "#8e44ad",
    "guarded": "#1b9e77",
}
SOLVER_COLOUR = "#7f8790"
DAY = 5
"""On which models are compared, tuned, and their spectra taken."""

Scores = Mapping[str, Mapping[str, Mapping[str, Sequence[float | None] | None]]]
"""Error, low and high of each model, kind and day, as JSON has them."""

_SOLVER = "solver_t"


def truncation_of(model: str) -> int | None:
    """Truncation of a solver; None for any other model."""
    digits = model.removeprefix(_SOLVER)
    return int(digits) if digits != model else None


def solver(truncation: int) -> str:
    """Key of the solver at a truncation."""
    return f"{_SOLVER}{truncation}"


def label(model: str) -> str:
    """What a reader calls a model."""
    truncation = truncation_of(model)
    if truncation is not None:
        return f"solver T{truncation}"
    return {**BASELINES, **NETWORKS}.get(model, model)


def colour(model: str) -> str:
    """The same in every figure; solvers share one."""
    return COLOURS.get(model, SOLVER_COLOUR)


def ordered(models: Iterable[str]) -> list[str]:
    """Truth, baselines, solvers from coarse to fine, networks; others are left out."""
    found = set(models)
    return [
        *(model for model in ("truth", *BASELINES) if model in found),
        *solvers(found),
        *(model for model in NETWORKS if model in found),
    ]


def with_array(arrays: Iterable[str], prefix: str) -> list[str]:
    """The models of which there is an array `<prefix>_<model>`, in order."""
    start = f"{prefix}_"
    return ordered(n.removeprefix(start) for n in arrays if n.startswith(start))


def solvers(models: Iterable[str]) -> list[str]:
    """The solvers among some models, from coarse to fine."""
    found = {truncation_of(model) for model in models} - {None}
    return [solver(t) for t in sorted(t for t in found if t is not None)]


def finer_solver(models: Iterable[str], truncation: int) -> str | None:
    """The next finer solver than a truncation, if there is one."""
    finer = [s for s in solvers(models) if (truncation_of(s) or 0) > truncation]
    return finer[0] if finer else None


def error_of(
    scores: Scores, model: str | None, kind: str, day: int
) -> tuple[float, float, float] | None:
    """Error and interval of a model; None if it has none, or is no longer finite."""
    found = scores.get(model or "", {}).get(kind, {}).get(str(day))
    if found is None:
        return None
    value, low, high = found
    if value is None or low is None or high is None:
        return None
    return value, low, high
