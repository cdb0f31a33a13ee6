"""Parsl around the executors of a site: its one configuration, its start and its end.

Threads, local processes and clusters so give the same results and the same errors.
"""

import atexit
import logging
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import parsl
from parsl.dataflow.dependency_resolvers import DEEP_DEPENDENCY_RESOLVER
from parsl.dataflow.dflow import DataFlowKernel
from parsl.dataflow.errors import PropagatedException
from parsl.dataflow.taskrecord import TaskRecord
from parsl.executors.errors import BadStateException
from parsl.executors.high_throughput.errors import ManagerLost, WorkerLost

from data.failures import is_permanent
from workflows.engine.driving.journal import Journal
from workflows.engine.driving.tasks import call_of
from workflows.engine.sites.failed_blocks import LostExecutorError
from workflows.engine.sites.site import (
    SiteFile,
    require_environment,
    require_plain_path,
)
from workflows.engine.watching.events import Log, event_log

RETRIES = 2
SECONDS_BETWEEN_LOOKS = 0.5  # at the interchanges


_LOST_PLACES = (WorkerLost, ManagerLost, BadStateException, LostExecutorError)


@contextmanager
def opened_kernel(config: parsl.Config) -> Iterator[DataFlowKernel]:
    """Parsl's kernel, closed in order, or by force where that would wait for ever."""
    kernel = parsl.load(config)
    is_over = threading.Event()
    watch = threading.Thread(target=_watch, args=(kernel, is_over), daemon=True)
    watch.start()
    try:
        try:
            yield kernel
        finally:
            is_over.set()
            watch.join()
    except KeyboardInterrupt:
        _end_workers(kernel)
        raise
    except Exception:
        _close(kernel)
        raise
    _close(kernel)


def _close(kernel: DataFlowKernel) -> None:
    if not any(_lost_interchanges(kernel)):
        kernel.cleanup()
        return
    _end_workers(kernel)
    atexit.unregister(kernel.atexit_cleanup)  # it would ask the lost one, and wait


def _watch(kernel: DataFlowKernel, is_over: threading.Event) -> None:
    """Fail the tasks of an executor whose interchange is gone; Parsl would wait."""
    known = set[str]()
    while not is_over.wait(SECONDS_BETWEEN_LOOKS):
        for executor in _lost_interchanges(kernel):
            if executor.label in known:
                continue
            known.add(executor.label)
            code = executor.interchange_proc.returncode
            executor.set_bad_state_and_fail_all(
                LostExecutorError(
                    f"the interchange of executor {executor.label} must run; it ended "
                    f"with code {code} (negative: by that signal)."
                )
            )


def _lost_interchanges(kernel: DataFlowKernel) -> list[Any]:
    executors: Iterable[Any] = kernel.executors.values()  # of unlike classes
    processes = ((e, getattr(e, "interchange_proc", None)) for e in executors)
    return [e for e, process in processes if process and process.poll() is not None]


def _end_workers(kernel: DataFlowKernel) -> None:
    """End what runs outside this process without asking it.

    Parsl's own way asks the interchange, which a signal may have ended already, and
    waits for the tasks of thread pools.
    """
    executors: Iterable[Any] = kernel.executors.values()  # of unlike classes
    for executor in executors:
        if getattr(executor, "provider", None):
            executor.provider.cancel(list(executor.blocks_to_job_id.values()))
        if getattr(executor, "interchange_proc", None):
            executor.interchange_proc.kill()


def parsl_config(site_file: SiteFile, journal: Journal, folder: Path) -> parsl.Config:
    """A fresh Parsl configuration; each serves one load only.

    Raises:
        ValueError: if the site needs what the environment lacks, if a role names no
            executor, or if Parsl's unquoted shell commands could not start workers in
            the folder.
    """
    require_environment(site_file.site)
    require_plain_path(site_file, folder)
    executors = site_file.executors()
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
        retries=RETRIES,
        retry_handler=partial(_cost_recorded, event_log(folder)),
        strategy_period=0.1,  # the first tick starts the workers
        usage_tracking=0,
        run_dir=str(folder / "parsl"),
        initialize_logging=False,
    )


def retry_cost(error: BaseException) -> int:
    """What a failure costs of the `RETRIES`: transient 1, deterministic all at once."""
    if isinstance(error, PropagatedException):
        return 0  # never retried; the root cause has been counted where it arose
    is_final = is_permanent(error) and not isinstance(error, _LOST_PLACES)
    return RETRIES + 1 if is_final else 1


def _cost_recorded(log: Log, error: BaseException, task: TaskRecord) -> int:
    """Parsl's retry handler: the cost, and an event if there is another try.

    What it raised would take the place of the error.
    """
    cost = retry_cost(error)
    if 0 < cost <= RETRIES - task["fail_cost"]:
        label, cause = (
            call_of(task["args"][0]).label,
            f"{type(error).__name__}: {error}",
        )
        tries = task["fail_count"] + 1
        log({"event": "retry", "task": label, "cause": cause, "try": tries})
    return cost


@contextmanager
def parsl_warnings_to(folder: Path) -> Iterator[None]:
    """Keep Parsl's own messages off the screen, in a file of the run."""
    folder.mkdir(parents=True, exist_ok=True)
    logger, handler = logging.getLogger("parsl"), _QuietHandler(folder / "log")
    handler.setLevel(logging.WARNING)
    was_propagating, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = was_propagating
        with suppress(OSError):
            handler.close()


class _QuietHandler(logging.FileHandler):
    """A log that a full disk shortens; the run says itself that the disk is full."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # logging
        """Say nothing."""
