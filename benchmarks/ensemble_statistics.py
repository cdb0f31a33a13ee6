"""Speed and memory of ensemble statistics, against a raw read of the same bytes.

Builds a store of Hanford size (1475 cells, float32) in a temporary folder and computes
each statistic in a process of its own, so that its peak memory is its own.

    python -m benchmarks.ensemble_statistics --members 200000
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.rows import parser_of, print_row

N_CELLS = 1475
VARIABLE = "hydraulic_head"


def build(path: Path, n_members: int, block_size: int) -> float:
    """Writes the store, heads of 115 ± 4 m; returns the seconds spent on writing."""
    from data.ensemble_store import Variable, create_store, write_block

    x = np.arange(N_CELLS, dtype=np.float64)
    layout = create_store(
        path,
        n_members=n_members,
        block_size=block_size,
        variables=[Variable(VARIABLE, "m", "hydraulic head")],
        coordinates={"x": ("cell", x, {"units": "m"})},
        attributes={"title": "benchmark"},
    )
    seconds = 0.0
    for block in range(layout.n_blocks):
        members = layout.members(block)
        generator = np.random.default_rng(block)
        noise = generator.standard_normal((len(members), N_CELLS), dtype=np.float32)
        heads = 115 + 4 * noise
        start = time.perf_counter()
        write_block(path, block, {VARIABLE: heads}, seeds=members, provenance={})
        seconds += time.perf_counter() - start
    return seconds


def read_raw(path: Path) -> None:
    """Reads the shard files into one buffer that is used again."""
    buffer = bytearray(2**20)
    for file in (path / VARIABLE).glob("c/*/0"):
        with file.open("rb", buffering=0) as shard:
            while shard.readinto(buffer):
                pass


def read_blocks(path: Path) -> None:
    """Reads all members, a block at a time, as training does."""
    from data.ensemble_store import read_layout, read_members

    layout = read_layout(path)
    for block in range(layout.n_blocks):
        read_members(path, VARIABLE, layout.members(block))


def mean_and_spread(path: Path) -> None:
    """Mean and standard deviation in one pass."""
    import xarray as xr

    from data.ensemble_store import open_ensemble
    from data.statistics import ensemble_mean, ensemble_standard_deviation

    field = open_ensemble(path)[VARIABLE]
    spread = ensemble_standard_deviation(field)
    xr.Dataset({"mean": ensemble_mean(field), "spread": spread}).compute()


def covariance(path: Path) -> None:
    """Covariance of all cells with ten points."""
    from data.ensemble_store import open_ensemble
    from data.statistics import covariance_with_points

    field = open_ensemble(path)[VARIABLE]
    covariance_with_points(field, range(0, N_CELLS, 150)).compute()


def quantiles(path: Path) -> None:
    """Three exact quantiles."""
    from data.ensemble_store import open_ensemble
    from data.statistics import ensemble_quantiles

    ensemble_quantiles(open_ensemble(path)[VARIABLE], [0.05, 0.5, 0.95])


STEPS: dict[str, Callable[[Path], None]] = {
    step.__name__: step
    for step in (read_raw, read_blocks, mean_and_spread, covariance, quantiles)
}


def measure(step: str, path: Path) -> None:
    """Runs one step twice and prints its shorter time [s] and peak memory [MiB]."""
    seconds = []
    for _ in range(2):  # the first run also pays for imports
        start = time.perf_counter()
        STEPS[step](path)
        seconds.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(min(seconds), peak)


def main() -> None:
    """Builds the store, measures every step and prints the table."""
    parser = parser_of(str(__doc__))
    parser.add_argument("--members", type=int, default=200_000)
    parser.add_argument("--block-size", type=int, default=1000)
    parser.add_argument("--folder", type=Path, help="where the store is built")
    parser.add_argument("--step", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        measure(options.step[0], Path(options.step[1]))
        return
    megabytes = options.members * N_CELLS * 4 / 1e6
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        path = Path(folder) / "ensemble.zarr"
        seconds = build(path, options.members, options.block_size)
        what = f"{options.members} members, {megabytes:.0f} MB"
        figure = f"{seconds:.2f} s, {megabytes / seconds:.0f} MB/s"
        row = (f"write, durably: {what}", figure, "–", "–")
        print_row(row, markdown=options.markdown)
        raw = 0.0
        for step in STEPS:
            command = [sys.executable, "-m", "benchmarks.ensemble_statistics"]
            command += ["--step", step, str(path)]
            output = subprocess.run(command, check=True, capture_output=True, text=True)
            seconds, peak = map(float, output.stdout.split())
            raw = raw or seconds
            row = (
                f"{step.replace('_', ' ')}: {what}",
                f"{seconds:.2f} s, {megabytes / seconds:.0f} MB/s, peak {peak:.0f} MiB",
                f"raw read, page cache: {raw:.2f} s; limit 1024 MiB",
                f"{raw / seconds:.2f} of raw",
            )
            print_row(row, markdown=options.markdown)


if __name__ == "__main__":
    main()
