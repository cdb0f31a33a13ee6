"""The pictures of what a generator learned; maps are in kilometres, heads in metres."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from data.sources.aquifer import Aquifer
from workflows.engine.pages.report import figure_style
from workflows.hanford.figures import LN_T, Arrays, draw_field, kilometres, limits

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIELDS = {"log_transmissivity": LN_T, "hydraulic_head": "head, m"}
MOMENTS = {
    "mean": "mean",
    "deviation": "standard deviation",
    "spread": "robust spread",
}
CURVES = {
    "critic_loss": "loss of the critics",
    "moment_distance": "distance of moments",
    "rank_share": "effective rank, share of the snapshots'",
    "log_transmissivity_spread_error": "spread of ln T at sensors, error",
    "hydraulic_head_spread_error": "spread of head at sensors, error",
    "consistency": "head - solve(ln T), rms, m",
}
FIGURE_WIDTH = 13.0


def moment_maps(aquifer: Aquifer, arrays: Arrays, name: str) -> "Figure":
    """Mean and spread of a field: Monte Carlo, generator, and their difference."""
    import matplotlib.pyplot as plt

    # half of the 16 to 84 % range of head: its deviation is that of a few wild members
    moments = ("mean", "deviation" if name == "log_transmissivity" else "spread")
    points = kilometres(aquifer, aquifer.cell_centroids)
    sensors = points[arrays[f"sensors_{name}"].astype(np.int64)]
    with figure_style():
        figure, axes = plt.subplots(2, 3, figsize=(FIGURE_WIDTH, 9.0))
        for row, moment in zip(axes, moments, strict=True):
            simulated, generated = (
                arrays[f"{moment}_{name}_{s}"] for s in ("simulated", "generated")
            )
            what = f"{MOMENTS[moment]} of {FIELDS[name]}"
            colours = "viridis" if moment == "mean" else "magma"
            common = limits(np.concatenate([simulated, generated]))
            draw_field(row[0], aquifer, simulated, what, colours, common)
            draw_field(row[1], aquifer, generated, what, colours, common)
            difference = generated - simulated
            bound = max(float(np.quantile(np.abs(difference), 0.995)), 1e-6)
            unit = ", m" if name == "hydraulic_head" else ""
            what = f"{MOMENTS[moment]}: PI-GAN - simulation{unit}"
            draw_field(row[2], aquifer, difference, what, "RdBu_r", (-bound, bound))
            row[2].scatter(*sensors.T, s=3, c="black", lw=0, alpha=0.6)
        for ax, source in zip(axes[0], ("simulation", "PI-GAN", ""), strict=True):
            if source:
                ax.set_title(f"{source}\n{ax.get_title()}")
        return figure


def generated_pairs(aquifer: Aquifer, arrays: Arrays) -> "Figure":
    """Three generated members: ln T above, its head below."""
    import matplotlib.pyplot as plt

    pairs = [(arrays[f"pairs_{name}"], label) for name, label in FIELDS.items()]
    n = len(pairs[0][0])
    with figure_style():
        figure, axes = plt.subplots(2, n, figsize=(FIGURE_WIDTH, 9.0))
        for row, (fields, label) in zip(axes, pairs, strict=True):
            for number, (ax, field) in enumerate(zip(row, fields, strict=True)):
                title = f"member {number + 1}: {label}"
                draw_field(ax, aquifer, field, title, scale=limits(fields))
        return figure


def correlation_slice(aquifer: Aquifer, arrays: Arrays) -> "Figure":
    """Correlation of ln T and head everywhere with the head in one well."""
    import matplotlib.pyplot as plt

    cell = int(arrays["correlation_cell"])
    well = kilometres(aquifer, aquifer.cell_centroids)[cell]
    with figure_style():
        figure, axes = plt.subplots(2, 3, figsize=(FIGURE_WIDTH, 9.0))
        for row, name in zip(axes, FIELDS, strict=True):
            simulated, generated = (
                arrays[f"correlation_{name}_{s}"] for s in ("simulated", "generated")
            )
            bound = max(0.2, float(np.quantile(np.abs(simulated), 0.995)))
            shown = "ln T" if name == "log_transmissivity" else "head"
            for ax, values, source in zip(
                row,
                (simulated, generated, generated - simulated),
                ("simulation", "PI-GAN", "PI-GAN - simulation"),
                strict=True,
            ):
                title = f"correlation of {shown} with head at ×\n{source}"
                draw_field(ax, aquifer, values, title, "RdBu_r", (-bound, bound))
                ax.plot(*well, "kx", ms=9, mew=2)
        return figure


def gan_curves(events: Sequence[Mapping[str, Any]]) -> "Figure":
    """Losses, moments, rank and errors on held-out snapshots against the epoch."""
    import matplotlib.pyplot as plt
    from matplotlib.ticker import MaxNLocator

    # a training that was killed and continued may have logged an epoch twice
    epochs = {int(e["epoch"]): e for e in events if "moment_distance" in e}
    shown = [key for key in CURVES if all(key in e for e in epochs.values())]
    n_rows = -(-len(shown) // 2)
    with figure_style():
        figure, axes = plt.subplots(
            n_rows, 2, figsize=(FIGURE_WIDTH * 0.75, 2.6 * n_rows), squeeze=False
        )
        for ax, key in zip(axes.flat, shown, strict=False):
            curve = [epochs[k][key] for k in sorted(epochs)]
            ax.plot(sorted(epochs), curve, ".-", lw=1.6)
            ax.set(title=CURVES[key], xlabel="epoch")
            ax.xaxis.set_major_locator(MaxNLocator(integer=True))
            if key == "rank_share":
                ax.axhline(1.0, color="#8c8c8c", lw=1, ls=":")
            if key != "critic_loss":
                # zero belongs to the range, else a flat curve lies on the upper edge
                ax.update_datalim([(min(epochs, default=0), 0.0)])
                ax.autoscale_view()
                ax.set_ylim(bottom=0)
        for ax in axes.flat[len(shown) :]:
            ax.set_visible(False)
        return figure


def spread_profile(arrays: Arrays) -> "Figure":
    """Generated against simulated robust spread of head, a dot per cell."""
    import matplotlib.pyplot as plt

    simulated = arrays["spread_hydraulic_head_simulated"]
    generated = arrays["spread_hydraulic_head_generated"]
    is_read = np.zeros(len(simulated), dtype=bool)
    is_read[arrays["sensors_hydraulic_head"].astype(np.int64)] = True
    top = 1.05 * max(simulated.max(), generated.max())
    with figure_style():
        figure, ax = plt.subplots(figsize=(5.4, 5.0))
        ax.plot([0, top], [0, top], color="#8c8c8c", lw=1)
        for chosen, colour, label in (
            (~is_read, "#d1762b", "no sensor"),
            (is_read, "#1f5f8b", "head is read"),
        ):
            ax.plot(
                simulated[chosen],
                generated[chosen],
                ".",
                ms=4,
                color=colour,
                label=label,
            )
        ax.set(
            xlabel="robust spread of simulated head, m",
            ylabel="of generated head, m",
            xlim=(0, top),
            ylim=(0, top),
            aspect="equal",
        )
        ax.legend()
        return figure
