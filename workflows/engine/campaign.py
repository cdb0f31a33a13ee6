"""A running workflow: tasks go in, manifests come out, in the order of their inputs.

The engine builds the one `parsl.Config` around the executors of the site, so that
threads, local processes and clusters give the same results and the same errors.
"""

import concurrent.futures
import logging
import socket
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import parsl
from parsl.dataflow.dependency_resolvers import DEEP_DEPENDENCY_RESOLVER
from parsl.dataflow.dflow import DataFlowKernel
from parsl.dataflow.errors import PropagatedException
from parsl.executors.errors import BadStateException
from parsl.executors.high_throughput.errors import ManagerLost, WorkerLost
from parsl.jobs.states import JobState, JobStatus

from workflows.engine.artefacts import Manifest
from workflows.engine.events import close_event_logs, event_log
from workflows.engine.journal import Journal, task_key
from workflows.engine.progress import Progress
from workflows.engine.site import Site, SiteFile
from workflows.engine.tasks import Call, Task, name_of, record_to_json, run_step

RETRIES = 2

_PERMANENT_OS_ERRORS = (
    FileNotFoundError,
    FileExistsError,
    PermissionError,
    IsADirectoryError,
    NotADirectoryError,
)


class TaskFuture(Future[Manifest]):
    """The manifest-to-be of one task; may be an input of other tasks.

    Resolved only when the task's line in the journal is durable. A task whose input
    failed fails with the very same exception.

    Attributes:
        path: labels from this task down to the one that failed.
    """

    def __init__(self, label: str) -> None:
        super().__init__()
        self.path: tuple[str, ...] = (label,)


Input = Manifest | TaskFuture | Sequence[Manifest | TaskFuture]


class Campaign:
    """The open run: its folder, its seed, its site, and a way to submit tasks."""

    def __init__(
        self,
        folder: Path,
        seed: int,
        site: Site,
        journal: Journal,
        kernel: DataFlowKernel,
        progress: Progress,
    ) -> None:
        self.folder, self.seed, self.site = folder, seed, site
        self.log = event_log(folder)
        self._journal, self._progress = journal, progress
        self._apps = {
            role: parsl.python_app(
                run_step, data_flow_kernel=kernel, executors=[label], cache=True
            )
            for role, label in site.roles.items()
        }
        self._count: Counter[str] = Counter()
        self._kernel, self._open = kernel, set[TaskFuture]()
        self._is_stopped = False

    def submit(self, task: Task, record: object, **inputs: Input) -> TaskFuture:
        """Run a task when its inputs are there, unless the journal holds its result.

        Args:
            task: the step with its role and version.
            record: frozen dataclass or pydantic model of JSON values, paths relative to
                the run folder.
            inputs: manifests of earlier tasks, or their futures, alone or in lists; the
                step gets them by these names.
        """
        stage = task.step.__name__
        label = f"{stage}[{self._count[stage]}]"
        self._count[stage] += 1
        call = Call(
            label=label,
            step=name_of(task.step),
            version=task.version,
            record_type=name_of(type(record)),
            record=record_to_json(record),
            seed=self.seed,
            folder=str(self.folder),
        )
        future = TaskFuture(label)
        self._progress.submitted(stage)
        known = {name: _known(value) for name, value in inputs.items()}
        if None not in known.values():
            outcome = self._journal.lookup(task_key(call, known))
            if outcome is not None:
                self.log({"event": "reuse", "task": label})
                self._progress.ended(stage, "reused")
                future.set_result(outcome.manifest)
                return future
        self._open.add(future)
        future.add_done_callback(self._open.discard)
        running = self._apps[task.role](call, inputs)
        running.add_done_callback(
            partial(self._after_parsl, future, stage, call, inputs)
        )
        return future

    def wait(self) -> None:
        """Wait until every task has ended, one way or the other."""
        concurrent.futures.wait(set(self._open))

    def stop(self) -> None:
        """Start no further task; those that run are still recorded, not announced.

        Parsl's pool of threads would run all that waits for a thread.
        """
        self._is_stopped = True
        for executor in self._kernel.executors.values():
            if isinstance(executor, parsl.ThreadPoolExecutor):
                executor.executor.shutdown(wait=False, cancel_futures=True)

    def _after_parsl(
        self,
        future: TaskFuture,
        stage: str,
        call: Call,
        inputs: Mapping[str, Input],
        running: Future[Any],
    ) -> None:
        error = running.exception()
        if error is None:
            announce = partial(self._announce, future, stage, running.result().manifest)
            self._journal.after_commit(announce)
            return
        if self._is_stopped:
            return
        if isinstance(error, PropagatedException):
            cause = next(f for f in _futures(inputs) if f.done() and f.exception())
            error, future.path = cause.exception(), future.path + cause.path
        else:
            error.add_note(f"in task {call.label} of {call.step}: {call.record}")
            place = {"host": socket.gethostname(), "error": repr(error)}
            self.log({"event": "failed", "task": call.label, **place})
        self._progress.ended(stage, "failed")
        future.set_exception(error)

    def _announce(
        self,
        future: TaskFuture,
        stage: str,
        manifest: Manifest,
        failure: OSError | None,
    ) -> None:
        if self._is_stopped:
            return  # Parsl is closing and must not be asked to launch what follows
        if failure is None:
            self._progress.ended(stage, "done")
            future.set_result(manifest)
        else:
            self._progress.ended(stage, "failed")
            future.set_exception(failure)


def gather(futures: Sequence[TaskFuture]) -> list[Manifest]:
    """The manifests in the order of the futures; a failure is raised at once."""
    done, _ = concurrent.futures.wait(futures, return_when="FIRST_EXCEPTION")
    for future in futures:
        error = future.exception() if future in done else None
        if error is not None:
            if len(future.path) > 1:
                error.add_note(f"path: {' <- '.join(future.path)}")
            raise error
    return [future.result() for future in futures]


@contextmanager
def open_campaign(
    folder: Path, seed: int, site_file: SiteFile, progress: Progress
) -> Iterator[Campaign]:
    """Start the site's executors around a run folder, and end them in order.

    Leaving normally waits for what was submitted; leaving by an exception drops what
    has not started. Tasks that end meanwhile are still recorded.
    """
    with ExitStack() as stack:
        stack.callback(close_event_logs, folder)
        stack.enter_context(_parsl_warnings_to(folder / "parsl"))
        journal = Journal(folder / "journal.jsonl")
        stack.callback(journal.finish)
        config = parsl_config(site_file, journal, folder)
        kernel = stack.enter_context(parsl.load(config))
        stack.enter_context(progress)
        campaign = Campaign(folder, seed, site_file.site, journal, kernel, progress)
        try:
            yield campaign
        except BaseException:
            campaign.stop()
            raise
        campaign.wait()


def parsl_config(site_file: SiteFile, journal: Journal, folder: Path) -> parsl.Config:
    """A fresh Parsl configuration; each serves one load only.

    Raises:
        ValueError: if a role of the site names no executor, or if Parsl's unquoted
            shell commands could not start workers in the folder.
    """
    executors = site_file.executors()
    has_workers = any(hasattr(executor, "provider") for executor in executors)
    if has_workers and len(str(folder).split()) > 1:
        raise ValueError(
            f"the run folder must have no spaces in its path on site "
            f"{site_file.site.name}; got {folder}. Choose another --run-dir."
        )
    labels = {executor.label for executor in executors}
    if not set(site_file.site.roles.values()) <= labels:
        raise ValueError(
            f"SITE.roles of {site_file.path} must name executors of executors(), "
            f"{', '.join(sorted(labels))}; got {dict(site_file.site.roles)}."
        )
    return parsl.Config(
        executors=executors,
        memoizer=journal,
        dependency_resolver=DEEP_DEPENDENCY_RESOLVER,
        exit_mode="wait",
        retries=RETRIES,
        retry_handler=retry_cost,
        strategy_period=0.5,  # the first tick starts the workers
        usage_tracking=0,
        run_dir=str(folder / "parsl"),
        initialize_logging=False,
    )


def retry_cost(error: BaseException, _task: object) -> int:
    """What a failure costs of the `RETRIES`: transient 1, deterministic all at once."""
    if isinstance(error, PropagatedException):
        return 0  # never retried; the root cause has been counted where it arose
    if isinstance(error, WorkerLost | ManagerLost | BadStateException):
        return 1
    if isinstance(error, OSError) and not isinstance(error, _PERMANENT_OS_ERRORS):
        return 1  # full or unreachable storage; a missing file stays missing
    return RETRIES + 1


def explain_failed_blocks(executor: Any, status: dict[str, JobStatus]) -> None:  # noqa: ANN401  # parsl's executors are untyped
    """Parsl block error handler: stop when every block failed, and show its stderr."""
    states = [job.state for job in status.values()]
    if not states or not all(s in (JobState.FAILED, JobState.MISSING) for s in states):
        return
    last = list(status.values())[-1]
    stderr = (last.stderr_summary or last.message or "no output").strip()
    executor.set_bad_state_and_fail_all(
        RuntimeError(
            f"workers of executor {executor.label} must start; got exit code "
            f"{last.exit_code}. Their output ended in:\n{stderr[-1000:]}"
        )
    )


def _known(value: Input) -> Any:  # noqa: ANN401  # the shape of `value`, resolved
    """The manifests themselves if all are there, else None."""
    if isinstance(value, Manifest):
        return value
    if isinstance(value, TaskFuture):
        is_there = value.done() and value.exception() is None
        return value.result() if is_there else None
    known = [_known(item) for item in value]
    return None if None in known else known


def _futures(inputs: Mapping[str, Input]) -> Iterator[TaskFuture]:
    for value in inputs.values():
        items = [value] if isinstance(value, Manifest | TaskFuture) else value
        yield from (item for item in items if isinstance(item, TaskFuture))


@contextmanager
def _parsl_warnings_to(folder: Path) -> Iterator[None]:
    """Keep Parsl's own messages off the screen, in a file of the run."""
    folder.mkdir(parents=True, exist_ok=True)
    logger, handler = logging.getLogger("parsl"), logging.FileHandler(folder / "log")
    handler.setLevel(logging.WARNING)
    was_propagating, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = was_propagating
        handler.close()
