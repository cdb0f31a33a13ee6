"""The state of a run for people: tables on a terminal, or one line."""

import math
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from workflows.engine.watching.run_state import RunState, Stage, Training

_BARS = "▁▂▃▄▅▆▇█"
_N_BARS = 24
_KILO = 1000


def tables(state: RunState, now: float) -> Group:
    """Stages, blocks, trainings, and bytes moved, as far as there are any.

    Args:
        state: what is known.
        now: seconds since 1970; the last event's time for a run that has ended.
    """
    parts: list[RenderableType] = [_stage_table(state, now)]
    if state.blocks:
        parts.append(_block_table(state, now))
    told = [_describe_training(t) for t in state.trainings.values()]
    told += _describe_moves(state)
    if state.retries:
        last = state.retries[-1]
        retries = counted(len(state.retries), "retry", "retries")
        told.append(f"{retries}, the last of {last['task']}: {last['cause']}")
    if state.decisions:
        last = state.decisions[-1]
        told.append(f"decided: {last['decision']}, since {last['reason']}")
    return Group(*parts, *(Text(f"  {text}") for text in told))


def line(state: RunState, now: float) -> str:
    """The stages that are not over, waiting blocks, running trainings, in one line."""
    stages = [
        f"{name} {stage.n_done + stage.reused}/{stage.submitted}" + _remarks(stage)
        for name, stage in state.stages.items()
        if stage.n_open
    ]
    blocks = [
        f"block {executor}/{number} pending for {duration(block.queue_wait(now))}"
        for (executor, number), block in state.blocks.items()
        if block.state == "pending"
    ]
    trainings = [_describe_epoch(t) for t in state.running_trainings()]
    return " | ".join([*stages, *blocks, *trainings])


def duration(seconds: float | None) -> str:
    """Seconds, minutes or hours, whichever is read at a glance; nothing for None."""
    if seconds is None:
        return ""
    if seconds < 2 * 60:
        return f"{seconds:.0f} s" if round(seconds) > 9 else f"{seconds:.1f} s"  # noqa: PLR2004  # two figures
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours > 1 else f"{60 * hours + minutes} min"


def size(n_bytes: float) -> str:
    """Bytes in decimal units."""
    for unit in ("B", "kB", "MB", "GB"):
        if n_bytes < 999.5:  # noqa: PLR2004  # three digits must hold the rounded number
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= _KILO
    return f"{n_bytes:.4g} TB"


def counted(number: int, one: str, many: str = "") -> str:
    """A number of things, in words."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def sparkline(values: Sequence[float]) -> str:
    """The last values as a row of bars between the least and the greatest of them."""
    shown = [value for value in values if math.isfinite(value)][-_N_BARS:]
    if not shown:
        return ""
    low, extent = min(shown), max(shown) - min(shown)
    top = len(_BARS) - 1
    return "".join(
        _BARS[round(top * (v - low) / extent) if extent else 0] for v in shown
    )


def _stage_table(state: RunState, now: float) -> Table:
    table = Table(box=None)
    table.add_column("stage")
    for name in (
        *("done", "running", "waiting", "failed", "reused"),
        *("tasks/s", "left"),
    ):
        table.add_column(name, justify="right")
    for name, stage in state.stages.items():
        rate, n_running = stage.rate(now), stage.n_running
        counts = stage.n_done, n_running, stage.n_open - n_running
        table.add_row(
            name,
            *(str(count) for count in (*counts, stage.failed, stage.reused)),
            "" if rate is None else f"{rate:.3g}",
            duration(stage.seconds_left(now)),
        )
    return table


def _block_table(state: RunState, now: float) -> Table:
    table = Table("executor", "block", "job", "state", "queue wait", box=None)
    for (executor, number), block in state.blocks.items():
        wait = duration(block.queue_wait(now))
        table.add_row(executor, number, block.job, block.state, wait)
    return table


def _describe_training(training: Training) -> str:
    text = _describe_epoch(training)
    if not training.curve:
        return text
    name = str(training.last["curve"]).replace("_", " ")
    values = [training.curve[epoch] for epoch in sorted(training.curve)]
    return f"{text}; {name} {sparkline(values)} {values[-1]:.3g}"


def _describe_epoch(training: Training) -> str:
    last = training.last
    left = "" if training.is_over else f", {duration(last['seconds_left'])} left"
    told = f"epoch {last['epoch']}/{last['epochs']}, {last['status']}{left}"
    return f"training {last['training']}: {told}"


def _describe_moves(state: RunState) -> list[str]:
    return [
        f"{source} -> {target}: {size(moves.bytes)} in "
        + counted(moves.copies, "copy", "copies")
        + (f", {size(moves.bytes / moves.seconds)}/s" if moves.seconds else "")
        for (source, target), moves in state.moves.items()
    ]


def _remarks(stage: Stage) -> str:
    remarks = [f"{stage.reused} reused", f"{stage.failed} failed"]
    remarks = [remark for remark in remarks if not remark.startswith("0 ")]
    return f" ({', '.join(remarks)})" if remarks else ""
