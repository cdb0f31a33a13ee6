"""The pictures of a Hanford report; maps are in kilometres, heads in metres."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from data.sources.aquifer import Aquifer
from workflows.engine.pages import curves
from workflows.engine.pages.report import figure_style
from workflows.hanford.learning import BATCHES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Arrays = Mapping[str, NDArray[np.float64]]
Scores = Mapping[str, Mapping[str, Sequence[float]]]

LN_T = "ln T, T in m²/d"
COLOURS = {
    "mean": "#8c8c8c",
    "ridge": "#d1762b",
    "untrained": "#7a5aa6",
    "network": "#1f5f8b",
    "solver": "#2e7d4f",
}
LABELS = {
    "mean": "mean of the training members",
    "ridge": "ridge regression",
    "untrained": "network before training",
    "network": "network",
}


def site_map(
    aquifer: Aquifer, head: NDArray[np.float64], observed: NDArray[np.int64]
) -> "Figure":
    """Rivers with their stage, inflow faces, wells and measured cells on the head."""
    import matplotlib.pyplot as plt
    from matplotlib.collections import LineCollection

    with figure_style():
        figure, axes = plt.subplots(figsize=(7.5, 7.5))
        draw_field(axes, aquifer, head, "head of the reference field, m")
        nodes = kilometres(aquifer, aquifer.node_coordinates)
        for faces, colour, width, label in (
            (aquifer.head_faces, "#1f77d4", 3.0, "river: head given"),
            (aquifer.inflow_faces, "#d62728", 4.0, "inflow given"),
        ):
            lines = LineCollection(
                list(nodes[aquifer.face_nodes[faces]]),
                colors=colour,
                lw=width,
                label=label,
            )
            axes.add_collection(lines)
        centroids = kilometres(aquifer, aquifer.cell_centroids)
        wells, measured = centroids[aquifer.well_cells], centroids[observed]
        axes.scatter(
            wells[:, 0],
            wells[:, 1],
            s=9,
            c="white",
            edgecolors="black",
            lw=0.4,
            label="head well",
        )
        axes.scatter(
            measured[:, 0],
            measured[:, 1],
            s=20,
            c="none",
            edgecolors="black",
            label="ln T measured",
        )
        axes.legend(
            loc="upper center",
            bbox_to_anchor=(0.5, -0.1),
            ncols=4,
            facecolor="#9aa6b4",
            frameon=True,
        )
        return figure


def field_maps(aquifer: Aquifer, statistics: Arrays) -> "Figure":
    """Mean and standard deviation of ln T and head over the ensemble."""
    import matplotlib.pyplot as plt

    with figure_style():
        figure, axes = plt.subplots(2, 2, figsize=(9.0, 9.4))
        for row, variable, label, maps in (
            (axes[0], "log_transmissivity", LN_T, ("viridis", "magma")),
            (axes[1], "hydraulic_head", "head, m", ("viridis", "magma")),
        ):
            for ax, moment, colours in zip(
                row, ("mean", "deviation"), maps, strict=True
            ):
                title = (
                    f"{'mean' if moment == 'mean' else 'standard deviation'} of {label}"
                )
                values = statistics[f"{moment}_{variable}"]
                draw_field(ax, aquifer, values, title, colours)
        return figure


def interval_maps(aquifer: Aquifer, statistics: Arrays) -> "Figure":
    """Width of the 90 % interval of head, and where the reference leaves it."""
    import matplotlib.pyplot as plt

    low, _, high = statistics["quantiles_hydraulic_head"]
    reference = statistics["reference_hydraulic_head"]
    outside = np.clip(reference - high, 0, None) - np.clip(low - reference, 0, None)
    bound = max(float(np.quantile(np.abs(outside), 0.995)), 1e-3)
    with figure_style():
        figure, axes = plt.subplots(1, 2, figsize=(9.0, 4.8))
        title = "width of the 90 % interval of head, m"
        draw_field(axes[0], aquifer, high - low, title, "magma")
        title = "reference head outside of it, m"
        draw_field(axes[1], aquifer, outside, title, "RdBu_r", (-bound, bound))
        return figure


def correlation_maps(aquifer: Aquifer, statistics: Arrays) -> "Figure":
    """Correlation of the head everywhere with the head at a few wells."""
    import matplotlib.pyplot as plt

    wells = statistics["covariance_cells"].astype(np.int64)
    deviation = statistics["deviation_hydraulic_head"]
    spread = deviation[wells, None] * deviation  # (well, cell)
    correlation = statistics["covariance_hydraulic_head"] / spread
    centroids = kilometres(aquifer, aquifer.cell_centroids)
    with figure_style():
        figure, axes = plt.subplots(1, len(wells), figsize=(4.3 * len(wells), 4.4))
        for k, ax in enumerate(axes):
            title = f"correlation with the well in cell {wells[k]}"
            draw_field(ax, aquifer, correlation[k], title, "RdBu_r", (-1.0, 1.0))
            ax.plot(*centroids[wells[k]], "kx", ms=9, mew=2)
        return figure


def sample_pairs(aquifer: Aquifer, evaluation: Arrays) -> "Figure":
    """Test members: ln T, simulated head, and the errors of ridge and network."""
    import matplotlib.pyplot as plt

    fields = evaluation["sample_log_transmissivity"]
    heads = evaluation["sample_simulator"]
    errors = {
        model: evaluation[f"sample_{model}"] - heads
        for model in ("ridge", "network")
        if f"sample_{model}" in evaluation
    }
    bound = float(np.quantile(np.abs(errors["ridge"]), 0.995))
    with figure_style():
        n_columns = 2 + len(errors)
        size = (3.25 * n_columns, 3.5 * len(fields))
        figure, axes = plt.subplots(len(fields), n_columns, figsize=size)
        for k, row in enumerate(axes):
            draw_field(row[0], aquifer, fields[k], LN_T, scale=limits(fields))
            title = "simulated head, m"
            draw_field(row[1], aquifer, heads[k], title, scale=limits(heads))
            for ax, (model, error) in zip(row[2:], errors.items(), strict=True):
                title = f"{model} - simulator, m"
                draw_field(ax, aquifer, error[k], title, "RdBu_r", (-bound, bound))
        return figure


def training_curves(events: Sequence[Mapping[str, Any]]) -> "Figure":  # Any: JSON
    """Training and held-out error of each network against the share of training."""
    import matplotlib.pyplot as plt

    # other trainings of the run log epochs too, without an error of the head
    sizes = {
        int(event["members"]): event["training"]
        for event in events
        if "held_out_rmse_m" in event
    }
    shades = plt.get_cmap("viridis")(np.linspace(0.85, 0.1, len(sizes)))
    colours = {
        sizes[size]: tuple(shade)
        for size, shade in zip(sorted(sizes), shades, strict=True)
    }
    return curves.training_curves(
        events,
        colours,
        held_out="held_out_rmse_m",
        training="training_rmse_m",
        quantity="RMSE of head, m",
    )


def learning_curves(scores: Scores) -> "Figure":
    """Error of every model against the number of training members, 90 % intervals."""
    import matplotlib.pyplot as plt

    with figure_style():
        figure, ax = plt.subplots()
        for model, by_size in scores.items():
            sizes = [int(size) for size in by_size]
            value, low, high = np.array(list(by_size.values())).T
            ax.fill_between(sizes, low, high, color=COLOURS[model], alpha=0.2, lw=0)
            ax.plot(sizes, value, "o-", color=COLOURS[model], label=LABELS[model])
        ax.set(
            xlabel="training members",
            ylabel="RMSE of head, m",
            xscale="log",
            yscale="log",
        )
        sizes = [int(size) for size in scores["mean"]]
        ax.set_xticks(sizes, [str(size) for size in sizes])
        ax.xaxis.minorticks_off()
        curves.plain_ticks(ax.yaxis)
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
        return figure


def answer_costs(costs: Mapping[str, float]) -> "Figure":
    """Time per head field of solver and network, by members per call."""
    import matplotlib.pyplot as plt

    with figure_style():
        figure, ax = plt.subplots(figsize=(7.0, 3.4))
        for shift, model in ((-0.2, "solver"), (0.2, "network")):
            if f"{model}_{BATCHES[0]}_s" not in costs:
                continue
            times = [1e3 * costs[f"{model}_{batch}_s"] for batch in BATCHES]
            bars = ax.bar(
                np.arange(len(BATCHES)) + shift,
                times,
                0.38,
                color=COLOURS[model],
                label=model,
            )
            ax.bar_label(bars, fmt="%.2g", padding=2)
        ax.set_xticks(range(len(BATCHES)), [str(batch) for batch in BATCHES])
        ax.set(xlabel="members per call", ylabel="ms per head field, one core")
        ax.margins(y=0.15)
        ax.legend()
        return figure


def kilometres(aquifer: Aquifer, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Map coordinates [km] of scaled points (n, 2)."""
    return (aquifer.origin_m + aquifer.length_scale_m * points) / 1000


def limits(values: NDArray[np.float64]) -> tuple[float, float]:
    """Without a few cells beside an inflow, which would else take the whole scale."""
    low, high = np.quantile(values, [0.005, 0.995])
    return float(low), float(high)


def draw_field(
    ax: "Axes",
    aquifer: Aquifer,
    values: NDArray[np.float64],
    title: str,
    colours: str = "viridis",
    scale: tuple[float, float] | None = None,
) -> None:
    """One value per cell as coloured quadrilaterals; the scale spans 99 % of them."""
    from matplotlib.collections import PolyCollection

    nodes = kilometres(aquifer, aquifer.node_coordinates)
    cells = PolyCollection(list(nodes[aquifer.cell_nodes]), array=values, cmap=colours)
    cells.set_edgecolor("face")
    low, high = scale or limits(values)
    cells.set_clim(low, high)
    ax.add_collection(cells)
    ax.autoscale_view()
    ax.grid(visible=False)
    ax.set(aspect="equal", xlabel="east, km", ylabel="north, km", title=title)
    is_cut = values.min() < low, values.max() > high
    extend = {(0, 0): "neither", (1, 0): "min", (0, 1): "max", (1, 1): "both"}[is_cut]
    ax.figure.colorbar(cells, ax=ax, shrink=0.8, extend=extend)
