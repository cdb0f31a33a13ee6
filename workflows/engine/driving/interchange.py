"""Parsl's interchange, tied to its driver.

As a program, with the number of its parent process. Ctrl-C reaches every process of the
terminal's group: the interchange leaves it to the driver. A driver that was killed can
end nothing: the interchange sees that its parent is another, and ends; the workers,
without its heartbeats, follow.
"""

import logging
import os
import runpy
import signal
import sys
import threading
import time


def end_with(parent: int) -> None:
    """End this process within a second of its parent."""
    while os.getppid() == parent:
        time.sleep(0.5)  # a poll: a parent that is killed tells nobody
    os._exit(1)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.raiseExceptions = False  # of a full disk, for example, the driver tells
    threading.Thread(target=end_with, args=(int(sys.argv[1]),), daemon=True).start()
    runpy.run_module("parsl.executors.high_throughput.interchange", run_name="__main__")
