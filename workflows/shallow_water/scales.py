"""Scales and invariants of a shallow-water run in pictures."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from workflows.engine.pages.report import figure_style
from workflows.shallow_water import models
from workflows.shallow_water.figures import (
    HOURS_PER_DAY,
    Array,
    Arrays,
    add_legend,
    by_kind,
    draw_line,
    line_style,
    name_solvers,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SYMLOG_FROM = 20.0
"""Ratio of the largest to the smallest drift from which a linear axis hides one."""
TOLERANCE = 0.2
"""How far spectra may be from the truth's, shaded."""
FIRST_GUIDED = 10
"""Degree from which the l^-3 line is drawn: below, a spectrum is that of the start."""
_DRIFTS = {"energy": "energy", "enstrophy": "potential enstrophy"}


def energy_spectra(arrays: Arrays, truncation: int) -> "Figure":
    """Kinetic-energy spectra on day 5, and below them their ratio to the truth's."""
    import matplotlib.pyplot as plt

    names = models.with_array(arrays, "spectrum")
    with figure_style():
        figure, axes = plt.subplots(
            2,
            2,
            figsize=(11.0, 7.0),
            sharex=True,
            sharey="row",
            height_ratios=(2.0, 1.0),
        )
        for k, (top, bottom) in enumerate(axes.T):
            truth = arrays["spectrum_truth"][k]
            l = np.arange(1, len(truth))
            for model in names:
                spectrum = arrays[f"spectrum_{model}"][k]
                style = {"color": models.colour(model), "ls": line_style(model)}
                top.plot(l, spectrum[1:], label=models.label(model), **style)
                if model != "truth":
                    bottom.plot(l, spectrum[1:] / truth[1:], **style)
            _add_guide(top, truth)
            _mark_scales(bottom, top, truncation)
            top.set_title(list(models.KINDS.values())[k])
            bottom.set_xlabel("degree l")
        axes[0, 0].set(
            xscale="log", yscale="log", ylabel="kinetic energy E(l) on day 5, m²/s²"
        )
        truths = arrays["spectrum_truth"][:, 1:]
        axes[0, 0].set_ylim(truths.min() / 10, truths.max() * 10)
        axes[1, 0].set(yscale="log", ylim=(0.2, 5.0), ylabel="E(l) / E(l) of the truth")
        axes[1, 0].set_yticks([0.2, 0.5, 1, 2, 5], ["0.2", "0.5", "1", "2", "5"])
        axes[1, 0].minorticks_off()
        ticks = [l for l in (1, 2, 5, 10, 20, 50, 100, 200) if l <= truncation]
        axes[1, 0].set_xticks(ticks, [str(l) for l in ticks])
        add_legend(figure)
        return figure


def invariant_drift(arrays: Arrays) -> "Figure":
    """Relative change of energy and potential enstrophy: mean and range of members."""
    import matplotlib.pyplot as plt

    days = arrays["leads_h"] / HOURS_PER_DAY
    with figure_style():
        figure, axes = plt.subplots(
            2, 2, figsize=(11.0, 7.0), sharex=True, sharey="row"
        )
        for row, (key, name) in zip(axes, _DRIFTS.items(), strict=True):
            drifts = {
                model: arrays[f"{key}_drift_{model}"]
                for model in models.with_array(arrays, f"{key}_drift")
            }
            for ax, chosen in by_kind(row, arrays):
                for model, drift in drifts.items():
                    found = drift[chosen]
                    line = draw_line(ax, days, found.mean(axis=0), model)
                    low, high = found.min(axis=0), found.max(axis=0)
                    ax.fill_between(days, low, high, color=line, alpha=0.15, lw=0)
                ax.axhline(0.0, color="#5b6675", lw=0.8, zorder=0)
            _scale_drifts(row, list(drifts.values()))
            row[0].set_ylabel(f"{name}, relative change")
        for ax in axes[1]:
            ax.set(xlabel="lead time, days", title="", xlim=(0.0, days[-1] * 1.09))
        add_legend(figure)
        return figure


def _scale_drifts(axes: NDArray[np.object_], drifts: Sequence[Array]) -> None:
    """Linear axes, unless the most faithful model would then be a line at zero."""
    largest = [float(np.abs(d[np.isfinite(d)]).max(initial=0.0)) for d in drifts]
    least = min((size for size in largest if size > 0), default=0.0)
    for ax in axes:
        if least and max(largest) > SYMLOG_FROM * least:
            ax.set_yscale("symlog", linthresh=10.0 ** np.floor(np.log10(least)))
        else:
            ax.ticklabel_format(axis="y", style="sci", scilimits=(-2, 2))
        name_solvers(ax)


def _add_guide(ax: "Axes", truth: Array) -> None:
    """A line with the slope of a cascade of enstrophy, beside the truth."""
    l = np.arange(FIRST_GUIDED, len(truth))
    if l.size:
        guide = 3 * truth[FIRST_GUIDED] * (l / FIRST_GUIDED) ** -3.0
        ax.plot(l, guide, "-.", color="#5b6675", lw=1.0, label="slope l⁻³")


def _mark_scales(ratio: "Axes", spectrum: "Axes", truncation: int) -> None:
    """Two thirds of the truncation, and the tolerance up to there."""
    end = 2 * truncation / 3
    for ax in (ratio, spectrum):
        ax.axvline(end, color="#5b6675", lw=1.0, ls=":")
    ratio.fill_between(
        [1, end], 1 - TOLERANCE, 1 + TOLERANCE, color="#5b6675", alpha=0.15, lw=0
    )
    ratio.axhline(1.0, color=models.COLOURS["truth"], lw=1.0)
    spectrum.annotate(
        f"⅔ T = {end:.0f} ",
        (end, 0.03),
        xycoords=spectrum.get_xaxis_transform(),
        ha="right",
    )
