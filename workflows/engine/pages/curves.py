"""Curves that reports of several workflows draw."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from workflows.engine.pages.report import figure_style

if TYPE_CHECKING:
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
    from matplotlib.typing import ColorType

Event = Mapping[str, Any]  # of JSON


def training_curves(
    events: Sequence[Event],
    colours: "Mapping[str, ColorType]",
    *,
    held_out: str,
    training: str,
    quantity: str,
) -> "Figure":
    """Held-out and training error of some trainings against the share of training.

    A training may have several stages, each of which counts its epochs from 1; a dot
    marks where one begins.

    Args:
        events: of a run.
        colours: of the trainings to draw, by what they log as `training`.
        held_out: name of the held-out error in the events of epochs; solid.
        training: name of the error on what is trained on; dotted.
        quantity: what both are, with its unit.
    """
    import matplotlib.pyplot as plt

    with figure_style():
        figure, ax = plt.subplots()
        for name, colour in colours.items():
            epochs = [e for e in events if held_out in e and e["training"] == name]
            stages = _stages(epochs)
            done = [epoch for stage in stages for epoch in stage]
            shares = [(k + 1) / len(done) for k in range(len(done))]
            # a line through one epoch would not be seen
            marker = "." if len(done) == 1 else ""
            for key, style in ((held_out, "-"), (training, ":")):
                curve = [epoch[key] for epoch in done]
                label = name if key == held_out else None
                ax.plot(shares, curve, marker + style, color=colour, label=label)
            begun = 0
            for stage in stages[:-1]:
                begun += len(stage)
                ax.plot(shares[begun], done[begun][held_out], "o", ms=5, color=colour)
        ax.set(xlabel="share of training done", ylabel=quantity, yscale="log")
        plain_ticks(ax.yaxis)
        title = "solid: held out\ndotted: training"
        if ax.lines:
            ax.legend(title=title, loc="upper left", bbox_to_anchor=(1.0, 1.0))
        return figure


def plain_ticks(axis: "Axis") -> None:
    """Ticks of a logarithmic axis at 1, 2, 3 and 5 times powers of ten, in decimals."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_formatter(NullFormatter())


def _stages(epochs: Sequence[Event]) -> list[list[Event]]:
    """The epochs of each stage, in order.

    A training that was killed and continued may have logged an epoch twice: the later
    record counts. Only after its last epoch does a new stage begin.
    """
    stages: list[dict[int, Event]] = []
    for event in epochs:
        if not stages or (event["epoch"] == 1 and _is_over(stages[-1])):
            stages.append({})
        stages[-1][event["epoch"]] = event
    return [[stage[epoch] for epoch in sorted(stage)] for stage in stages]


def _is_over(stage: Mapping[int, Event]) -> bool:
    last = stage[max(stage)]
    return bool(last["epoch"] >= last["epochs"])
