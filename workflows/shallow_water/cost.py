"""Error against cost: which solver, coarser or finer, does better than a network.

A solver beats a network where it errs no more and takes no more time, but for a margin
that timings of a shared machine need; so do baselines, of which persistence and
climatology take none. The solver that made the truth counts with an error of zero, as
nothing here could tell its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from workflows.shallow_water import models

MARGIN = 0.1
"""Share of error and of time within which two models are equal."""
_MILLISECONDS = 1e3


@dataclass(frozen=True, slots=True)
class Point:
    """One model on the plane of error and cost.

    Attributes:
        model: its key.
        seconds: per simulated day of a member, on one core.
        error: mean relative L2 error of vorticity on day 5 [-]; zero for the truth.
        low: end of its 90 % interval.
        high: the other one.
    """

    model: str
    seconds: float
    error: float
    low: float
    high: float


def points_of(
    scores: models.Scores,
    timings: Mapping[str, float],
    kind: str,
    truth_truncation: int,
) -> list[Point]:
    """Baselines, solvers, then networks; without those that have no error.

    Args:
        scores: error, low and high of each model, kind and day.
        timings: among them `<model>_member_day_s`.
        kind: jet or random.
        truth_truncation: of the solver that made the truth.
    """
    suffix = "_member_day_s"
    timed = [n.removesuffix(suffix) for n in timings if n.endswith(suffix)]
    truth = models.solver(truth_truncation)
    found = []
    for model in models.ordered([*models.BASELINES, *timed]):
        error = models.error_of(scores, model, kind, models.DAY)
        if model == truth:
            error = (0.0, 0.0, 0.0)
        if error is not None:
            found.append(Point(model, timings.get(model + suffix, 0.0), *error))
    return found


def rivals_that_beat(point: Point, points: Sequence[Point]) -> list[Point]:
    """Solvers and baselines with no more error and time than a point, or hardly."""
    return [
        p
        for p in points
        if p.model not in models.NETWORKS
        and p.seconds <= (1 + MARGIN) * point.seconds
        and p.error <= (1 + MARGIN) * point.error
    ]


def describe_rivalry(points: Sequence[Point], truncation: int) -> str:
    """For each network, which rival beats it, or what it saves; empty for none.

    Args:
        points: of one kind of flow.
        truncation: of the networks; solvers are called coarser or finer than it.
    """
    networks = [p for p in points if p.model in models.NETWORKS]
    return "; ".join(_describe_network(p, points, truncation) for p in networks)


def _describe_network(point: Point, points: Sequence[Point], truncation: int) -> str:
    name = f"{models.label(point.model)} ({_describe_point(point)})"
    winners = rivals_that_beat(point, points)
    if winners:
        cheapest = min(winners, key=lambda p: p.seconds)
        best = min(winners, key=lambda p: p.error)
        names = " and ".join(
            _describe_solver(p, truncation) for p in dict.fromkeys((cheapest, best))
        )
        return f"{name} loses to {names}"
    as_good = [
        p for p in points if p.model not in models.NETWORKS and p.error <= point.error
    ]
    if not as_good:
        return f"{name} wins: nothing else that was timed has as small an error"
    rival = min(as_good, key=lambda p: p.seconds)
    return (
        f"{name} wins: the cheapest rival with no more error, "
        f"{_describe_solver(rival, truncation)}, takes "
        f"{rival.seconds / point.seconds:.1f} times as long"
    )


def _describe_point(point: Point) -> str:
    error = f"{point.error:.2f}" if point.error else "the truth"
    if not point.seconds:
        return error
    return f"{error} in {_describe_time(point.seconds)}"


def _describe_solver(point: Point, truncation: int) -> str:
    own = models.truncation_of(point.model)
    if own is None:
        return f"{models.label(point.model)} ({_describe_point(point)})"
    grid = "coarser " if own < truncation else "finer " if own > truncation else ""
    same = "" if grid else " of the same truncation"
    return f"the {grid}{models.label(point.model)}{same} ({_describe_point(point)})"


def _describe_time(seconds: float) -> str:
    if seconds >= 1:
        return f"{seconds:.2g} s"
    return f"{seconds * _MILLISECONDS:.2g} ms"
