"""Which worker did what: rows without overlap, busy shares, and the section on it."""

import re

import matplotlib.pyplot as plt
import pytest

from workflows.engine.driving.campaign import gather
from workflows.engine.driving.tasks import Task
from workflows.engine.pages.run_figures import worker_timeline
from workflows.engine.pages.run_sections import describe_run
from workflows.engine.watching.events import close_event_logs, event_log
from workflows.engine.watching.timeline import build_timeline


def event(kind, time, task="", pid=1, host="a"):
    return {"event": kind, "time": time, "task": task, "host": host, "pid": pid}


def tried(task, started, ended, pid=1, host="a", ending="finish"):
    return [
        event("start", started, task, pid, host),
        event(ending, ended, task, pid, host),
    ]


def timeline_of(*tries):
    events = [event for found in tries for event in found]
    return build_timeline(sorted(events, key=lambda e: e["time"]))


def rows(timeline):
    return {
        (w.host, w.number): [(s.task, s.started, s.ended) for s in w.spans]
        for w in timeline.workers
    }


def test_every_process_is_a_row_and_time_counts_from_the_first_start():
    timeline = timeline_of(
        tried("s[0]", 100, 104), tried("s[1]", 102, 110, pid=2), tried("t[0]", 105, 106)
    )
    assert rows(timeline) == {
        ("a", 1): [("s[0]", 0, 4), ("t[0]", 5, 6)],
        ("a", 2): [("s[1]", 2, 10)],
    }
    assert timeline.seconds == 10
    assert timeline.busy_share == pytest.approx((5 + 8) / 20)


def test_threads_of_one_process_are_rows_of_their_own():
    timeline = timeline_of(
        tried("s[0]", 0, 4), tried("s[1]", 1, 3), tried("s[2]", 3, 5)
    )
    assert rows(timeline) == {
        ("a", 1): [("s[0]", 0, 4)],
        ("a", 2): [("s[1]", 1, 3), ("s[2]", 3, 5)],
    }


def test_pauses_between_drivers_are_left_out_and_rows_go_on():
    timeline = timeline_of(
        [event("begin", 0)],
        tried("s[0]", 1, 5),
        [event("begin", 1000)],
        tried("s[1]", 1002, 1004, pid=7),
        tried("s[2]", 1002, 1012, pid=8),
    )
    assert rows(timeline) == {
        ("a", 1): [("s[0]", 0, 4), ("s[1]", 4, 6)],
        ("a", 2): [("s[2]", 4, 14)],
    }
    assert timeline.continued == (4,)
    assert [w.seconds for w in timeline.workers] == [14, 10]


def test_lost_and_failed_tries_are_told_apart():
    timeline = timeline_of(
        tried("s[0]", 0, 2, ending="fail"),
        [event("start", 1, "s[1]", pid=2)],
        tried("s[1]", 5, 9),
        [event("start", 6, "s[2]", pid=3)],
    )
    endings = {s.task: s.ending for w in timeline.workers for s in w.spans[::-1]}
    assert endings == {"s[0]": "failed", "s[1]": "cut off", "s[2]": "cut off"}
    assert rows(timeline)["a", 2] == [("s[1]", 1, 5)]
    assert rows(timeline)["a", 3] == [("s[2]", 6, 9)]


def test_no_task_no_row():
    timeline = build_timeline([event("begin", 0)])
    assert timeline.workers == ()
    assert timeline.busy_share == 0


@pytest.mark.parametrize(
    ("hosts", "processes", "names"),
    [
        ("a", 2, ["worker 1", "worker 2"]),
        ("ab", 1, ["a 1", "b 1"]),
        ("ab", 20, ["a: 20", "b: 20"]),
    ],
)
def test_picture_names_workers_steps_and_units(hosts, processes, names):
    timeline = timeline_of(
        *(
            tried(f"{step}[{host}{pid}]", start, start + 200, pid, host)
            for host in hosts
            for pid in range(processes)
            for step, start in (("simulate_block", 0), ("evaluate", 200))
        ),
        tried("evaluate[x]", 400, 401, 0, "a", ending="fail"),
    )
    figure = worker_timeline(timeline)
    [axes] = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == names
    assert axes.get_xlabel() == "time, min"
    n = len(hosts) * processes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        *(f"simulate block ({n})", f"evaluate ({n + 1})", "no result")
    ]
    plt.close(figure)


@pytest.mark.parametrize("site", ["laptop", "laptop_htex"])
def test_section_on_a_real_run(tmp_path, campaign_on, site):
    import little_steps as steps

    with campaign_on(site) as campaign:
        square, once = (
            Task(step, "sim", "1") for step in (steps.square, steps.fail_once)
        )
        gather([campaign.submit(square, steps.Number(n, 0.05)) for n in range(4)])
        gather([campaign.submit(once, steps.Number(1))])
    [section] = describe_run(tmp_path / "run")
    told = r"5 tasks ran in 6 tries on \d+ workers? of 1 host in"
    assert re.match(told, section.text[0])
    [picture] = section.figures
    legend = picture.figure.axes[0].get_legend()
    assert "no result" in [text.get_text() for text in legend.get_texts()]
    total = section.tables[0].rows[-1]
    assert total[:2] == ["all", "6"]
    assert float(total[2]) >= 0.2
    plt.close(picture.figure)


def test_faults_and_decisions_are_told_with_their_causes(tmp_path):
    log = event_log(tmp_path, "driver")
    log({"event": "begin"})
    log({"event": "stages", "stages": {}})
    [section] = describe_run(tmp_path)
    assert section.text[1] == "Faults: none."
    log({"event": "retry", "task": "s[0]", "cause": "worker lost", "try": 1})
    log({"event": "failed", "task": "s[1]", "error": "ValueError('n')"})
    log({"event": "member failed", "task": "s[2]", "member": 5, "cause": "NaN"})
    log({"event": "decision", "decision": "stop", "reason": "error below 1 %"})
    close_event_logs(tmp_path)
    faults, decisions = describe_run(tmp_path)
    assert faults.text[1] == "Faults: 1 retry, 1 failed task, 1 failed member."
    assert faults.tables[1].rows == [
        ["s[0]", "ran again", "worker lost"],
        ["s[1]", "given up", "ValueError('n')"],
        ["member 5", "left out", "NaN"],
    ]
    assert decisions.tables[0].rows[0][1:] == ["stop", "error below 1 %"]
