"""Task Bench (arXiv:1908.05790): how short may tasks be before half the time is lost?

    python -m benchmarks.taskbench [--markdown] [--site laptop_htex] [--workers 2]

METG(50 %), the minimum effective task granularity, is the smallest time per task and
worker at which the workers still compute half of their time. Work is measured beside
what the workers do in one long task each; the engine and plain Parsl take turns on the
same graph. A figure is refused if the longest tasks reach less than 0.8, for then
something else is slow, and if no tasks are so short that half is lost.
"""

import math
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import parsl

from benchmarks.engine import open_in_scratch, plain_kernel
from benchmarks.rows import parser_of, print_row
from benchmarks.task_graphs import (
    GRAPHS,
    TaskRecord,
    compute,
    point_app,
    point_step,
    points,
    predecessors,
)
from workflows.engine.driving.tasks import Task
from workflows.engine.sites.site import load_site

MILLISECONDS = (0.5, 2.0, 8.0, 32.0, 128.0)
MIN_PEAK, MAX_PEAK, THRESHOLD = 0.8, 1.2, 0.5
N_TURNS = 3
SECONDS_OF_CALIBRATION = 0.25

App = Callable[[int], Future[None]]
Submit = Callable[[TaskRecord, list[Any]], Any]  # a task and its inputs to a future


@dataclass(frozen=True, slots=True)
class Point:
    """One run of a graph: time per task and worker [s], share of it that computed."""

    granularity: float
    efficiency: float


def main() -> None:
    """Prints a row per graph."""
    parser = parser_of(str(__doc__))
    parser.add_argument("--site", default="laptop_htex")
    parser.add_argument("--workers", type=int, help="that the site has; default: cores")
    parser.add_argument("--width", type=int, default=8, help="points of a step")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--graphs", nargs="+", choices=GRAPHS, default=GRAPHS)
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    site_file = load_site(arguments.site)
    workers = arguments.workers or site_file.site.cores_per_node
    task = Task(point_step, role="sim", version="1")
    with open_in_scratch(site_file) as campaign, plain_kernel(site_file) as kernel:
        app = parsl.python_app(point_app, data_flow_kernel=kernel)
        calibrate = parsl.python_app(compute, data_flow_kernel=kernel)
        systems: list[Submit] = [
            lambda record, given: campaign.submit(task, record, given=given),
            lambda record, given: app(record, *given),
        ]
        for submit in systems:  # the workers start and import
            run_graph(submit, "trivial", arguments.width, 1, 1, -1)
        for graph in arguments.graphs:
            found = measure(
                systems,
                lambda: peak_rate(calibrate, workers),
                graph,
                width=arguments.width,
                n_steps=arguments.steps,
                workers=workers,
            )
            load = f"load {os.getloadavg()[0]:.1f}"
            row = row_of(f"{graph} on {arguments.site}, {load}", *found)
            print_row(row, markdown=arguments.markdown)


def measure(
    systems: Sequence[Submit],
    rate_of: Callable[[], float],
    graph: str,
    *,
    width: int,
    n_steps: int,
    workers: int,
) -> list[list[Point]]:
    """For each system its middle run at each length of tasks, the shortest first."""
    n_tasks = sum(len(points(graph, width, step)) for step in range(n_steps))
    found: list[list[Point]] = [[] for _ in systems]
    for milliseconds in MILLISECONDS:
        runs: list[list[Point]] = [[] for _ in systems]
        for turn in range(N_TURNS):
            before = rate_of()  # ever anew, since others use this machine, too
            for submit, ours in zip(systems, runs, strict=True):
                iterations = max(1, round(milliseconds / 1e3 * before / workers))
                seconds = run_graph(submit, graph, width, n_steps, iterations, turn)
                after = rate_of()
                share = n_tasks * iterations / seconds * 2 / (before + after)
                ours.append(Point(seconds * workers / n_tasks, share))
                before = after
        for middle, ours in zip(found, runs, strict=True):
            ours.sort(key=lambda run: run.efficiency)
            middle.append(ours[N_TURNS // 2])
    return found


def run_graph(
    submit: Submit, graph: str, width: int, n_steps: int, iterations: int, turn: int
) -> float:
    """Seconds from the first submission to the last result; every task has to check."""
    began = time.perf_counter()
    before: list[Future[Any]] = []
    every: list[Future[Any]] = []
    for step in range(n_steps):
        now = []
        for point in points(graph, width, step):
            record = TaskRecord(graph, width, step, point, iterations, turn)
            given = [before[p] for p in predecessors(graph, width, step, point)]
            now.append(submit(record, given))
        every += now
        before = now
    for future in every:
        future.result()
    return time.perf_counter() - began


def peak_rate(app: App, workers: int) -> float:
    """Iterations per second of all workers, one long task each.

    Processes elsewhere on a busy machine would get another share of it.
    """
    began = time.perf_counter()
    compute(100)
    n_iterations = round(100 * SECONDS_OF_CALIBRATION / (time.perf_counter() - began))
    began = time.perf_counter()
    for future in [app(n_iterations) for _ in range(workers)]:
        future.result()
    return workers * n_iterations / (time.perf_counter() - began)


def minimum_granularity(runs: Sequence[Point]) -> float:
    """METG(50 %) [s], between the two runs around it, on logarithmic scales.

    Args:
        runs: from the shortest tasks to the longest.

    Raises:
        ValueError: the most efficient run is too far from what the machine can do, or
            no run is below the threshold.
    """
    peak = max(run.efficiency for run in runs)
    if not MIN_PEAK <= peak <= MAX_PEAK:
        raise ValueError(
            f"peak efficiency must be {MIN_PEAK} to {MAX_PEAK}; got {peak:.2f}. "
            "Use a machine that is less busy."
        )
    below = [k for k, run in enumerate(runs) if run.efficiency < THRESHOLD]
    if not below:
        lowest = min(run.efficiency for run in runs)
        raise ValueError(
            f"some run must be less than {THRESHOLD} efficient; got {lowest:.2f}. "
            "Make tasks shorter."
        )
    low, high = runs[below[-1]], runs[below[-1] + 1]
    ends = [math.log(run.efficiency) for run in (low, high)]
    position = (math.log(THRESHOLD) - ends[0]) / (ends[1] - ends[0])
    ratio = high.granularity / low.granularity
    return low.granularity * math.exp(position * math.log(ratio))


def row_of(
    what: str, ours: Sequence[Point], theirs: Sequence[Point]
) -> tuple[str, str, str, str]:
    """The columns of the table, with the reason where a figure is refused."""
    cells, figures = [], []
    for runs in (ours, theirs):
        peak = max(run.efficiency for run in runs)
        try:
            figures.append(minimum_granularity(runs))
        except ValueError as error:
            cells.append(f"refused: {error}")
        else:
            cells.append(f"{figures[-1] * 1e3:.2f} ms (peak {peak:.2f})")
    has_both = len(figures) == len(cells)
    ratio = f"{figures[0] / figures[1]:.2f}" if has_both else "–"
    return f"METG(50 %) of {what}", cells[0], f"plain Parsl: {cells[1]}", ratio


if __name__ == "__main__":
    main()
