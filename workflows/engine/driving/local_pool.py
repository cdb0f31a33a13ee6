"""Parsl's worker pool on the computer of its driver, whose process it does not outlive.

As a program, with the number of the driver's process and the words of the pool. A pool
that has registered misses heartbeats and ends; one that loses the interchange while it
connects waits for an answer without end.
"""

import os
import runpy
import signal
import sys
import threading
import time

import psutil


def end_with_driver(driver: int) -> None:
    """Kill the process group, which Parsl makes for each pool, after the driver."""
    try:
        process = psutil.Process(driver)
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.5)  # a poll: the driver is not the parent
    except psutil.NoSuchProcess:
        pass  # it was killed before this process began
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    driver = int(sys.argv.pop(1))
    threading.Thread(target=end_with_driver, args=(driver,), daemon=True).start()
    package = "parsl.executors.high_throughput"
    # workers are spawned from the main module, which must be Parsl's
    runpy.run_module(
        f"{package}.process_worker_pool", run_name="__main__", alter_sys=True
    )
