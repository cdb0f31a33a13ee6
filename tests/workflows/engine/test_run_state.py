"""The state of a run follows from its events, whoever wrote them."""

import io

import pytest
from rich.console import Console

from workflows.engine.watching.events import Tail
from workflows.engine.watching.run_state import RunState
from workflows.engine.watching.run_view import duration, line, size, sparkline, tables

BEGIN = {"event": "begin", "time": 100.0, "site": "cluster"}


def stages(time, **counts):
    return {"event": "stages", "time": time, "stages": {"simulate": counts}}


def task(event, time, number):
    return {"event": event, "time": time, "task": f"simulate[{number}]"}


def block(time, state):
    names = {"executor": "cpu", "block": "0", "job": "4711"}
    return {"event": "block", "time": time, "state": state, **names}


def epoch(time, number, loss):
    return {
        "event": "epoch",
        "time": time,
        "training": "network",
        "epoch": number,
        "epochs": 5,
        "status": f"loss {loss}",
        "seconds_left": 30.0,
        "loss": loss,
        "curve": "loss",
    }


def folded(*events):
    state = RunState()
    state.fold([BEGIN, *events])
    return state


def test_open_tasks_run_or_wait_and_the_rate_tells_what_is_left():
    state = folded(
        *(task("start", 110.0, n) for n in range(3)),
        *(task("finish", 120.0, n) for n in range(2)),
        stages(120.0, submitted=10, done=2, reused=3),
    )
    stage = state.stages["simulate"]
    assert (stage.n_open, stage.n_running) == (5, 1)
    assert stage.rate(120.0) == 0.2
    assert stage.seconds_left(120.0) == 25.0


def test_no_time_is_left_to_tell_where_no_task_runs():
    done = task("start", 110.0, 0), task("finish", 112.0, 0)
    state = folded(*done, stages(112.0, submitted=2, done=1))
    assert state.stages["simulate"].rate(120.0) == 0.1
    assert state.stages["simulate"].seconds_left(120.0) is None


def test_rate_of_a_stage_that_is_over_stays():
    done = task("start", 110.0, 0), task("finish", 112.0, 0)
    state = folded(*done, stages(112.0, submitted=1, done=1))
    assert state.stages["simulate"].rate(999.0) == 0.5
    assert state.stages["simulate"].seconds_left(999.0) is None


def test_retried_task_counts_once():
    state = folded(
        stages(101.0, submitted=1),
        task("start", 102.0, 0),
        {**task("retry", 103.0, 0), "cause": "worker lost", "try": 1},
        task("start", 104.0, 0),
    )
    assert state.stages["simulate"].n_running == 1
    assert len(state.retries) == 1


def test_a_new_driver_counts_anew_and_keeps_the_curve():
    state = folded(
        stages(101.0, submitted=4),
        task("start", 102.0, 0),
        block(102.0, "pending"),
        epoch(103.0, 1, 2.0),
        {**BEGIN, "time": 200.0},
        epoch(201.0, 2, 1.0),
    )
    assert not state.stages
    assert not state.blocks
    assert state.trainings["network"].curve == {1: 2.0, 2: 1.0}


def test_training_of_a_killed_driver_does_not_run():
    state = folded(epoch(103.0, 1, 2.0), {**BEGIN, "time": 200.0})
    assert state.running_trainings() == []
    assert len(state.trainings) == 1


def test_queue_wait_is_from_submission_to_start():
    waiting = folded(block(110.0, "pending"))
    assert waiting.blocks["cpu", "0"].queue_wait(140.0) == 30.0
    assert "block cpu/0 pending for 30 s" in line(waiting, 140.0)
    running = folded(block(110.0, "pending"), block(150.0, "running"))
    assert running.blocks["cpu", "0"].queue_wait(999.0) == 40.0
    never = folded(block(110.0, "pending"), block(120.0, "ended"))
    assert never.blocks["cpu", "0"].queue_wait(999.0) == 10.0


def test_bytes_add_up_per_edge():
    copy = {"event": "moved", "key": "a", "source": "nvme", "target": "file_system"}
    copies = [{**copy, "time": t, "bytes": 500_000, "seconds": 0.5} for t in (1, 2)]
    moves = folded(*copies).moves["nvme", "file_system"]
    assert (moves.copies, moves.bytes, moves.seconds) == (2, 1_000_000, 1.0)


def test_tables_tell_everything_that_there_is():
    state = folded(
        stages(101.0, submitted=4, done=1),
        *(task("start", 120.0, n) for n in range(2)),
        block(110.0, "pending"),
        *(epoch(110.0 + n, n, 4.0 / n) for n in (1, 2, 4)),
        {
            "event": "moved",
            "time": 120.0,
            "key": "a",
            "bytes": 2_000_000,
            "source": "nvme",
            "target": "file_system",
            "seconds": 0.5,
        },
        {**task("retry", 121.0, 0), "cause": "worker lost", "try": 1},
        {"event": "decision", "time": 122.0, "decision": "stop", "reason": "error"},
    )
    screen = io.StringIO()
    Console(file=screen, width=100).print(tables(state, 130.0))
    for words in (
        *("simulate", "30 s", "4711", "pending"),
        "training network: epoch 4/5, loss 1.0, 30 s left; loss █▃▁ 1",
        "nvme -> file_system: 2 MB in 1 copy, 4 MB/s",
        "1 retry, the last of simulate[0]: worker lost",
        "decided: stop, since error",
    ):
        assert words in screen.getvalue()


def test_quantities_are_told_in_units_of_their_size():
    told = [duration(s) for s in (0.24, 9.96, 119.0, 600.0, 7500.0, None)]
    assert told == ["0.2 s", "10 s", "119 s", "10 min", "2 h 5 min", ""]
    assert [size(n) for n in (999, 1500, 2.5e12)] == ["999 B", "1.5 kB", "2.5 TB"]
    edges = (999_400, 999_700, 999_700_000, 999.7e9)
    assert [size(n) for n in edges] == ["999 kB", "1 MB", "1 GB", "0.9997 TB"]


def test_sparkline_spans_least_to_greatest_and_skips_what_is_not_finite():
    assert sparkline([0.0, 7.0, float("nan"), 3.5]) == "▁█▅"
    assert sparkline([2.0, 2.0]) == "▁▁"
    assert sparkline([]) == ""


def test_tail_gives_every_whole_line_once(tmp_path):
    tail, path = Tail(tmp_path, "*.jsonl"), tmp_path / "a.jsonl"
    assert tail.records() == []
    path.write_bytes(b'{"n": 1}\n{"n": 2}\n{"n"')
    assert [r["n"] for r in tail.records()] == [1, 2]
    assert tail.records() == []
    with path.open("ab") as stream:
        stream.write(b": 3}\nnonsense\n[4]\n")
    (tmp_path / "b.jsonl").write_bytes(b'{"n": 5}\n')
    assert [r["n"] for r in tail.records()] == [3, 5]
    assert Tail(tmp_path, "*.jsonl", skips_present=True).records() == []


MALFORMED = [
    {"event": "start"},
    {"event": "start", "task": 3},
    {"event": "epoch"},
    {"event": "epoch", "training": "n", "epoch": "x", "epochs": 2},
    {"event": "epoch", "training": "n", "epoch": 1, "epochs": 2},
    {"event": "block", "state": "running"},
    {"event": "stages", "stages": 4},
    {"event": "moved", "source": "a", "target": "b"},
    {"event": ["epoch"]},
]


@pytest.mark.parametrize("record", MALFORMED)
def test_an_event_that_lacks_what_it_should_say_is_left_out(record):
    state = RunState()
    state.fold([{"time": 1.0, **record}])
    assert state.last == 1.0
    assert state.trainings == {}
    screen = io.StringIO()
    Console(file=screen, width=100).print(tables(state, 2.0))
    assert line(state, 2.0) == ""


def test_trainings_of_one_label_have_curves_of_their_own():
    epoch = {"event": "epoch", "training": "unet", "status": "", "seconds_left": 0.0}
    epoch |= {"epochs": 2, "curve": "error"}
    state = RunState()
    for time, name, number, error in (
        (1.0, "unet_8", 1, 0.5),
        (2.0, "unet_16", 1, 0.3),
        (3.0, "unet_8", 2, 0.4),
        (4.0, "unet_8", 1, 0.2),  # a second stage
    ):
        place = {"time": time, "checkpoint": name, "epoch": number, "error": error}
        state.fold([{**epoch, **place}])
    curves = {name: t.curve for name, t in state.trainings.items()}
    assert curves == {"unet_8": {1: 0.2}, "unet_16": {1: 0.3}}
