"""What a run is doing: a live table on a terminal, a plain line every few seconds else.

The driver counts its tasks and notes the counts among the events, at most once a
second; what workers and trainings say is read from their events. `status` shows the
same state from the files alone.
"""

import threading
import time
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from rich.console import Console, Group
from rich.live import Live

from workflows.engine.watching.events import Tail, event_log, in_order
from workflows.engine.watching.run_state import RunState
from workflows.engine.watching.run_view import line, tables

Ending = Literal["done", "failed", "reused"]

SECONDS_BETWEEN_LINES = 5.0
SECONDS_BETWEEN_LOOKS = 1.0
SECONDS_BETWEEN_SIGNS_OF_LIFE = 30.0
"""The counts are noted this often even where nothing changed."""


class Progress:
    """Counts tasks per stage, notes and shows them while it is entered."""

    def __init__(self, console: Console, folder: Path) -> None:
        self._log = event_log(folder)
        self._tail = Tail(folder / "events", "*.jsonl", skips_present=True)
        self._console, self._lock = console, threading.Lock()
        self._counts: dict[str, Counter[str]] = {}
        self._state, self._noted, self._noted_at = RunState(), "", 0.0
        self._began, self._over = time.monotonic(), threading.Event()
        self._live = Live(
            console=console, get_renderable=self.table, refresh_per_second=2
        )
        self._watch = threading.Thread(target=self._look_and_tell, daemon=True)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        self._watch.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._watch.join()
        self.look()
        if self._console.is_terminal:
            self._live.stop()

    def submitted(self, stage: str) -> None:
        """One more task of a stage is known."""
        self._count(stage, "submitted")

    def ended(self, stage: str, ending: Ending) -> None:
        """One task of a stage is done, failed, or was taken from the journal."""
        self._count(stage, ending)

    def look(self) -> None:
        """Note the counts, if they are news, and read what others have noted."""
        with self._lock:
            counts = {name: dict(count) for name, count in self._counts.items()}
            now, news = time.monotonic(), str(counts)
            is_silent = now - self._noted_at > SECONDS_BETWEEN_SIGNS_OF_LIFE
            if news != self._noted or (is_silent and counts):
                self._log({"event": "stages", "stages": counts})
                self._noted, self._noted_at = news, now
            self._state.fold(in_order(self._tail.records()))

    def table(self) -> Group:
        """The stages as a table, blocks, trainings, and bytes moved."""
        with self._lock:
            return tables(self._state, time.time())

    def line(self) -> str:
        """The stages that are not over, and what is training, in one line."""
        with self._lock:
            return line(self._state, time.time())

    def summary(self) -> str:
        """One closing sentence: how much was computed and how much reused."""
        with self._lock:
            total = sum(self._counts.values(), Counter[str]())
        return (
            f"{total['done']} tasks computed, {total['reused']} reused, "
            f"{total['failed']} failed in {time.monotonic() - self._began:.1f} s"
        )

    def _count(self, stage: str, kind: str) -> None:
        with self._lock:
            if stage not in self._counts:
                self._counts[stage] = Counter()
            self._counts[stage][kind] += 1

    def _look_and_tell(self) -> None:
        shown, told_at = "", time.monotonic()
        while not self._over.wait(SECONDS_BETWEEN_LOOKS):
            self.look()
            if self._console.is_terminal:
                continue
            now, text = time.monotonic(), self.line()
            if text and text != shown and now - told_at > SECONDS_BETWEEN_LINES:
                shown, told_at = text, now
                self._console.print(
                    f"{now - self._began:5.0f} s  {text}", soft_wrap=True
                )
