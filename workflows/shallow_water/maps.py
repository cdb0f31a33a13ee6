"""Maps of vorticity: the truth, what models made of it, and where they differ.

Jets are shown on their hemisphere with the contour interval of the published case
(doi:10.3402/tellusa.v56i5.14436), random states on the whole sphere. Colours are
centred on zero, and panels of a figure share their limits.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from workflows.engine.pages.report import figure_style
from workflows.shallow_water import models

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh
    from matplotlib.figure import Figure

Array = NDArray[np.float64]
Arrays = Mapping[str, Array]

UNIT = 1e-5  # of the maps [1/s]
CONTOUR_INTERVAL = 2.0  # of jets, in that unit
FIELD_COLOURS, DIFFERENCE_COLOURS = "RdBu_r", "PuOr_r"
_WIDTH = 13.0


def vorticity_maps(arrays: Arrays, kind: str, names: Sequence[str]) -> "Figure":
    """One test member on each day: a row per model, a column per day.

    Args:
        arrays: of the evaluation; `map_<model>` (kind, day, lat, lon) [1/s].
        kind: of the member.
        names: models, the first of which is the reference.
    """
    import matplotlib.pyplot as plt

    k, days = list(models.KINDS).index(kind), arrays["map_days"].astype(int)
    fields = {name: arrays[f"map_{name}"][k] / UNIT for name in names}
    reference = fields[names[0]]
    bound = _bound(reference)
    size = _size(kind, len(names), len(days))
    with figure_style():
        figure, axes = plt.subplots(
            len(names), len(days), figsize=size, sharex=True, sharey=True, squeeze=False
        )
        for row, (name, days_of_model) in zip(axes, fields.items(), strict=True):
            for column, (ax, day) in enumerate(zip(row, days, strict=True)):
                field = days_of_model[column]
                title = f"{models.label(name)}, day {day}"
                if name != names[0]:
                    title += _describe_error(arrays, field, reference[column])
                drawn = _draw(ax, arrays, kind, field, bound)
                ax.set_title(title, loc="left", fontsize=10)
        _label_edges(axes)
        _add_bar(figure, drawn, axes, "vorticity, 10⁻⁵ 1/s")
        return figure


def difference_maps(
    arrays: Arrays, kind: str, networks: Sequence[str], day: int
) -> "Figure":
    """Truth, network and their difference on one day: a row per network."""
    import matplotlib.pyplot as plt

    k = list(models.KINDS).index(kind)
    column = list(arrays["map_days"].astype(int)).index(day)
    truth = arrays["map_truth"][k, column] / UNIT
    found = [arrays[f"map_{name}"][k, column] / UNIT for name in networks]
    bound = _bound(truth)
    off = min(_bound(np.stack(found) - truth), bound)
    size = _size(kind, len(networks), 3)
    with figure_style():
        figure, axes = plt.subplots(
            len(networks), 3, figsize=size, sharex=True, sharey=True, squeeze=False
        )
        for row, name, field in zip(axes, networks, found, strict=True):
            fields = _draw(row[0], arrays, kind, truth, bound)
            _draw(row[1], arrays, kind, field, bound)
            difference = _draw(
                row[2], arrays, kind, field - truth, off, DIFFERENCE_COLOURS
            )
            title = models.label(name)
            row[0].set_title(f"truth, day {day}", loc="left", fontsize=10)
            row[1].set_title(f"{title}, day {day}", loc="left", fontsize=10)
            error = _describe_error(arrays, field, truth)
            row[2].set_title(f"{title} - truth{error}", loc="left", fontsize=10)
        _label_edges(axes)
        _add_bar(figure, fields, axes[:, :2], "vorticity, 10⁻⁵ 1/s")
        _add_bar(figure, difference, axes[:, 2:], "difference, 10⁻⁵ 1/s")
        return figure


def _draw(
    ax: "Axes",
    arrays: Arrays,
    kind: str,
    field: Array,
    bound: float,
    colours: str = FIELD_COLOURS,
) -> "QuadMesh":
    """A field (lat, lon) on its map, from pole to pole and around the globe."""
    longitude = np.append(arrays["longitude"], 360.0)
    latitude = np.concatenate([[90.0], arrays["latitude"], [-90.0]])
    poles = [np.full((1, field.shape[1]), field[row].mean()) for row in (0, -1)]
    field = np.concatenate([poles[0], field, poles[1]])
    field = np.concatenate([field, field[:, :1]], axis=1)
    drawn: QuadMesh = ax.pcolormesh(
        longitude,
        latitude,
        field,
        cmap=colours,
        vmin=-bound,
        vmax=bound,
        shading="gouraud",
        rasterized=True,
    )
    is_jet = kind == "jet"
    levels = _contour_levels(field, bound)
    if is_jet and len(levels):
        ax.contour(longitude, latitude, field, levels, colors="#222222", linewidths=0.4)
    ax.grid(visible=False)
    ax.set(
        xlim=(0.0, 360.0),
        ylim=(0.0 if is_jet else -90.0, 90.0),
        xticks=[0, 90, 180, 270, 360],
        yticks=[0, 30, 60, 90] if is_jet else [-90, -45, 0, 45, 90],
    )
    return drawn


def _contour_levels(field: Array, bound: float) -> Array:
    """Those within a field and its scale, without zero, which follows calm noise."""
    finite = field[np.isfinite(field)]
    highest = np.floor(1.5 * bound / CONTOUR_INTERVAL)
    levels = np.arange(-highest, highest + 1) * CONTOUR_INTERVAL
    low, high = finite.min(initial=np.inf), finite.max(initial=-np.inf)
    return np.asarray(levels[(levels != 0) & (levels > low) & (levels < high)])


def _bound(values: Array) -> float:
    """Limit of a scale around zero: an even number that holds 99.5 % of the values."""
    finite = np.abs(values[np.isfinite(values)])
    largest = float(np.quantile(finite, 0.995)) if finite.size else 0.0
    return 2.0 * max(1.0, float(np.ceil(largest / 2)))


def _describe_error(arrays: Arrays, field: Array, truth: Array) -> str:
    """Relative L2 error over the whole sphere."""
    weight = np.cos(np.radians(arrays["latitude"]))[:, None]
    error = np.sqrt((weight * (field - truth) ** 2).sum() / (weight * truth**2).sum())
    return f": error {error:.2f}" if np.isfinite(error) else ": no longer finite"


def _size(kind: str, n_rows: int, n_columns: int) -> tuple[float, float]:
    height = (0.3 if kind == "jet" else 0.55) * _WIDTH / n_columns
    return _WIDTH, n_rows * (height + 0.3) + 1.1


def _label_edges(axes: NDArray[np.object_]) -> None:
    for ax in axes[-1]:
        ax.set_xlabel("longitude, °E")
    for ax in axes[:, 0]:
        ax.set_ylabel("latitude, °N")


def _add_bar(
    figure: "Figure", drawn: "QuadMesh", axes: NDArray[np.object_], name: str
) -> None:
    low, high = drawn.get_clim()
    figure.colorbar(
        drawn,
        ticks=np.linspace(low, high, 5),
        ax=axes.ravel().tolist(),
        location="bottom",
        shrink=0.5 if axes.shape[1] > 1 else 0.9,
        aspect=40 if axes.shape[1] > 1 else 25,
        pad=0.02,
        extend="both",
        label=name,
    )
