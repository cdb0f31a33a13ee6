"""A running workflow: tasks go in, manifests come out, in the order of their inputs."""

import concurrent.futures
import json
import socket
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import parsl
from parsl.dataflow.dflow import DataFlowKernel
from parsl.dataflow.errors import PropagatedException
from parsl.dataflow.futures import AppFuture

from workflows.engine.driving.blocks import watched_blocks
from workflows.engine.driving.ensemble import Members, require_quorum
from workflows.engine.driving.journal import Journal, task_key
from workflows.engine.driving.parsl_setup import (
    RETRIES,
    opened_kernel,
    parsl_config,
    parsl_warnings_to,
    retry_cost,
)
from workflows.engine.driving.tasks import (
    Call,
    Task,
    name_of,
    outcome_of,
    record_to_json,
    run_step,
)
from workflows.engine.files.artefacts import Manifest
from workflows.engine.files.run_folder import retract_results
from workflows.engine.files.staging import held_tiers, tiers_to_json
from workflows.engine.sites.site import Site, SiteFile
from workflows.engine.watching.events import close_event_logs, event_log
from workflows.engine.watching.progress import Ending, Progress
from workflows.engine.watching.telling import tell


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
        self._tiers = tiers_to_json(site.tiers)
        self._journal, self._progress = journal, progress
        self._apps = {
            role: parsl.python_app(
                run_step, data_flow_kernel=kernel, executors=[label], cache=True
            )
            for role, label in site.roles.items()
        }
        self._count: Counter[str] = Counter()
        self._kernel, self._open = kernel, set[TaskFuture]()
        self._is_untouched, self._is_stopped = True, False

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
            time_limit_s=task.time_limit_s,
            tiers=self._tiers,
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
        if self._is_untouched:  # the first that no journal line answers
            retract_results(self.folder)
            self._is_untouched = False
        self._open.add(future)
        future.add_done_callback(self._open.discard)
        running = self._apps[task.role](call.to_json(), inputs)
        running.add_done_callback(
            partial(self._after_parsl, future, stage, call, inputs)
        )
        return future

    def gather_members(
        self, futures: Mapping[int, TaskFuture], seeds: Mapping[int, int], quorum: float
    ) -> Members:
        """The results of an ensemble's tasks, without those that cannot have one.

        A member whose task failed by what it computes, not by where, is recorded with
        seed and cause and left out; it would fail again. A failure of the machine that
        outlived its retries is raised: to leave that out would change the answer.

        Args:
            futures: one task per member.
            seeds: the seed of each member, for the record.
            quorum: the least share of members, 0 to 1, that must have a result.

        Raises:
            ValueError: as soon as the quorum is out of reach.
        """
        members: dict[Future[Manifest], int] = {f: m for m, f in futures.items()}
        failed: dict[int, str] = {}
        for future in concurrent.futures.as_completed(members):
            error, member = future.exception(), members[future]
            if error is None:
                continue
            if retry_cost(error) <= RETRIES:
                raise error
            failed[member] = cause = f"{type(error).__name__}: {error}"
            place = {"member": member, "seed": seeds[member], "cause": cause}
            self.log({"event": "member failed", **place})
            require_quorum(failed, len(futures), quorum)
        manifests = {m: f.result() for m, f in futures.items() if m not in failed}
        return Members(manifests, dict(sorted(failed.items())))

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
        running: AppFuture,
    ) -> None:
        error = running.exception()
        if error is None:
            manifest = outcome_of(json.loads(running.result())).manifest
            ending: Ending = "reused" if running.task_record["from_memo"] else "done"
            self._journal.after_commit(
                partial(self._announce, future, stage, manifest, ending)
            )
            return
        if self._is_stopped:
            return
        if isinstance(error, PropagatedException):
            cause = next(f for f in _futures(inputs) if f.done() and f.exception())
            error, future.path = cause.exception(), future.path + cause.path
        else:
            # for those who know none of Parsl's errors
            error.__dict__["is_deterministic"] = retry_cost(error) > RETRIES
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
        ending: Ending,
        failure: OSError | None,
    ) -> None:
        if self._is_stopped:
            return  # Parsl is closing and must not be asked to launch what follows
        if failure is None:
            self._progress.ended(stage, ending)
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
    has not started. Tasks that end meanwhile are still recorded. An interrupt waits for
    nothing: workers are ended, and threads, which cannot be, are left running.
    """
    with ExitStack() as stack:
        stack.callback(close_event_logs, folder)
        log = event_log(folder)
        log({"event": "begin", "site": site_file.site.name})
        stack.enter_context(parsl_warnings_to(folder / "parsl"))
        site = site_file.site
        stack.enter_context(held_tiers(folder, site.tiers, event_log(folder)))
        journal = Journal(folder / "journal.jsonl")
        stack.callback(journal.finish)
        _tell_of_damage(journal, folder)
        config = parsl_config(site_file, journal, folder)
        stack.enter_context(watched_blocks(config.executors, log))
        kernel = stack.enter_context(opened_kernel(config))
        stack.enter_context(progress)
        campaign = Campaign(folder, seed, site, journal, kernel, progress)
        try:
            yield campaign
        except BaseException:
            campaign.stop()
            raise
        campaign.wait()
        kernel.wait_for_current_tasks()


def _tell_of_damage(journal: Journal, folder: Path) -> None:
    if journal.damaged:
        lines = ", ".join(map(str, journal.damaged))
        tell(
            f"warning: {folder / 'journal.jsonl'} is damaged in line {lines}; a task "
            "whose record is lost is computed again"
        )
        event_log(folder)({"event": "journal damaged", "lines": journal.damaged})


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
