"""The section of a report that tells how the run went, whatever the workflow."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data.staging import bytes_by_edge
from workflows.engine.pages.report import Grid, Illustration, Section
from workflows.engine.pages.run_figures import worker_timeline
from workflows.engine.watching.events import read_events
from workflows.engine.watching.run_view import counted, duration
from workflows.engine.watching.timeline import Timeline, Worker, build_timeline

MAX_ROWS = 24
MAX_CAUSE = 200

FAULTS = {
    "retry": ("retry", "retries", "ran again"),
    "failed": ("failed task", "failed tasks", "given up"),
    "member failed": ("failed member", "failed members", "left out"),
    "model failed": ("failed model", "failed models", "left out"),
    "training stopped": ("early end", "early ends", "its last good state is used"),
    "checkpoint discarded": ("bad checkpoint", "bad checkpoints", "trained anew"),
    "journal damaged": ("damaged journal", "damaged journals", "computed again"),
    "tier left out": ("unsafe tier", "unsafe tiers", "not used"),
    "corrupt replica": ("bad replica", "bad replicas", "fetched again"),
}
"""Events of faults: one, several, and the consequence."""

Event = Mapping[str, Any]  # of JSON


def describe_run(
    folder: Path, failed: Sequence[tuple[int, int, str]] = ()
) -> list[Section]:
    """Timeline, utilisation, faults, and the decisions of the steering, if any.

    Args:
        folder: of a run whose tasks have ended.
        failed: number, seed and cause of each member without a result.
    """
    events = read_events(folder)
    timeline = build_timeline(events)
    sections = [
        Section(
            "How the run went",
            [_describe_work(timeline), _describe_faults(events, timeline)],
            [_picture(timeline)] if timeline.workers else [],
            [_utilisation(timeline), *_faults(events), *_failed_members(failed)],
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
    kinds = Counter(event.get("event") for event in events)
    told = [
        counted(kinds[kind], one, many)
        for kind, (one, many, _) in FAULTS.items()
        if kinds[kind]
    ]
    if n_cut_off:
        told.append(f"{counted(n_cut_off, 'task')} cut off with the worker or driver")
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
    found = [event for event in events if event.get("event") in FAULTS]
    if not found:
        return []
    rows = [
        [_what(event), FAULTS[event["event"]][2], _cause(event)]
        for event in found[:MAX_ROWS]
    ]
    caption = "What went wrong on the way, and what was done about it."
    if len(found) > MAX_ROWS:
        caption += f" The first {MAX_ROWS} of {len(found)}."
    return [Grid(["what", "consequence", "cause"], rows, caption)]


def _failed_members(failed: Sequence[tuple[int, int, str]]) -> list[Grid]:
    if not failed:
        return []
    rows = [
        [str(member), str(seed), cause[:MAX_CAUSE]] for member, seed, cause in failed
    ]
    caption = "Members without a result, left out of everything."
    return [Grid(["member", "seed", "cause"], rows, caption)]


def _what(event: Event) -> str:
    if "member" in event:
        return f"member {event['member']}"
    return str(event.get("task") or event.get("key") or event["event"])


def _cause(event: Event) -> str:
    return str(event.get("cause") or event.get("error") or "")[:MAX_CAUSE]


def _decisions(decisions: Sequence[Event], began: float) -> Grid:
    rows = [
        [duration(event["time"] - began), str(event["decision"]), str(event["reason"])]
        for event in decisions
    ]
    return Grid(["after", "decision", "reason"], rows, "What the steering decided.")


def describe_staging(events: Sequence[Mapping[str, Any]], store_bytes: int) -> Section:
    """The bytes that moved between tiers, beside the fewest that could have.

    Args:
        events: of the run.
        store_bytes: size of the files of its store. Each is written once, and copied
            once to every node with a faster tier.
    """
    moved = bytes_by_edge(events)
    rows: list[list[str | float]] = [
        [f"{source} → {target}", n_bytes / 1e6, store_bytes / 1e6]
        for (source, target), n_bytes in sorted(moved.items(), reverse=True)
    ]
    corrupt = sum(event.get("event") == "corrupt replica" for event in events)
    text = (
        "Members are written to the run folder by the task that simulates them; what "
        "learns from them reads them on the fastest tier of the site. More than the "
        "predicted minimum was moved where tasks were repeated, where several nodes "
        "read, or where a quota was too small to keep a copy."
    )
    notes = [f"{corrupt} corrupt replicas were fetched again."] if corrupt else []
    header = ("from → to", "moved [MB]", "predicted minimum [MB]")
    caption = "Bytes moved per edge, over all starts of this run."
    return Section("Staging", [text, *notes], tables=[Grid(header, rows, caption)])
