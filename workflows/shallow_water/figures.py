"""Errors of a shallow-water run in pictures: against lead time, and against cost."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from workflows.engine.pages.curves import plain_ticks
from workflows.engine.pages.report import figure_style
from workflows.shallow_water import models
from workflows.shallow_water.cost import Point

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[np.float64]
Arrays = Mapping[str, Array]

N_RESAMPLES = 1000
LARGEST_SHOWN = 3.0
"""Errors beyond are no forecast; a model that diverges would take the whole axis."""
HOURS_PER_DAY = 24
LABEL_HEIGHT = 0.045
"""Of a name in a figure, share of the axes."""
_INK = "#4a525c"
_STYLES = {
    "persistence": ":",
    "climatology": "--",
    "advection": "-.",
    "guarded": "--",
}
_MEASURED = "relative L2 error of vorticity"


def error_curves(arrays: Arrays) -> "Figure":
    """Mean error of each model against lead time, jets and random states side by side.

    Networks carry 90 % intervals of the mean by the bootstrap over members. A curve
    ends, with a cross, where a member is no longer finite.
    """
    import matplotlib.pyplot as plt

    days = arrays["leads_h"] / HOURS_PER_DAY
    with figure_style():
        figure, axes = plt.subplots(1, 2, figsize=(11.0, 5.0), sharey=True)
        for ax, chosen in by_kind(axes, arrays):
            for model in models.with_array(arrays, "error"):
                errors = arrays[f"error_{model}"][chosen]
                line = draw_line(ax, days, errors.mean(axis=0), model)
                if model in models.NETWORKS:
                    low, high = _interval(errors)
                    ax.fill_between(
                        days, low, high, color=line, alpha=0.18, lw=0, zorder=1
                    )
            ax.set(xlabel="lead time, days", yscale="log", xlim=(0.0, days[-1] * 1.09))
            ax.locator_params(axis="x", integer=True)
        top = min(axes[0].get_ylim()[1], LARGEST_SHOWN)
        axes[0].set_ylim(top=top)
        axes[0].set_ylabel(f"{_MEASURED} (1 = the size of the field)")
        for ax in axes:
            name_solvers(ax)
        plain_ticks(axes[0].yaxis)
        add_legend(figure)
        return figure


def error_against_cost(points: Mapping[str, Sequence[Point]]) -> "Figure":
    """Error on day 5 against time: solvers as a line, other models as points.

    Args:
        points: by kind. The solver that made the truth, which has no error, is a
            vertical line at its cost.
    """
    import matplotlib.pyplot as plt

    with figure_style():
        figure, axes = plt.subplots(1, 2, figsize=(11.0, 5.0), sharex=True, sharey=True)
        for ax, (kind, found) in zip(axes, points.items(), strict=True):
            _draw_solvers(ax, [p for p in found if models.truncation_of(p.model)])
            for p in found:
                if not p.seconds:
                    ax.axhline(
                        p.error,
                        color=models.colour(p.model),
                        ls=line_style(p.model),
                        label=models.label(p.model),
                    )
                elif models.truncation_of(p.model) is None:
                    ax.errorbar(
                        p.seconds,
                        p.error,
                        yerr=[[p.error - p.low], [p.high - p.error]],
                        fmt="s",
                        ms=8,
                        capsize=4,
                        color=models.colour(p.model),
                        label=models.label(p.model),
                    )
            ax.set(
                title=models.KINDS[kind],
                xlabel="seconds per simulated day of a member, one core",
            )
            ax.tick_params(axis="x", labelsize=8)
        axes[0].set(xscale="log", yscale="log", ylabel=f"{_MEASURED} on day 5")
        axes[0].margins(0.12)
        plain_ticks(axes[0].xaxis)
        plain_ticks(axes[0].yaxis)
        add_legend(figure)
        return figure


def _draw_solvers(ax: "Axes", points: Sequence[Point]) -> None:
    """The line of solvers, and the cost of the one that made the truth."""
    line = [p for p in points if p.error]
    ax.plot(
        [p.seconds for p in line],
        [p.error for p in line],
        "o-",
        color=models.SOLVER_COLOUR,
        label="numerical solver",
    )
    for p in line:
        ax.annotate(
            f"T{models.truncation_of(p.model)}",
            (p.seconds, p.error),
            (5, 6),
            textcoords="offset points",
            color=_INK,
        )
    for p in points:
        if not p.error:
            ax.axvline(p.seconds, color=models.COLOURS["truth"], ls=":", lw=1.2)
            ax.annotate(
                f"T{models.truncation_of(p.model)}: the truth ",
                (p.seconds, 0.98),
                xycoords=ax.get_xaxis_transform(),
                rotation=90,
                ha="right",
                va="top",
            )


def by_kind(
    axes: NDArray[np.object_], arrays: Arrays
) -> Iterator[tuple["Axes", NDArray[np.bool_]]]:
    """Each panel, titled, with the test members that belong into it."""
    for k, (ax, name) in enumerate(zip(axes, models.KINDS.values(), strict=True)):
        chosen = arrays["kind"] == k
        ax.set_title(f"{name} ({chosen.sum()} test members)")
        yield ax, chosen


def draw_line(ax: "Axes", days: Array, values: Array, model: str) -> str:
    """A curve, named in the legend; returns its colour."""
    colour = models.colour(model)
    is_solver = models.truncation_of(model) is not None
    finite = np.flatnonzero(np.isfinite(values))
    name = "numerical solver" if is_solver else models.label(model)
    width = 1.3 if is_solver else 2.0
    (line,) = ax.plot(
        days, values, line_style(model), color=colour, lw=width, label=name
    )
    line.set_gid(model)
    if 0 < finite.size < len(values):
        ax.plot(days[finite[-1]], values[finite[-1]], "X", color=colour, ms=10)
    return colour


def name_solvers(ax: "Axes") -> None:
    """Truncations at the right ends of their curves, moved apart where they meet."""
    ends = {
        line.get_gid() or "": np.asarray(line.get_xydata())[-1] for line in ax.lines
    }
    place = ax.transScale + ax.transLimits  # y to its share of the axes
    height = -np.inf
    for model in sorted(models.solvers(ends), key=lambda m: float(ends[m][1])):
        height = max(place.transform(ends[model])[1], height + LABEL_HEIGHT)
        ax.text(
            float(ends[model][0]),
            height,
            f" T{models.truncation_of(model)}",
            transform=ax.get_xaxis_transform(),
            va="center",
            color=_INK,
        )


def _interval(errors: Array) -> tuple[Array, Array]:
    """90 % interval of the mean over members (member, lead), by the bootstrap."""
    n = len(errors)
    picks = np.random.default_rng(0).integers(n, size=(N_RESAMPLES, n))
    low, high = np.quantile(errors[picks].mean(axis=1), [0.05, 0.95], axis=0)
    return low, high


def add_legend(figure: "Figure") -> None:
    """One legend below the panels; a name that several lines have stands once."""
    once = {
        name: handle
        for ax in figure.axes
        for handle, name in zip(*ax.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        once.values(),
        once.keys(),
        loc="outside lower center",
        ncols=min(len(once), 5),
    )


def line_style(model: str) -> str:
    """The same in every figure."""
    return _STYLES.get(model, "-")
