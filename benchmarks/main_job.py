"""Wall time and memory of the workflows as a user starts them.

    python -m benchmarks.main_job [--markdown] [--sizes smoke standard]
                                  [--workflows hanford shallow_water]

Memory is the largest sum of the proportional set sizes of all its processes, sampled.
"""

import subprocess
import sys
import tempfile
import time
from itertools import product
from pathlib import Path
from typing import NamedTuple

import psutil

from benchmarks.rows import parser_of, print_row

LIMITS = {
    "hanford": {"smoke": "40 s", "standard": "360 s, 3 GiB", "full": "none"},
    "shallow_water": {"smoke": "40 s", "standard": "600 s", "full": "none"},
}
SECONDS_BETWEEN_SAMPLES = 0.25


class Usage(NamedTuple):
    """What a run took."""

    seconds: float
    gibibytes: float


def main() -> None:
    """Prints a line or a table row per workflow, size and site."""
    parser = parser_of(str(__doc__))
    parser.add_argument("--sizes", nargs="+", default=["smoke", "standard"])
    parser.add_argument("--workflows", nargs="+", default=list(LIMITS))
    arguments = parser.parse_args()
    sites = ("laptop", "laptop_htex")
    for workflow, size, site in product(arguments.workflows, arguments.sizes, sites):
        usage = measure(workflow, size, site)
        row = (
            f"python -m workflows.{workflow} --size {size} --site {site}",
            f"{usage.seconds:.1f} s, {usage.gibibytes:.2f} GiB",
            f"limit: {LIMITS[workflow][size]}",
            "–",
        )
        print_row(row, markdown=arguments.markdown)


def measure(workflow: str, size: str, site: str) -> Usage:
    """Runs a job in a scratch folder.

    Raises:
        RuntimeError: the job failed.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder, output = Path(scratch) / "run", Path(scratch) / "output"
        words = ["--size", size, "--site", site, "--run-dir", str(folder)]
        with output.open("wb") as stream:
            began, peak = time.perf_counter(), 0
            job = subprocess.Popen(
                [sys.executable, "-m", f"workflows.{workflow}", *words],
                stdout=stream,
                stderr=stream,
            )
            while job.poll() is None:
                peak = max(peak, memory_of(folder))
                time.sleep(SECONDS_BETWEEN_SAMPLES)
            seconds = time.perf_counter() - began
        if job.returncode != 0:
            raise RuntimeError(f"the job failed:\n{output.read_text()}")
    return Usage(seconds, peak / 2**30)


def memory_of(folder: Path) -> int:
    """Bytes that the processes of a run hold, shared pages counted once.

    Workers are no children of the driver, but all are started with the run's folder.
    """
    processes = set()
    for process in psutil.process_iter():
        try:
            if any(str(folder) in word for word in process.cmdline()):
                processes |= {process, *process.children(recursive=True)}
        except psutil.Error:
            continue  # it has just ended
    total = 0
    for process in processes:
        try:
            total += process.memory_full_info().pss
        except psutil.Error:
            continue
    return total


if __name__ == "__main__":
    main()
