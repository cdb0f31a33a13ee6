"""The state of a run, folded from its events; live table, `status` and report share it.

Counts are those since the driver began (event `begin`); curves and bytes are those of
the whole run. Times are seconds since 1970 by the clocks of the writers, which are
taken to agree. Events that are folded, besides `begin`, with their keys:

    stages    stages: {stage: {submitted, done, failed, reused}}, the driver's counts
    start     task; also finish and fail: what a worker does with a task
    failed    task, error: given up
    retry     task, cause, try: runs once more
    block     executor, block, state (pending, running, ended), job
    epoch     training, epoch, epochs, status, seconds_left, curve (the key to draw),
              checkpoint (its name, by which trainings of one label are told apart)
    moved     key, bytes, source, target, seconds: a copy between two storage tiers
    decision  decision, reason
    journal   task: a line of the journal, for readers outside of the driver
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

Event = Mapping[str, Any]  # of JSON


@dataclass(slots=True)
class Stage:
    """The tasks of one step.

    Attributes:
        submitted: as the driver counts; `done`, `failed` and `reused` too.
        journalled: those of which a line of the journal was read; the driver's count
            of a killed run is a second old.
        running: those that started and have not ended.
        first_start: when the first one started.
        last_finish: when the last one finished.
    """

    submitted: int = 0
    done: int = 0
    failed: int = 0
    reused: int = 0
    journalled: set[str] = field(default_factory=set)
    running: set[str] = field(default_factory=set)
    first_start: float | None = None
    last_finish: float = 0.0

    @property
    def n_done(self) -> int:
        """Tasks computed since the driver began."""
        return max(self.done, len(self.journalled))

    @property
    def n_open(self) -> int:
        """Tasks that wait or run."""
        return max(0, self.submitted - self.n_done - self.failed - self.reused)

    @property
    def n_running(self) -> int:
        """Tasks that run; those of a lost worker too, until they run again."""
        return min(len(self.running), self.n_open)

    def rate(self, now: float) -> float | None:
        """Tasks computed per second since the first one started."""
        if self.first_start is None or not self.n_done:
            return None
        until = now if self.n_open else self.last_finish
        return self.n_done / max(until - self.first_start, 1e-3)

    def seconds_left(self, now: float) -> float | None:
        """Until the open tasks are done at the rate so far; None where none runs."""
        rate = self.rate(now)
        return self.n_open / rate if rate and self.n_running else None


@dataclass(slots=True)
class Block:
    """A batch job that holds workers, as Parsl last saw it."""

    state: str
    job: str
    submitted: float
    started: float | None = None
    ended: float | None = None

    def queue_wait(self, now: float) -> float:
        """Seconds between submission and start, or so far, or until it ended."""
        return max(0.0, (self.started or self.ended or now) - self.submitted)


@dataclass(slots=True)
class Training:
    """What a training said last, and its curve by epoch."""

    last: Event
    curve: dict[int, float] = field(default_factory=dict)

    @property
    def is_over(self) -> bool:
        """Whether it came to its last epoch."""
        return bool(self.last["epoch"] >= self.last["epochs"])


@dataclass(slots=True)
class Moves:
    """Copies along one edge between two storage tiers."""

    copies: int = 0
    bytes: int = 0
    seconds: float = 0.0


@dataclass(slots=True)
class RunState:
    """What is known of a run.

    Attributes:
        begun: when the present driver began.
        last: time of the last event.
        stages: by step, in the order of their first submission.
        blocks: by executor and number.
        trainings: by name of the checkpoint, or label.
        moves: by source and target.
        retries: events of tasks that ran once more.
        failures: events of tasks that were given up.
        decisions: events of the steering.
    """

    begun: float | None = None
    last: float | None = None
    stages: dict[str, Stage] = field(default_factory=lambda: defaultdict(Stage))
    blocks: dict[tuple[str, str], Block] = field(default_factory=dict)
    trainings: dict[str, Training] = field(default_factory=dict)
    moves: dict[tuple[str, str], Moves] = field(
        default_factory=lambda: defaultdict(Moves)
    )
    retries: list[Event] = field(default_factory=list)
    failures: list[Event] = field(default_factory=list)
    decisions: list[Event] = field(default_factory=list)

    def fold(self, events: Iterable[Event]) -> None:
        """Take in events in the order of their times.

        Unknown ones, and those that lack what they should say, are left out.
        """
        for event in events:
            self.last = max(self.last or 0.0, event["time"])
            take = _FOLDS.get(str(event.get("event")))
            if take is not None:
                # of another writer or release: what it says cannot be shown
                with suppress(AttributeError, KeyError, TypeError, ValueError):
                    take(self, event)

    def running_trainings(self) -> list[Training]:
        """Those that have not come to their last epoch and are of this driver."""
        since = self.begun or 0.0
        return [
            training
            for training in self.trainings.values()
            if not training.is_over and training.last["time"] >= since
        ]


def stage_of(task: str) -> str:
    """The step of a task's label, `step[number]`."""
    return task.partition("[")[0]


def _begin(state: RunState, event: Event) -> None:
    state.begun = event["time"]
    for counts in (state.stages, state.blocks):
        counts.clear()
    for events in (state.retries, state.failures, state.decisions):
        events.clear()


def _stages(state: RunState, event: Event) -> None:
    for name, counts in event["stages"].items():
        for kind, count in counts.items():
            setattr(state.stages[name], kind, count)


def _start(state: RunState, event: Event) -> None:
    stage = state.stages[stage_of(event["task"])]
    stage.running.add(event["task"])
    if stage.first_start is None:
        stage.first_start = event["time"]


def _finish(state: RunState, event: Event) -> None:
    stage = state.stages[stage_of(event["task"])]
    stage.running.discard(event["task"])
    stage.last_finish = event["time"]


def _journal(state: RunState, event: Event) -> None:
    state.stages[stage_of(event["task"])].journalled.add(event["task"])


def _block(state: RunState, event: Event) -> None:
    name = event["executor"], event["block"]
    block = state.blocks.get(name)
    if block is None:
        block = state.blocks[name] = Block("", event["job"], event["time"])
    block.state = event["state"]
    if block.state == "running":
        block.started = event["time"]
    elif block.state == "ended":
        block.ended = event["time"]


def _epoch(state: RunState, event: Event) -> None:
    if not event.keys() >= {"training", "status", "seconds_left"}:
        return
    epoch, of = int(event["epoch"]), int(event["epochs"])
    name = str(event.get("checkpoint", event["training"]))
    training = state.trainings.get(name)
    if training is None or (epoch == 1 and training.is_over):  # of its next stage
        training = state.trainings[name] = Training(event)
    training.last = {**event, "epoch": epoch, "epochs": of}
    if "curve" in event:
        training.curve[event["epoch"]] = event[event["curve"]]


def _moved(state: RunState, event: Event) -> None:
    moves = state.moves[event["source"], event["target"]]
    moves.copies += 1
    moves.bytes += event["bytes"]
    moves.seconds += event["seconds"]


_FOLDS: Mapping[str, Callable[[RunState, Event], None]] = {
    "begin": _begin,
    "stages": _stages,
    "start": _start,
    "finish": _finish,
    "fail": _finish,
    "failed": lambda state, event: state.failures.append(event),
    "retry": lambda state, event: state.retries.append(event),
    "block": _block,
    "journal": _journal,
    "epoch": _epoch,
    "moved": _moved,
    "decision": lambda state, event: state.decisions.append(event),
}
