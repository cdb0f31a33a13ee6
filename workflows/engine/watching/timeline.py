"""Which worker did what and when, from the events of a run.

A run that was continued has several drivers with pauses between them; time counts from
the first start to the last end of a task under each driver, without the pauses. A
process that runs tasks side by side, in threads, counts as so many workers.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from workflows.engine.watching.run_state import stage_of

Event = Mapping[str, Any]  # of JSON
Ending = Literal["finished", "failed", "cut off"]


@dataclass(frozen=True, slots=True)
class Span:
    """One try of a task on one worker; times in seconds of the timeline."""

    task: str
    started: float
    ended: float
    ending: Ending

    @property
    def stage(self) -> str:
        """The step."""
        return stage_of(self.task)

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.ended - self.started


@dataclass(frozen=True, slots=True)
class Worker:
    """A row of the timeline: one worker, and what took its place on its host later.

    Attributes:
        host: its machine.
        number: from 1, on its host.
        spans: tries of tasks in the order of their starts; they do not overlap.
        seconds: that it could have worked: the length of the drivers that it served.
    """

    host: str
    number: int
    spans: tuple[Span, ...]
    seconds: float

    @property
    def busy_seconds(self) -> float:
        """That it worked."""
        return sum(span.seconds for span in self.spans)


@dataclass(frozen=True, slots=True)
class Timeline:
    """The workers of a run.

    Attributes:
        workers: by host and number; those that ran a task.
        seconds: the length, pauses left out.
        continued: when later drivers began.
    """

    workers: tuple[Worker, ...]
    seconds: float
    continued: tuple[float, ...]

    @property
    def busy_share(self) -> float:
        """Share of the time of all workers in which they worked."""
        available = sum(worker.seconds for worker in self.workers)
        busy = sum(worker.busy_seconds for worker in self.workers)
        return busy / available if available else 0.0


Place = tuple[str, int]  # host and process


def build_timeline(events: Iterable[Event]) -> Timeline:
    """The timeline of a run from its events in the order of their times."""
    rows: dict[tuple[str, int], list[Span]] = defaultdict(list)
    available: dict[tuple[str, int], float] = defaultdict(float)
    length, continued = 0.0, []
    for tries in filter(None, map(_tries, _by_driver(events))):
        spans = [span for found in tries.values() for span in found]
        began = min(span.started for span in spans)
        extent = max(span.ended for span in spans) - began
        if length:
            continued.append(length)
        numbers: dict[str, int] = defaultdict(int)
        for (host, _), found in tries.items():
            for lane in _lanes(found):
                numbers[host] += 1
                row = host, numbers[host]
                rows[row] += [_moved(span, length - began) for span in lane]
                available[row] += extent
        length += extent
    workers = [
        Worker(*row, tuple(spans), available[row])
        for row, spans in sorted(rows.items())
    ]
    return Timeline(tuple(workers), length, tuple(continued))


def _by_driver(events: Iterable[Event]) -> list[list[Event]]:
    drivers: list[list[Event]] = [[]]
    for event in events:
        if event.get("event") == "begin":
            drivers.append([])
        drivers[-1].append(event)
    return drivers


def _tries(events: Sequence[Event]) -> dict[Place, list[Span]]:
    """Tries by process; one without an end was cut off, at the next or at the last."""
    running: dict[str, tuple[Place, float]] = {}
    found: dict[Place, list[Span]] = defaultdict(list)

    def end(task: str, time: float, ending: Ending) -> None:
        place, started = running.pop(task)
        found[place].append(Span(task, started, time, ending))

    for event in events:
        kind, task, time = event.get("event"), event.get("task", ""), event["time"]
        if kind == "start":
            if task in running:
                end(task, time, "cut off")
            running[task] = (event["host"], event["pid"]), time
        elif kind in ("finish", "fail") and task in running:
            end(task, time, "finished" if kind == "finish" else "failed")
    for task in list(running):
        end(task, events[-1]["time"], "cut off")
    return dict(sorted(found.items(), key=lambda item: item[1][0].started))


def _lanes(spans: Sequence[Span]) -> list[list[Span]]:
    """Spans in as few rows as hold them without overlap."""
    lanes: list[list[Span]] = []
    for span in sorted(spans, key=lambda span: span.started):
        free = [lane for lane in lanes if lane[-1].ended <= span.started]
        if free:
            free[0].append(span)
        else:
            lanes.append([span])
    return lanes


def _moved(span: Span, seconds: float) -> Span:
    times = span.started + seconds, span.ended + seconds
    return Span(span.task, *times, span.ending)
