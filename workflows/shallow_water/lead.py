"""The opening words of a shallow-water report, from its numbers."""

from collections.abc import Mapping, Sequence
from typing import Any

from workflows.shallow_water import models
from workflows.shallow_water.cost import Point, rivals_that_beat

Facts = Mapping[str, Any]  # of JSON

DAYS = (1, 3, 5)
"""On which the best network is described."""
LEARNED = ("sfno", "unet")
"""Networks that do without a solver."""


def describe_ensemble(
    ensemble: Facts, truncation: int, truth_truncation: int, days: float
) -> str:
    """What was simulated, and what was asked."""
    n_failed = len(ensemble["failed"])
    return (
        f"{ensemble['members'] - n_failed} of {ensemble['members']} flows, perturbed "
        f"jets and random states, were simulated at T{truth_truncation} for "
        f"{days:g} days, {n_failed} failed and are left out. Seen at T{truncation} "
        "they are the truth here: networks learn from them, and solvers with "
        "fewer waves than the truth are measured by the same test members."
    )


def describe_best(scores: models.Scores, kind: str, truncation: int) -> str:
    """The best network on days 1, 3, 5, and what it has to beat, with the verdict."""
    best = best_network(scores, kind)
    on = models.KINDS[kind]
    if best is None:
        return f"On {on} no network stays finite."
    rivals = rivals_of(scores, truncation)
    days = [d for d in DAYS if models.error_of(scores, best, kind, d)]
    told = ", ".join(
        f"{models.label(m)} {_errors(scores, m, kind, days)}" for m in rivals
    )
    words = (
        f"On {on} the best network, {models.label(best)}, has a relative error of "
        f"vorticity of {_errors(scores, best, kind, days)} on days "
        f"{_listed([str(d) for d in days])} ({told}). "
    )
    return words + _verdict(scores, best, kind, days, rivals)


def describe_correction(scores: models.Scores, truncation: int, day: int) -> str:
    """What the learned corrections leave of the coarse error, beside the finer solver.

    Empty if nothing was corrected.
    """
    coarse = models.solver(truncation)
    finer = models.finer_solver(scores, truncation)
    told = []
    for kind, on in models.KINDS.items():
        shares = {
            models.label(model): share
            for model in (*models.CORRECTIONS, *([finer] if finer else []))
            if (share := share_of(scores, model, coarse, kind, day)) is not None
        }
        if any(models.label(model) in shares for model in models.CORRECTIONS):
            words = [f"{share:.0%} {name}" for name, share in shares.items()]
            least = min(shares, key=lambda name: shares[name])
            told.append(f"on {on} {_listed(words)}, so {least} has the least")
    if not told:
        return ""
    return (
        f"Of the error of the {models.label(coarse)} on day {day} this is left: "
        f"{'; '.join(told)}."
    )


def describe_guard(solver_share: float | None, steering: Facts) -> str:
    """How often the guard gave an interval to the solver, and what was learned."""
    words = []
    if solver_share is not None:
        words.append(
            "A guard lets the solver do an interval where the network would leave what "
            f"the training flows span: {solver_share:.0%} of the intervals of the test "
            "members."
        )
    n_rounds = len(steering["rounds"])
    if n_rounds:
        n_added = sum(r["members"] for r in steering["rounds"])
        chosen = "chosen at random"
        if steering["mode"] == "flagged":
            n_stopped = sum(r["flagged_chosen"] or 0 for r in steering["rounds"])
            chosen = f"({n_stopped} of them as the guard had stopped their rollouts)"
        words.append(
            f"In {n_rounds} round{'s' if n_rounds > 1 else ''} of steering {n_added} "
            f"members {chosen} were added to the training."
        )
    return " ".join(words)


def describe_winners(points: Mapping[str, Sequence[Point]]) -> str:
    """Where the simulator beats what was learned, in error and time at once."""
    words = [_describe_winners(kind, found) for kind, found in points.items()]
    return " ".join(part for part in words if part)


def best_network(scores: models.Scores, kind: str) -> str | None:
    """The network alone with the least error on the last day that has one."""
    for day in sorted(DAYS, reverse=True):
        errors = {m: models.error_of(scores, m, kind, day) for m in LEARNED}
        finite = {m: e[0] for m, e in errors.items() if e is not None}
        if finite:
            return min(finite, key=lambda m: finite[m])
    return None


def rivals_of(scores: models.Scores, truncation: int) -> list[str]:
    """Baselines, the solver of the truncation, the next finer one."""
    wanted = (
        *models.BASELINES,
        models.solver(truncation),
        models.finer_solver(scores, truncation),
    )
    return [m for m in wanted if m is not None and m in scores]


def share_of(
    scores: models.Scores,
    model: str | None,
    reference: str,
    kind: str,
    day: int,
) -> float | None:
    """Error of a model as a share of that of another; None if one has none."""
    own, others = (models.error_of(scores, m, kind, day) for m in (model, reference))
    return None if own is None or others is None else own[0] / others[0]


def _errors(scores: models.Scores, model: str, kind: str, days: Sequence[int]) -> str:
    found = [models.error_of(scores, model, kind, day) for day in days]
    return _listed([f"{e[0]:.2f}" if e else "not finite" for e in found])


def _verdict(
    scores: models.Scores,
    best: str,
    kind: str,
    days: Sequence[int],
    rivals: Sequence[str],
) -> str:
    """On which days what does better than the best network."""
    by_winners: dict[str, list[str]] = {}
    for day in days:
        own = models.error_of(scores, best, kind, day)
        errors = {m: models.error_of(scores, m, kind, day) for m in rivals}
        won = [
            models.label(m) for m, e in errors.items() if e and own and e[0] <= own[0]
        ]
        verb = "does" if len(won) == 1 else "do"
        verdict = f"{_listed(won)} {verb} better" if won else "it beats them all"
        by_winners.setdefault(verdict, []).append(str(day))
    return " ".join(
        f"On day{'s' if len(on) > 1 else ''} {_listed(on)} {verdict}."
        for verdict, on in by_winners.items()
    )


def _describe_winners(kind: str, points: Sequence[Point]) -> str:
    """Networks that a solver beats, that only a baseline beats, and the others."""
    beaten, free = list[str](), list[str]()
    useless, baselines = list[str](), dict[str, None]()
    for point in points:
        if point.model in models.NETWORKS:
            winners = [p.model for p in rivals_that_beat(point, points)]
            group = beaten if models.solvers(winners) else useless if winners else free
            group.append(models.label(point.model))
            if group is useless:
                baselines |= dict.fromkeys(models.label(m) for m in winners)
    told = []
    if beaten:
        told.append(
            f"the simulator beats {_listed(beaten)}: some solver has no more error in "
            "no more time"
        )
    if useless:
        verb = "is" if len(useless) == 1 else "are"
        told.append(f"{_listed(useless)} {verb} no better than {_listed([*baselines])}")
    if free:
        told.append(f"no solver is as accurate as {_listed(free)} in as little time")
    return f"On {models.KINDS[kind]} {'; '.join(told)}." if told else ""


def _listed(words: Sequence[str]) -> str:
    if len(words) < 2:  # noqa: PLR2004  # nothing to join
        return "".join(words)
    return f"{', '.join(words[:-1])} and {words[-1]}"
