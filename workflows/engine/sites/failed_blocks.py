"""Why no worker of a site starts: the end of a wait that would last for ever."""

from pathlib import Path
from typing import Any

from parsl.jobs.states import JobState, JobStatus

NEVER_STARTED = 3


class LostExecutorError(Exception):
    """An executor can run nothing any more; not the fault of its tasks."""


def explain_failed_blocks(executor: Any, status: dict[str, JobStatus]) -> None:  # noqa: ANN401  # parsl's executors are untyped
    """Parsl block error handler: stop where workers do not start, and say why.

    A block never started if the scheduler refused it or its workers never reported; one
    that did start and then ended, for whatever reason, is replaced by the next. Stops
    when no block waits or runs and all of them, or the last three, never started.
    """
    blocks = sorted(status.items(), key=lambda item: int(item[0]))
    is_any_alive = any(not job.terminal for _, job in blocks)
    newest = [job for _, job in blocks[-NEVER_STARTED:]]
    if is_any_alive or not newest or not all(map(_never_started, newest)):
        return
    block, last = blocks[-1]
    tail = _stderr_of(executor, block).strip() or last.message or "no output"
    how = f"exit code {last.exit_code}" if last.exit_code else last.state.name
    executor.set_bad_state_and_fail_all(
        LostExecutorError(
            f"workers of executor {executor.label} must start; got {how}. Their output "
            f"ended in:\n{tail[-1000:]}"
        )
    )


def _never_started(job: JobStatus) -> bool:
    """Parsl calls a job without workers missing, and says of one refused why."""
    is_refused = job.state == JobState.FAILED and bool(job.message)
    return is_refused or bool(job.state == JobState.MISSING)


def _stderr_of(executor: Any, block: str) -> str:  # noqa: ANN401  # as above
    """What a block wrote to its standard error; not every scheduler says where."""
    script_dir = getattr(executor.provider, "script_dir", None)
    if not script_dir:
        return ""
    names = f"parsl.{executor.label}.block-{block}.*err"
    paths = sorted(Path(script_dir).glob(names))
    return paths[-1].read_text(errors="replace") if paths else ""
