"""Progress: what is counted, and what is said in a line."""

import io
import re

from rich.console import Console

from workflows.engine.watching.events import close_event_logs, event_log, read_events
from workflows.engine.watching.progress import Progress


def counted(console, folder):
    progress = Progress(console, folder)
    with progress:
        for _ in range(4):
            progress.submitted("simulate")
        progress.ended("simulate", "done")
        progress.ended("simulate", "reused")
        progress.ended("simulate", "failed")
    return progress


def test_line_and_summary_count_every_ending(tmp_path):
    progress = counted(Console(file=io.StringIO()), tmp_path)
    assert progress.line() == "simulate 2/4 (1 reused, 1 failed)"
    assert progress.summary().startswith("1 tasks computed, 1 reused, 1 failed in ")


def test_counts_are_among_the_events_once_told(tmp_path):
    progress = counted(Console(file=io.StringIO()), tmp_path)
    progress.look()
    [event] = read_events(tmp_path)
    counts = {"submitted": 4, "done": 1, "reused": 1, "failed": 1}
    assert event["stages"] == {"simulate": counts}


def test_terminal_shows_a_table(tmp_path):
    screen = io.StringIO()
    counted(Console(file=screen, force_terminal=True, width=100), tmp_path)
    assert re.search(r"simulate +1 +0 +1 +1 +1", screen.getvalue())
    assert "tasks/s" in screen.getvalue()


def test_a_running_training_is_told_with_its_time_left(tmp_path):
    epoch = {"event": "epoch", "training": "sampler", "status": "loss 2", "epochs": 3}
    log = event_log(tmp_path, "rank")
    log({**epoch, "training": "of an earlier driver", "epoch": 1, "seconds_left": 9.0})
    progress = Progress(Console(file=io.StringIO()), tmp_path)
    log({**epoch, "epoch": 1, "seconds_left": 20.4})
    log({"event": "other"})
    progress.look()
    assert progress.line() == "training sampler: epoch 1/3, loss 2, 20 s left"
    log({**epoch, "epoch": 3, "seconds_left": 0.0})
    progress.look()
    assert progress.line() == ""
    close_event_logs(tmp_path)
