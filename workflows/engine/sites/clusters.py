"""What the site files of batch clusters share: settings, schedulers, worker pools.

Every cluster site reads the same optional environment variables:

- `HEADRACE_ACCOUNT`: account or project to charge; most sites need it
- `HEADRACE_ADDRESS`: IP address or interface where nodes reach the driver
- `HEADRACE_PARTITION`, `HEADRACE_QOS`: partition and quality of service (Slurm), or
  `HEADRACE_QUEUE` (LSF)
- `HEADRACE_NODES`, `HEADRACE_BLOCKS`: nodes of a job, jobs at a time
- `HEADRACE_WALLTIME`: of a job, HH:MM:SS
- `HEADRACE_WORKERS`: workers on a node
- `HEADRACE_SCHEDULER_OPTIONS`: further directives, one a line, as `#SBATCH ...`
- `HEADRACE_WORKER_INIT`: shell commands before the workers, as `module load ...`
- `HEADRACE_POLL_S`: seconds between looks at the queue, and between heartbeats

A driver listens on one address only; a real cluster needs that of an interface that
its compute nodes reach, which the site file names.
"""

import ipaddress
import os
import re
import socket
import time
from typing import Any

import psutil
from parsl.executors import HighThroughputExecutor
from parsl.providers import LocalProvider, LSFProvider, SlurmProvider
from parsl.providers.cluster_provider import ClusterProvider

from workflows.engine.sites.failed_blocks import explain_failed_blocks
from workflows.engine.sites.site import Site, python_commands, worker_environment

ACCOUNT = "account or project to charge, as m1234"

HEARTBEATS_LOST = 10
SECONDS_AFTER_REFUSAL = 60
_SUBMISSIONS = ("sbatch ", "bsub ")


class LocalBlocks(LocalProvider):
    """Workers on this computer, looked at every second."""

    status_polling_interval = 1


class _Scheduler(ClusterProvider):
    """Says why a job is refused; below Parsl's providers, whose `super()` finds it."""

    def execute_wait(
        self, cmd: str, timeout: int | None = None
    ) -> tuple[int, str, str]:
        """Run a command of the scheduler; Parsl drops what a refused `bsub` says."""
        code, output, error = super().execute_wait(cmd, timeout)  # type: ignore[no-untyped-call]  # parsl
        if code != 0 and cmd.startswith(_SUBMISSIONS):
            said = f"{error}{output}".strip() or "nothing"
            program, _, _ = cmd.partition(" ")
            raise RuntimeError(f"{program} must take the job; it said: {said}")
        return code, output, error


class WorkerPool(HighThroughputExecutor):
    """Asks a scheduler that refused a job for another only after a minute.

    Parsl asks again at once, several times a second, for as long as tasks wait.
    """

    _not_before = 0.0

    def scale_out_facade(self, n: int) -> list[str]:
        """Submit jobs, unless one was refused just now; the blocks of those taken."""
        if time.monotonic() < self._not_before:
            return []
        blocks: list[str] = super().scale_out_facade(n)
        if len(blocks) < n:
            self._not_before = time.monotonic() + SECONDS_AFTER_REFUSAL
        return blocks


class SlurmBlocks(SlurmProvider, _Scheduler):
    """Slurm jobs. Its constructor runs `sacct`: build it in `executors()` only."""

    status_polling_interval = property(lambda _: poll_seconds())  # Parsl: a minute


class LsfBlocks(LSFProvider, _Scheduler):
    """LSF jobs."""

    status_polling_interval = property(lambda _: poll_seconds())  # Parsl: a minute


def block_options(
    *, nodes: int, walltime: str = "00:30:00", worker_init: str = ""
) -> dict[str, Any]:
    """Provider options of one job: its size, its time, what runs before its workers."""
    walltime = text("HEADRACE_WALLTIME", walltime)
    lines = (text("HEADRACE_WORKER_INIT"), worker_init, worker_environment())
    seconds_of(walltime)  # refuses another form
    return {
        "nodes_per_block": whole_number("HEADRACE_NODES", nodes),
        "init_blocks": 1,
        "max_blocks": whole_number("HEADRACE_BLOCKS", 1),
        "walltime": walltime,
        "worker_init": "\n".join(filter(None, lines)),
    }


def worker_pool(
    label: str,
    site: Site,
    provider: ClusterProvider,
    *,
    workers_per_node: int,
    gpus_per_node: int = 0,
) -> HighThroughputExecutor:
    """Worker processes in the jobs of a provider, on one address of the driver.

    Workers take no new task shortly before the end of their job. With GPUs there is
    one worker for each, which sees no other.
    """
    poll = poll_seconds()
    return WorkerPool(
        label=label,
        address=address_of(site.address),
        max_workers_per_node=whole_number("HEADRACE_WORKERS", workers_per_node),
        cores_per_worker=0.01,  # the cap above counts, whatever cores Parsl finds
        available_accelerators=gpus_per_node,
        heartbeat_period=poll,
        heartbeat_threshold=HEARTBEATS_LOST * poll,
        drain_period=drain_period(provider.walltime),
        block_error_handler=explain_failed_blocks,
        provider=provider,
        **python_commands(),
    )


def drain_period(walltime: str) -> int:
    """Seconds after which workers take no new task.

    The rest of a job, a fifth of its time and 10 minutes at most, is for what runs.
    """
    seconds = seconds_of(walltime)
    return seconds - min(seconds // 5, 600)


def seconds_of(walltime: str) -> int:
    """Seconds of HH:MM:SS.

    Raises:
        ValueError: if the text has another form, or is no time at all.
    """
    match = re.fullmatch(r"(\d+):([0-5]\d):([0-5]\d)", walltime)
    hours, minutes, seconds = map(int, match.groups()) if match else (0, 0, 0)
    if not hours and not minutes:
        raise ValueError(
            "HEADRACE_WALLTIME must be HH:MM:SS and at least a minute; got "
            f"{walltime!r}."
        )
    return 3600 * hours + 60 * minutes + seconds


def address_of(address_or_interface: str) -> str:
    """The IP address of a network interface of this machine, or the address itself.

    Raises:
        ValueError: if there is no such interface here, or for a wildcard address.
    """
    try:
        if not ipaddress.ip_address(address_or_interface).is_unspecified:
            return address_or_interface
    except ValueError:
        interfaces = psutil.net_if_addrs()
        for address in interfaces.get(address_or_interface, []):
            if address.family == socket.AF_INET:
                return str(address.address)
        known = f"an IP address or one of the interfaces {', '.join(interfaces)}"
    else:
        known = "the one address that nodes reach"
    raise ValueError(
        f"the address of the driver must be {known}; got {address_or_interface}. "
        "Set HEADRACE_ADDRESS."
    )


def text(variable: str, default: str = "") -> str:
    """An environment variable; one that is empty counts as not set."""
    return os.environ.get(variable) or default


def whole_number(variable: str, default: int) -> int:
    """An environment variable that counts something.

    Raises:
        ValueError: if it is no whole number of at least 1.
    """
    value = text(variable, str(default))
    if not value.isdecimal() or int(value) < 1:
        raise ValueError(f"{variable} must be a whole number >= 1; got {value!r}.")
    return int(value)


def poll_seconds() -> int:
    """Seconds between looks at the queue, from `HEADRACE_POLL_S`."""
    return whole_number("HEADRACE_POLL_S", 10)


def choice(variable: str, default: str, *others: str) -> str:
    """An environment variable that takes one of a few values.

    Raises:
        ValueError: names the variable and its known values.
    """
    value, known = text(variable, default), (default, *others)
    if value not in known:
        raise ValueError(f"{variable} must be {' or '.join(known)}; got {value!r}.")
    return value
