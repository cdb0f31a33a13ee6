"""Finds a run and reads what its files say of it; nothing is ever written."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workflows.engine.files.run_folder import continue_command, read_run
from workflows.engine.watching.events import Tail, in_order
from workflows.engine.watching.run_state import Block, RunState, Stage, Training
from workflows.status.verdict import Verdict, judge

_N_CURVE = 50


def find_run(place: Path) -> Path:
    """The run at `place`, else the newest run in it or in a folder of it.

    Raises:
        FileNotFoundError: if there is none; names runs that exist.
    """
    if (place / "run.json").is_file():
        return place.resolve()
    runs = _runs_in(place)
    if runs:
        return runs[-1].resolve()
    known = ", ".join(str(run) for run in _runs_in(Path("runs"))[-5:]) or "none"
    raise FileNotFoundError(
        f"RUN must be the folder of a run, or hold runs; got {place}. "
        f"Runs here: {known}."
    )


class Reader:
    """One run as its files tell it; each `look` reads only what is new."""

    def __init__(self, folder: Path) -> None:
        """Raises ValueError if the run's `run.json` is damaged."""
        run = read_run(folder)
        if run is None:
            raise FileNotFoundError(f"{folder} must hold run.json; got none.")
        self.folder, self.run = folder, run
        self.state, self._finished = RunState(), set[str]()
        self._events = Tail(folder / "events", "*.jsonl")
        self._journal = Tail(folder, "journal.jsonl")

    def look(self) -> Verdict:
        """Take in what was written since the last look, and judge the run."""
        verdict_before = judge(self.folder, self._events.last, time.time())
        lines = self._journal_events()
        self.state.fold(in_order([*self._events.records(), *lines]))
        if verdict_before.is_over:  # what it wrote last has been read
            verdict = judge(self.folder, self._events.last, time.time())
        else:
            verdict = verdict_before
        if verdict.is_over:
            for stage in self.state.stages.values():
                stage.running.clear()
        return verdict

    @property
    def n_finished(self) -> int:
        """Tasks whose results are kept."""
        return len(self._finished)

    def now(self, verdict: Verdict) -> float:
        """The time by which rates count: the last event's, once the run is over."""
        is_over = verdict.is_over and self.state.last is not None
        return self.state.last or 0.0 if is_over else time.time()

    def continuation(self) -> str:
        """The command that continues the run."""
        return continue_command(self.run, self.folder)

    def _journal_events(self) -> list[dict[str, Any]]:
        """New lines of the journal; one may take back, by their keys, earlier ones."""
        found = []
        for line in self._journal.records():
            self._finished.difference_update(line.get("invalidated", ()))
            if {"key", "task", "finished"} <= line.keys():
                self._finished.add(line["key"])
                times = {"time": line["finished"], "task": line["task"]}
                found.append({"event": "journal", **times})
        return found

    def answer(self, verdict: Verdict) -> dict[str, Any]:
        """The object of `--json`; its keys are those that `--help` lists."""
        state, now = self.state, self.now(verdict)
        needs_help = verdict.status in ("failed", "killed")
        return {
            "workflow": self.run["workflow"],
            "run_id": self.run["run_id"],
            "folder": str(self.folder),
            "status": verdict.status,
            "cause": verdict.cause,
            "continue": self.continuation() if needs_help else None,
            "site": (self.run["continuations"] or [self.run])[-1]["site"],
            "begun": state.begun,
            "last_event": state.last,
            "finished_tasks": self.n_finished,
            "stages": {n: _stage(stage, now) for n, stage in state.stages.items()},
            "blocks": [_block(*item, now) for item in state.blocks.items()],
            "trainings": [_training(t) for t in state.trainings.values()],
            "moves": [
                {
                    "source": source,
                    "target": target,
                    "copies": moves.copies,
                    "bytes": moves.bytes,
                    "seconds": moves.seconds,
                }
                for (source, target), moves in state.moves.items()
            ],
            "retries": [dict(event) for event in state.retries],
            "failures": [dict(event) for event in state.failures],
            "decisions": [dict(event) for event in state.decisions],
        }


def _runs_in(place: Path) -> list[Path]:
    """The runs in a folder or in folders of it, the newest last."""
    files = [*place.glob("*/run.json"), *place.glob("*/*/run.json")]
    return [file.parent for file in sorted(files, key=lambda f: f.stat().st_mtime)]


def _stage(stage: Stage, now: float) -> Mapping[str, object]:
    return {
        "submitted": stage.submitted,
        "done": stage.n_done,
        "running": stage.n_running,
        "waiting": stage.n_open - stage.n_running,
        "failed": stage.failed,
        "reused": stage.reused,
        "tasks_per_s": stage.rate(now),
        "seconds_left": stage.seconds_left(now),
    }


def _block(name: tuple[str, str], block: Block, now: float) -> Mapping[str, object]:
    return {
        "executor": name[0],
        "block": name[1],
        "job": block.job,
        "state": block.state,
        "queue_wait_s": block.queue_wait(now),
    }


def _training(training: Training) -> Mapping[str, object]:
    last = training.last
    shown = ("training", "epoch", "epochs", "status", "seconds_left")
    epochs = sorted(training.curve)[-_N_CURVE:]
    return {
        **{name: last[name] for name in shown},
        "curve": last.get("curve"),
        "curve_epochs": epochs,
        "curve_values": [training.curve[epoch] for epoch in epochs],
    }
