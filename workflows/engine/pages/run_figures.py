"""The picture of a run: what each worker did when."""

from collections import Counter
from typing import TYPE_CHECKING

from workflows.engine.pages.report import figure_style
from workflows.engine.watching.timeline import Timeline

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_NAMED_WORKERS = 32
MAX_EDGED_TASKS = 150

_COLOURS = (
    *("#1f5f8b", "#d1762b", "#2e7d4f", "#7a5aa6", "#c2a83e", "#4fa3a5"),
    *("#a64d79", "#7f8c8d", "#8c6d46", "#9bbb59", "#5b7fd1", "#d98fb0"),
)
_TROUBLE = "#d62728"
_UNITS = ((7200.0, 3600.0, "h"), (300.0, 60.0, "min"), (0.0, 1.0, "s"))


def worker_timeline(timeline: Timeline) -> "Figure":
    """One row per worker, one bar per try of a task, one colour per step."""
    import matplotlib.pyplot as plt
    from matplotlib.patches import Patch

    rows = timeline.workers
    counts = Counter(span.stage for worker in rows for span in worker.spans)
    starts = sorted((s.started, s.stage) for worker in rows for s in worker.spans)
    stages = list(dict.fromkeys(stage for _, stage in starts))
    colour = {s: _COLOURS[k % len(_COLOURS)] for k, s in enumerate(stages)}
    unit, name = next((u, n) for least, u, n in _UNITS if timeline.seconds >= least)
    with figure_style():
        height = 1.6 + min(max(0.28 * len(rows), 0.9), 6.0)
        figure, axes = plt.subplots(figsize=(9.0, height))
        axes.grid(visible=False, axis="y")
        half = 0.42 if len(rows) <= MAX_NAMED_WORKERS else 0.5
        for row, worker in enumerate(rows):
            bars = [(s.started / unit, s.seconds / unit) for s in worker.spans]
            axes.broken_barh(
                bars,
                (row - half, 2 * half),
                facecolors=[colour[s.stage] for s in worker.spans],
                edgecolors="white",
                linewidth=0.5 if counts.total() <= MAX_EDGED_TASKS else 0.0,
            )
        has_trouble = _mark_trouble(axes, timeline, unit)
        for time in timeline.continued:
            axes.axvline(time / unit, color="#1c2430", lw=1.0, ls="--")
        axes.set(
            xlabel=f"time, {name}",
            xlim=(0.0, max(timeline.seconds, 1e-3) / unit),
            ylim=(len(rows) - 0.4, -0.6),
        )
        _name_workers(axes, timeline)
        handles = [
            Patch(color=colour[stage], label=f"{stage.replace('_', ' ')} ({count})")
            for stage in stages
            for count in [counts[stage]]
        ]
        if has_trouble:
            handles.append(
                Patch(fill=False, edgecolor=_TROUBLE, hatch="////", label="no result")
            )
        axes.legend(
            handles=handles, loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=9
        )
        return figure


def _mark_trouble(axes: "Axes", timeline: Timeline, unit: float) -> bool:
    """Hatch what failed or was cut off; whether there is any."""
    marked = [
        (row, span)
        for row, worker in enumerate(timeline.workers)
        for span in worker.spans
        if span.ending != "finished"
    ]
    for row, span in marked:
        axes.broken_barh(
            [(span.started / unit, span.seconds / unit)],
            (row - 0.42, 0.84),
            facecolors="none",
            edgecolors=_TROUBLE,
            hatch="////",
            linewidth=1.2,
        )
    return bool(marked)


def _name_workers(axes: "Axes", timeline: Timeline) -> None:
    """Names of the workers; of hosts alone, in their middle, where workers are many."""
    rows = timeline.workers
    hosts = Counter(worker.host for worker in rows)
    if len(rows) <= MAX_NAMED_WORKERS:
        several = len(hosts) > 1
        names = [f"{w.host if several else 'worker'} {w.number}" for w in rows]
        axes.set_yticks(range(len(rows)), names)
        return
    first, ticks, names = 0, [], []
    for host, count in hosts.items():
        ticks.append(first + (count - 1) / 2)
        names.append(f"{host}: {count}")
        first += count
        axes.axhline(first - 0.5, color="#5b6675", lw=0.5)
    step = -(-len(ticks) // MAX_NAMED_WORKERS)
    axes.set_yticks(ticks[::step], names[::step])
    axes.set_ylabel("host: workers")
