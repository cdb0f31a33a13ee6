"""The storage tiers of a run: which they are where a task runs, and when they end.

The last tier of a run is its folder. Faster ones are facts of the site, part of no
task's key: the driver sends them beside the record, and `run_step` leaves them in the
environment, from where training processes inherit them too. Whether there are any
changes no result. On tiers that the driver sees it holds a file lock for as long as it
lives; the folder of a run whose driver is gone is removed by the next run.
"""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TextIO

from pydantic import TypeAdapter

from data.durable_files import StagingError
from data.ensemble_store import StoredFile
from data.staging import (
    TASK,
    Handle,
    Staging,
    Tier,
    UntrustedFolderError,
    open_own_file,
    require_private,
)
from data.staging.tiers import folder_of
from workflows.engine.watching.events import Log
from workflows.engine.watching.telling import tell

TIERS = "HEADRACE_TIERS"  # environment variable with the tiers of the site, as JSON
LAST = "file_system"

_TIERS = TypeAdapter(tuple[Tier, ...])


def tiers_to_json(tiers: Sequence[Tier]) -> str:
    """The tiers of a site as they travel with a task."""
    return _TIERS.dump_json(tuple(tiers)).decode()


def run_tiers(folder: Path, tiers: Sequence[Tier]) -> tuple[Tier, ...]:
    """The tiers of one run: a folder of its own on each fast one, then its folder."""
    name = f"{folder.name}-{hashlib.sha256(str(folder).encode()).hexdigest()[:8]}"
    fast = [
        replace(
            tier,
            root=f"{tier.root}/{name}",
            fallback=tier.fallback and f"{tier.fallback}/{name}",
        )
        for tier in tiers[:-1]
    ]
    return (*fast, Tier(LAST, str(folder), None, is_volatile=False, scope="site"))


def require_capacity(tiers: Sequence[Tier], n_bytes: int) -> None:
    """Refuse tiers on which a run could never work, before it begins.

    Raises:
        ValueError: a quota is below the largest file of the run.
    """
    for tier in tiers[:-1]:
        if tier.capacity_bytes is not None and tier.capacity_bytes < n_bytes:
            raise ValueError(
                f"tier {tier.name} of the site must hold the largest file of the run, "
                f"{n_bytes} bytes; its quota is {tier.capacity_bytes}. Raise it in the "
                "site file, or make the blocks smaller."
            )


@contextmanager
def fast_files(
    folder: Path, store: Path, log: Log
) -> Iterator[Callable[[StoredFile], int] | None]:
    """How a task opens files of a store on the fastest tier of its site.

    Yields:
        A function that copies a file to the fastest tier with room, unless it is there,
        and opens it; None where the run folder is the only tier.
    """
    tiers = _TIERS.validate_json(os.environ.get(TIERS, "[]"))
    trusted = _trusted(run_tiers(folder, tiers), log) if tiers else []
    if len(trusted) < 2:  # noqa: PLR2004  # the last one is the folder of the run
        yield None
        return
    with Staging(trusted, os.environ, log) as staging:

        def open_file(stored: StoredFile) -> int:
            key = (store / stored.name).relative_to(folder).as_posix()
            handle = Handle(key, stored.n_bytes, stored.crc32c)
            staging.promote(handle)
            return staging.open(handle)

        yield open_file


def log_written(log: Log, files: Sequence[StoredFile], seconds: float) -> None:
    """Note that a task has written files of a store into the run folder."""
    log(
        {
            "event": "moved",
            "key": files[0].name,
            "bytes": sum(file.n_bytes for file in files),
            "source": TASK,
            "target": LAST,
            "seconds": seconds,
        }
    )


def _trusted(tiers: Sequence[Tier], log: Log) -> list[Tier]:
    """The tiers without those that another user may have prepared."""
    trusted = []
    for tier in tiers[:-1]:
        try:
            require_private(folder_of(tier, os.environ)[0])
        except UntrustedFolderError as error:
            log({"event": "tier left out", "key": tier.name, "cause": str(error)})
            continue
        except (StagingError, OSError):
            pass  # what is missing here is said when the tier is opened
        trusted.append(tier)
    return [*trusted, tiers[-1]]


@contextmanager
def held_tiers(folder: Path, tiers: Sequence[Tier], log: Log) -> Iterator[None]:
    """Clear the fast tiers here of what dead runs left and, in the end, of this run.

    What has no copy below stays, for a continued run. Tiers that only tasks see, such
    as those of other nodes, end with their job.
    """
    with ExitStack() as stack:
        stack.callback(os.environ.pop, TIERS, None)  # left there by tasks in threads
        for tier in run_tiers(folder, tiers)[:-1]:
            # a task that needs a tier that is not here says so
            with suppress(StagingError, OSError):
                root, _ = folder_of(tier, os.environ)
                if not root.parent.parent.is_dir():
                    continue
                try:
                    stack.enter_context(_held(root, folder, log))
                except UntrustedFolderError as error:
                    tell(f"warning: tier {tier.name} is not used: {error}")
                    log(
                        {
                            "event": "tier left out",
                            "key": tier.name,
                            "cause": f"{error}",
                        }
                    )
        yield


@contextmanager
def _held(root: Path, folder: Path, log: Log) -> Iterator[None]:
    """The folder of a run on a tier, locked by its driver."""
    require_private(root)
    lock = root.with_name(f"{root.name}.driver")
    with _locked_by_driver(lock) as stream:
        require_private(root)  # another driver may have cleared it meanwhile
        stream.truncate(0)
        stream.write(str(folder))
        stream.flush()
        for other in root.parent.glob("*.driver"):
            _clear_if_abandoned(other, log)
        yield
    _clear_if_abandoned(lock, log)


@contextmanager
def _locked_by_driver(lock: Path) -> Iterator[TextIO]:
    """The lock file, shared-locked; anew where another driver has just removed it."""
    while True:
        descriptor = open_own_file(lock, os.O_RDWR | os.O_CREAT)
        with os.fdopen(descriptor, "r+") as stream:
            fcntl.flock(stream, fcntl.LOCK_SH)
            if _is_still(lock, stream):
                yield stream
                return


def _is_still(lock: Path, stream: TextIO) -> bool:
    """Whether an open file is the one that its path names."""
    try:
        return os.path.samestat(lock.lstat(), os.fstat(stream.fileno()))
    except FileNotFoundError:
        return False


def _clear_if_abandoned(lock: Path, log: Log) -> None:
    """Remove what a run has on a tier and below it, if nobody drives the run."""
    with (
        suppress(FileNotFoundError, BlockingIOError, UntrustedFolderError),
        os.fdopen(open_own_file(lock, os.O_RDWR)) as stream,
    ):
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not _is_still(lock, stream):
            return
        root, folder = lock.with_suffix(""), Path(stream.read())
        if root.exists():
            require_private(root)
        if folder.is_dir():
            upper = Tier("fast", str(root), None, is_volatile=True, scope="node")
            with Staging([upper, *run_tiers(folder, ())], os.environ, log) as staging:
                staging.evict()
            if any(p.is_file() and p.name != ".lock" for p in root.rglob("*")):
                return
        shutil.rmtree(root, ignore_errors=True)
        lock.unlink()
