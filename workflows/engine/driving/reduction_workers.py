"""dask.distributed for reductions over ensembles, inside the allocation of a cluster.

While the context is open, dask computes on worker processes. They and their scheduler
end with it, and with this process if that is killed; workers on other nodes then end
when they miss the scheduler. They talk over TLS with a key that is made for them alone,
as whoever may talk to a dask process may run code there, and listen on the loopback
address unless an interface is named. Needs the extra `cluster`.
"""

import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from data.processes import Process, end_of_log, start

if TYPE_CHECKING:
    from distributed import Client

_LOOPBACK = "127.0.0.1"
_KEY = "key.pem"
_POLL_S = 0.02
_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    # a web server starts in any case: on the loopback address, and without pages
    "DASK_DISTRIBUTED__SCHEDULER__HTTP__ROUTES": "[]",
    "DASK_DISTRIBUTED__WORKER__HTTP__ROUTES": "[]",
}


@contextmanager
def reduction_workers(
    folder: Path,
    n_workers: int,
    *,
    launch_prefix: Sequence[str] = (),
    interface: str | None = None,
    patience_s: float = 120.0,
) -> Iterator[None]:
    """Start a scheduler and workers; dask in this process uses them until the end.

    Args:
        folder: for logs, the connection's key and spilled data; seen by all nodes. It
            must not exist; it is removed at the end and kept after a failure, but for
            the key.
        n_workers: of one thread each.
        launch_prefix: words that start their command on all nodes, n_workers times in
            all, such as `srun -n 64` (`Site.rank_launch_prefix`); without it they are
            started here.
        interface: network between the nodes, such as ib0.
        patience_s: for all workers to report, and for those that miss their scheduler.

    Raises:
        ValueError: if there is no worker.
        FileExistsError: if the folder exists.
        ModuleNotFoundError: if the extra `cluster` is not installed.
        RuntimeError: if a process ends or workers are missing after the patience; with
            the end of its log.
    """
    if n_workers < 1:
        raise ValueError(f"n_workers must be at least 1; got {n_workers}.")
    credentials, folder = _new_credentials(), folder.absolute()
    folder.mkdir(parents=True, mode=0o700)
    key = folder / _KEY
    try:
        with ExitStack() as stack:
            key.touch(mode=0o600)
            key.write_text(credentials)
            place = ["--interface", interface] if interface else ["--host", _LOOPBACK]
            place += ["--protocol", "tls", "--tls-ca-file", str(key)]
            place += ["--tls-cert", str(key), "--tls-key", str(key)]
            cluster = _Cluster(folder, place, stack)
            client = cluster.start(n_workers, launch_prefix, patience_s)
            stack.callback(_shut_down, client)
            yield
    finally:
        key.unlink(missing_ok=True)
    shutil.rmtree(folder)


class _Cluster:
    """The processes of one cluster."""

    def __init__(self, folder: Path, place: list[str], stack: ExitStack) -> None:
        self._folder, self._place, self._stack = folder, place, stack
        self._processes: list[Process] = []
        self._file = folder / "scheduler.json"

    def start(
        self, n_workers: int, launch_prefix: Sequence[str], patience_s: float
    ) -> "Client":
        """All processes; returns a client once all workers have reported."""
        from distributed import Client
        from distributed.security import Security

        deadline = time.monotonic() + patience_s
        contact = ["--scheduler-file", str(self._file)]
        self._start("scheduler", ["dask_scheduler", "--port", "0", *contact])
        words = ["dask_worker", "--nthreads", "1", "--no-nanny", *contact]
        words += ["--local-directory", str(self._folder / "spilled")]
        words += ["--death-timeout", f"{patience_s:g}"]
        self._start("worker", words, launch_prefix, n_workers)
        self._await(self._file.exists, "a scheduler", deadline)
        key = str(self._folder / _KEY)
        security = Security(
            require_encryption=True,
            tls_ca_file=key,
            tls_client_cert=key,
            tls_client_key=key,
        )
        client = Client(scheduler_file=str(self._file), security=security)
        self._stack.callback(client.close)

        def are_all_there() -> bool:
            return len(client.nthreads()) >= n_workers

        self._await(are_all_there, f"{n_workers} workers", deadline)
        return client

    def _start(
        self, name: str, words: list[str], prefix: Sequence[str] = (), n: int = 1
    ) -> None:
        module, *options = words
        no_page = ["--no-dashboard", "--dashboard-address", f"{_LOOPBACK}:0"]
        command = [sys.executable, "-m", f"distributed.cli.{module}"]
        started = start(
            [*command, *options, *self._place, *no_page],
            self._folder / f"{name}.log",
            folder=self._folder,
            variables=_ENVIRONMENT,
            prefix=prefix,
            n=n,
        )
        self._processes += map(self._stack.enter_context, started)

    def _await(self, is_done: Callable[[], bool], wanted: str, deadline: float) -> None:
        """Poll; notice at once when a process has ended."""
        while not is_done():
            ended = [p for p in self._processes if p.wait(0) is not None]
            if ended or time.monotonic() > deadline:
                log = (ended or self._processes[-1:])[0].log
                found = f"the end of {log.stem}" if ended else "no report in time"
                raise RuntimeError(
                    f"dask must start {wanted}; got {found}. See the logs in "
                    f"{self._folder}.\n{end_of_log(log)}"
                )
            time.sleep(_POLL_S)


def _shut_down(client: "Client") -> None:
    """Ask all processes to end, those on other nodes too; the rest are killed."""
    with suppress(OSError, TimeoutError):
        client.shutdown()


def _new_credentials() -> str:
    """A new certificate that signs itself, and its key, in PEM."""
    from distributed.security import Security

    made = Security.temporary()
    return f"{made.tls_client_key}\n{made.tls_client_cert}\n"
