"""Progress: what is counted, and what is said in a line."""

import io

from rich.console import Console

from workflows.engine.progress import Progress


def counted(console):
    progress = Progress(console)
    with progress:
        for _ in range(4):
            progress.submitted("simulate")
        progress.ended("simulate", "done")
        progress.ended("simulate", "reused")
        progress.ended("simulate", "failed")
    return progress


def test_line_and_summary_count_every_ending():
    progress = counted(Console(file=io.StringIO()))
    assert progress.line() == "simulate 2/4 (1 reused, 1 failed)"
    assert progress.summary().startswith("1 tasks computed, 1 reused, 1 failed in ")


def test_terminal_shows_a_table():
    screen = io.StringIO()
    counted(Console(file=screen, force_terminal=True, width=100))
    assert "simulate" in screen.getvalue()
    assert "tasks/s" in screen.getvalue()
