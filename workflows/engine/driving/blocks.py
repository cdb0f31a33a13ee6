"""Notes when the blocks of a site, its batch jobs, wait, run and end.

Times are as fine as Parsl asks the scheduler, the provider's polling interval: every
five seconds on this computer, every minute on Slurm unless the site says otherwise.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from parsl.executors.base import ParslExecutor
from parsl.executors.status_handling import BlockProviderExecutor
from parsl.jobs.states import TERMINAL_STATES, JobState

from workflows.engine.watching.events import Log

SECONDS_BETWEEN_LOOKS = 0.5


@contextmanager
def watched_blocks(executors: Sequence[ParslExecutor], log: Log) -> Iterator[None]:
    """Log an event `block` at every change of state, the last ones when leaving.

    To be left after Parsl has ended the blocks.
    """
    having_blocks = [e for e in executors if isinstance(e, BlockProviderExecutor)]
    known: dict[tuple[str, str], JobState] = {}
    over = threading.Event()

    def watch() -> None:
        while not over.wait(SECONDS_BETWEEN_LOOKS):
            _log_changes(having_blocks, known, log)

    watcher = threading.Thread(target=watch, name="blocks", daemon=True)
    if having_blocks:
        watcher.start()
    try:
        yield
    finally:
        over.set()
        if having_blocks:
            watcher.join()
            _log_changes(having_blocks, known, log)


def _log_changes(
    executors: Sequence[BlockProviderExecutor],
    known: dict[tuple[str, str], JobState],
    log: Log,
) -> None:
    for executor in executors:
        for block, status in dict(executor.status_facade).items():
            name = executor.label, block
            if known.get(name) != status.state:
                known[name] = status.state
                log(
                    {
                        "event": "block",
                        "executor": executor.label,
                        "block": block,
                        "job": str(executor.blocks_to_job_id.get(block, "")),
                        "state": _word_for(status.state),
                        "outcome": status.state.name.lower(),
                    }
                )


def _word_for(state: JobState) -> str:
    if state in TERMINAL_STATES:
        return "ended"
    return "running" if state == JobState.RUNNING else "pending"
