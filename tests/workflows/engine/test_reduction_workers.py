"""Real dask processes: the numbers of threads, no strangers, no survivors."""

import os
import select
import signal
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest

pytest.importorskip("distributed", reason="the extra `cluster` is not installed")

from data.ensemble_store import Variable, create_store, open_ensemble, write_block
from data.statistics import (
    covariance_with_points,
    ensemble_mean,
    ensemble_quantiles,
    ensemble_standard_deviation,
)
from workflows.engine.driving.reduction_workers import reduction_workers

ROOT = Path(__file__).parents[3]
# stands for `srun -n 2`: starts its command twice and waits for both
TWICE = ("sh", "-c", '"$@" & "$@" & wait', "sh")


@pytest.fixture(scope="module")
def heads(tmp_path_factory):
    """150 members of 40 cells in blocks of 8, far from zero, two of them failed."""
    path = tmp_path_factory.mktemp("reductions") / "ensemble.zarr"
    values = 1e4 + np.random.default_rng(5).standard_normal((150, 40))
    layout = create_store(
        path,
        n_members=150,
        block_size=8,
        variables=[Variable("hydraulic_head", "m", "hydraulic head")],
        coordinates={"x": ("cell", np.arange(40.0), {"units": "m"})},
        attributes={},
    )
    for block in range(layout.n_blocks):
        members = layout.members(block)
        write_block(
            path,
            block,
            {"hydraulic_head": values[members.start : members.stop].astype("f4")},
            seeds=members,
            failed={m: "lost" for m in (17, 149) if m in members},
            provenance={},
        )
    return open_ensemble(path)["hydraulic_head"].chunk({"member": 40})


def statistics(heads):
    return {
        "mean": ensemble_mean(heads).to_numpy(),
        "deviation": ensemble_standard_deviation(heads).to_numpy(),
        "covariance": covariance_with_points(heads, [0, 39]).to_numpy(),
        "quantiles": ensemble_quantiles(heads, [0.05, 0.5], 8000).to_numpy(),
    }


def processes_of(folder, parent=None):
    """Processes below `parent`, by default this one, that work in a folder."""
    below = psutil.Process(parent).children(recursive=True)
    return [p for p in below if p.cwd() == str(folder)]


def all_end(processes):
    """Whether all processes end within half a minute; also those nobody waits for."""
    for process in processes:
        try:
            watched = os.pidfd_open(process.pid)
        except ProcessLookupError:
            continue
        ended, _, _ = select.select([watched], [], [], 30)
        os.close(watched)
        if not ended:
            return False
    return True


def listening(processes):
    """Addresses at which any of the processes can be called."""
    return [
        connection.laddr
        for process in processes
        for connection in process.net_connections()
        if connection.status == psutil.CONN_LISTEN
    ]


def answers_a_stranger(address):
    """Whether a process shows a page, or talks TLS to somebody without its key."""
    page = say(address, lambda plain: plain, b"GET /health HTTP/1.0\r\n\r\n")
    if page.startswith(b"HTTP/"):
        return b" 404 " not in page
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return bool(say(address, context.wrap_socket, b"hello"))


def say(address, wrap, words):
    """What is answered; nothing where the connection is refused."""
    try:
        with (
            socket.create_connection(address, timeout=30) as plain,
            wrap(plain) as talk,
        ):
            talk.sendall(words)
            return talk.recv(100)
    except (ssl.SSLError, ConnectionError):
        return b""


def test_workers_of_a_launch_prefix_give_the_bits_of_threads(heads, tmp_path):
    expected = statistics(heads)
    folder = tmp_path / "dask"
    with reduction_workers(folder, 2, launch_prefix=TWICE):
        processes = processes_of(folder)
        addresses = listening(processes)
        assert len(addresses) >= 3  # a scheduler and two workers
        assert {address.ip for address in addresses} == {"127.0.0.1"}
        assert not any(answers_a_stranger(address) for address in addresses)
        assert (folder / "key.pem").stat().st_mode & 0o077 == 0
        found = statistics(heads)
        # both workers of the one command
        assert (folder / "worker-0.log").read_text().count("Registered to") == 2
    assert not folder.exists()
    assert all_end(processes)
    np.testing.assert_array_equal(ensemble_mean(heads), expected["mean"])  # here again
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)


DRIVER = """
import os, sys
from pathlib import Path
import dask.array as da
from workflows.engine.driving.reduction_workers import reduction_workers
field = da.arange(1000, chunks=100)
places = field.map_blocks(lambda block: block * 0 + os.getpid())
with reduction_workers(Path(sys.argv[1]), 2):
    assert os.getpid() not in places.compute()
    print("computed elsewhere", flush=True)
    sys.stdin.read()
"""


def test_a_killed_driver_takes_scheduler_and_workers_along(tmp_path):
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(tmp_path / "dask")],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with driver:
        assert driver.stdout.readline() == b"computed elsewhere\n"
        processes = processes_of(tmp_path / "dask", driver.pid)
        assert len(processes) == 6  # a scheduler, two workers, their supervisors
        driver.send_signal(signal.SIGKILL)
    assert all_end(processes)


def test_workers_that_do_not_start_are_told_with_their_log(tmp_path):
    broken = ("sh", "-c", "echo no such partition >&2; exit 1", "sh")
    with (
        pytest.raises(
            RuntimeError, match=r"the end of worker-0.*\n.*\n    no such part"
        ),
        reduction_workers(tmp_path / "dask", 2, launch_prefix=broken),
    ):
        pass
    assert sorted(p.name for p in (tmp_path / "dask").glob("*.log")) == [
        "scheduler.log",
        "worker-0.log",
    ]
    assert not (tmp_path / "dask" / "key.pem").exists()
    assert processes_of(tmp_path / "dask") == []


def test_workers_that_do_not_report_in_time_are_told(tmp_path):
    with (
        pytest.raises(RuntimeError, match="a scheduler; got no report in time"),
        reduction_workers(tmp_path / "dask", 1, patience_s=0.0),
    ):
        pass
    assert processes_of(tmp_path / "dask") == []


def test_bad_requests_are_refused_before_anything_starts(tmp_path):
    with (
        pytest.raises(ValueError, match="n_workers must be at least 1; got 0"),
        reduction_workers(tmp_path / "dask", 0),
    ):
        pass
    with pytest.raises(FileExistsError), reduction_workers(tmp_path, 1):
        pass
    assert list(tmp_path.iterdir()) == []
