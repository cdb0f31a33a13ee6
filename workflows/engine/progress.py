"""What a run is doing: a live table on a terminal, a plain line every few seconds else.

Stages are named after steps and appear when their first task is submitted.
"""

import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from workflows.engine.events import running_trainings

Ending = Literal["done", "failed", "reused"]

SECONDS_BETWEEN_LINES = 5.0


@dataclass(slots=True)
class Stage:
    """Counts of one step; `open` tasks wait or run."""

    started: float
    n_submitted: int = 0
    last_ended: float = 0.0
    ended: Counter[str] = field(default_factory=Counter)

    @property
    def n_open(self) -> int:
        """Tasks that wait or run."""
        return self.n_submitted - self.ended.total()

    def rate(self, now: float) -> float:
        """Tasks computed per second so far."""
        until = now if self.n_open else self.last_ended
        return self.ended["done"] / max(until - self.started, 1e-3)


class Progress:
    """Counts tasks per stage and shows them while it is entered."""

    def __init__(self, console: Console, folder: Path) -> None:
        self._folder = folder
        self._started = time.time() - 1.0  # times of files are coarse
        self._console, self._lock = console, threading.Lock()
        self._stages: dict[str, Stage] = {}
        self._began, self._over = time.monotonic(), threading.Event()
        self._live = Live(
            console=console, get_renderable=self.table, refresh_per_second=2
        )
        self._lines = threading.Thread(target=self._print_lines, daemon=True)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        else:
            self._lines.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        if self._console.is_terminal:
            self._live.stop()
        else:
            self._lines.join()

    def submitted(self, stage: str) -> None:
        """One more task of a stage is known."""
        with self._lock:
            if stage not in self._stages:
                self._stages[stage] = Stage(time.monotonic())
            self._stages[stage].n_submitted += 1

    def ended(self, stage: str, ending: Ending) -> None:
        """One task of a stage is done, failed, or was taken from the journal."""
        with self._lock:
            self._stages[stage].ended[ending] += 1
            self._stages[stage].last_ended = time.monotonic()

    def table(self) -> Group:
        """The stages as a table, and what is training."""
        table = Table(box=None)
        table.add_column("stage")
        for name in ("done", "open", "failed", "reused", "tasks/s", "left"):
            table.add_column(name, justify="right")
        with self._lock:
            for name, stage in self._stages.items():
                rate = stage.rate(time.monotonic())
                left = f"{stage.n_open / rate:.0f} s" if stage.n_open and rate else ""
                counts = stage.ended["done"], stage.n_open
                rest = stage.ended["failed"], stage.ended["reused"]
                cells = [str(n) for n in counts + rest]
                table.add_row(name, *cells, f"{rate:.2f}", left)
        trainings = self._trainings()
        return Group(table, *(f"  {line}" for line in trainings))

    def line(self) -> str:
        """The stages that are not over, and what is training, in one line."""
        with self._lock:
            stages = [
                f"{name} {stage.ended['done'] + stage.ended['reused']}"
                f"/{stage.n_submitted}" + _remarks(stage)
                for name, stage in self._stages.items()
                if stage.n_open
            ]
        return " | ".join([*stages, *self._trainings()])

    def _trainings(self) -> list[str]:
        """One phrase per running training: epoch, its own status, time left."""
        return [
            f"training {event['training']}: epoch {event['epoch']}/{event['epochs']}, "
            f"{event['status']}, {event['seconds_left']:.0f} s left"
            for event in running_trainings(self._folder, self._started)
        ]

    def summary(self) -> str:
        """One closing sentence: how much was computed and how much reused."""
        with self._lock:
            total = sum((s.ended for s in self._stages.values()), Counter[str]())
        return (
            f"{total['done']} tasks computed, {total['reused']} reused, "
            f"{total['failed']} failed in {time.monotonic() - self._began:.1f} s"
        )

    def _print_lines(self) -> None:
        shown = ""
        while not self._over.wait(SECONDS_BETWEEN_LINES):
            line = self.line()
            if line and line != shown:
                shown = line
                elapsed = time.monotonic() - self._began
                self._console.print(f"{elapsed:5.0f} s  {line}", soft_wrap=True)


def _remarks(stage: Stage) -> str:
    remarks = [f"{stage.ended[name]} {name}" for name in ("reused", "failed")]
    remarks = [remark for remark in remarks if not remark.startswith("0 ")]
    return f" ({', '.join(remarks)})" if remarks else ""
