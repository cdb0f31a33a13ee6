"""The section of a report that tells how the run went, whatever the workflow."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from workflows.engine.events import read_events
from workflows.engine.report import Grid, Illustration, Section
from workflows.engine.run_figures import worker_timeline
from workflows.engine.run_view import counted, duration
from workflows.engine.timeline import Timeline, Worker, build_timeline

MAX_ROWS = 24

Event = Mapping[str, Any]  # of JSON


def describe_run(folder: Path) -> list[Section]:
    """Timeline, utilisation, faults, and the decisions of the steering, if any.

    Args:
        folder: of a run whose tasks have ended.
    """
    events = read_events(folder)
    timeline = build_timeline(events)
    sections = [
        Section(
            "How the run went",
            [_describe_work(timeline), _describe_faults(events, timeline)],
            [_picture(timeline)] if timeline.workers else [],
            [_utilisation(timeline), *_faults(events)],
        )
    ]
    decisions = [event for event in events if event.get("event") == "decision"]
    if decisions:
        sections.append(
            Section(
                "What was decided on the way",
                tables=[_decisions(decisions, events[0]["time"])],
            )
        )
    return sections


def _describe_work(timeline: Timeline) -> str:
    spans = [span for worker in timeline.workers for span in worker.spans]
    hosts = {worker.host for worker in timeline.workers}
    n_tasks = len({span.task for span in spans})
    tries = f" in {len(spans)} tries" if len(spans) > n_tasks else ""
    words = (
        f"{counted(n_tasks, 'task')} ran{tries} on "
        f"{counted(len(timeline.workers), 'worker')} of "
        f"{counted(len(hosts), 'host')} in {duration(timeline.seconds)}; the workers "
        f"were busy {timeline.busy_share:.0%} of the time."
    )
    n_continued = len(timeline.continued)
    if n_continued:
        times = counted(n_continued, "time")
        words += f" The run was continued {times}; pauses are left out."
    return words


def _describe_faults(events: Sequence[Event], timeline: Timeline) -> str:
    n_cut_off = sum(
        span.ending == "cut off" for w in timeline.workers for span in w.spans
    )
    kinds = [event.get("event") for event in events]
    told = [
        counted(kinds.count("retry"), "retry", "retries"),
        counted(kinds.count("failed"), "failed task"),
        counted(n_cut_off, "task") + " cut off with the worker or driver",
    ]
    told = [words for words in told if not words.startswith("0 ")]
    return f"Faults: {', '.join(told) or 'none'}."


def _picture(timeline: Timeline) -> Illustration:
    return Illustration(
        "timeline",
        worker_timeline(timeline),
        "What each worker did: a bar per task, a colour per step (number of tasks in "
        "brackets). Hatched: failed, or cut off with the worker or the driver. A "
        "dashed line: the run was continued.",
    )


def _utilisation(timeline: Timeline) -> Grid:
    workers = timeline.workers
    caption = (
        "Share of the time between the first start and the last end of a task in which "
        "a worker computed; workers that never got a task are not counted."
    )
    if len(workers) > MAX_ROWS:
        by_share = sorted(workers, key=_busy_share)
        half = MAX_ROWS // 2
        workers = (*by_share[:half], *by_share[-half:])
        caption += f" The {half} least and the {half} most busy ones are shown."
    rows = [
        [f"{w.host} {w.number}", *_work_of([w]), f"{_busy_share(w):.1%}"]
        for w in workers
    ]
    total = ["all", *_work_of(timeline.workers), f"{timeline.busy_share:.1%}"]
    return Grid(["worker", "tasks", "busy, s", "share"], [*rows, total], caption)


def _busy_share(worker: Worker) -> float:
    return worker.busy_seconds / worker.seconds if worker.seconds else 0.0


def _work_of(workers: Sequence[Worker]) -> list[str]:
    n_tasks = sum(len(worker.spans) for worker in workers)
    return [str(n_tasks), f"{sum(worker.busy_seconds for worker in workers):.1f}"]


def _faults(events: Sequence[Event]) -> list[Grid]:
    words = {"retry": "ran again", "failed": "given up"}
    found = [event for event in events if event.get("event") in words]
    if not found:
        return []
    rows = [
        [
            event["task"],
            words[event["event"]],
            str(event.get("cause") or event.get("error"))[:200],
        ]
        for event in found[:MAX_ROWS]
    ]
    caption = "Tasks that failed on the way."
    if len(found) > MAX_ROWS:
        caption += f" The first {MAX_ROWS} of {len(found)}."
    return [Grid(["task", "consequence", "cause"], rows, caption)]


def _decisions(decisions: Sequence[Event], began: float) -> Grid:
    rows = [
        [duration(event["time"] - began), str(event["decision"]), str(event["reason"])]
        for event in decisions
    ]
    return Grid(["after", "decision", "reason"], rows, "What the steering decided.")
