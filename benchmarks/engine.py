"""What the engine costs: per task, per second of work, and when a run is continued.

    python -m benchmarks.engine [--markdown] [--tasks 500] [--finished 10000]

No-op tasks go in turns through a campaign, with its journal, and through plain Parsl on
the same kind of executor, which has no memoizer; both stay open, so that a busy machine
slows both. The figures are medians of the turns.
"""

import io
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import parsl
from parsl.dataflow.dflow import DataFlowKernel
from rich.console import Console

from benchmarks import engine_steps as steps
from benchmarks.rows import parser_of, print_row
from workflows.engine.driving.campaign import Campaign, gather, open_campaign
from workflows.engine.driving.tasks import Task
from workflows.engine.sites.site import SiteFile, load_site
from workflows.engine.watching.progress import Progress

N_TURNS = 9
SPIN_SECONDS = 0.5
SPINS_PER_WORKER = 10
WORKERS = 2  # of both sites on two cores

do_nothing = Task(steps.do_nothing, role="sim", version="1")
spin = Task(steps.spin, role="sim", version="1")
write_number = Task(steps.write_number, role="sim", version="1")

Plain = Callable[[Callable[..., object], list[tuple[object, ...]]], None]


def main() -> None:
    """Prints one row per question and site."""
    parser = parser_of(str(__doc__))
    parser.add_argument("--tasks", type=int, default=500, help="no-op tasks per turn")
    parser.add_argument("--finished", type=int, default=10_000, help="to continue with")
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    for name in ("laptop", "laptop_htex"):
        print_row(no_op_row(name, arguments.tasks), markdown=arguments.markdown)
    for name in ("laptop", "laptop_htex"):
        print_row(efficiency_row(name), markdown=arguments.markdown)
    for task, kind in ((do_nothing, "no file"), (write_number, "a file each")):
        row = continuation_row(task, kind, arguments.finished)
        print_row(row, markdown=arguments.markdown)


def no_op_row(name: str, n_tasks: int) -> tuple[str, str, str, str]:
    """Time per no-op task beside that of plain Parsl."""
    site_file = load_site(name)
    ours, theirs = [], []
    with open_in_scratch(site_file) as campaign, plain_parsl(site_file) as run_plain:
        for turn in range(-1, N_TURNS):  # the first warms both up
            began = time.perf_counter()
            numbers = range(turn * n_tasks, (turn + 1) * n_tasks)
            gather([campaign.submit(do_nothing, steps.Number(n)) for n in numbers])
            between = time.perf_counter()
            run_plain(steps.spin_for, [(0.0,)] * n_tasks)
            ended = time.perf_counter()
            ours.append((between - began) / n_tasks)
            theirs.append((ended - between) / n_tasks)
    ratios = [a / b for a, b in zip(ours[1:], theirs[1:], strict=True)]
    middle = statistics.quantiles(ratios, n=4)
    return (
        f"{name}: a no-op task through the engine, journal included",
        f"{statistics.median(ours[1:]) * 1e3:.2f} ms",
        f"plain Parsl: {statistics.median(theirs[1:]) * 1e3:.2f} ms",
        f"{middle[1]:.2f} (middle half {middle[0]:.2f}-{middle[2]:.2f})",
    )


def efficiency_row(name: str) -> tuple[str, str, str, str]:
    """Share of the workers' time that half-second tasks compute, beside plain Parsl."""
    site_file = load_site(name)
    n_tasks = WORKERS * SPINS_PER_WORKER
    with open_in_scratch(site_file) as campaign, plain_parsl(site_file) as run_plain:
        gather([campaign.submit(spin, steps.Spin(-i, 0.01)) for i in (1, 2, 3, 4)])
        run_plain(steps.spin_for, [(0.01,)] * 4)
        began = time.perf_counter()
        records = [steps.Spin(i, SPIN_SECONDS) for i in range(n_tasks)]
        gather([campaign.submit(spin, record) for record in records])
        between = time.perf_counter()
        run_plain(steps.spin_for, [(SPIN_SECONDS,)] * n_tasks)
        ended = time.perf_counter()
    ideal = SPINS_PER_WORKER * SPIN_SECONDS
    ours, theirs = ideal / (between - began), ideal / (ended - between)
    return (
        f"{name}: efficiency with tasks of {SPIN_SECONDS} s on {WORKERS} workers",
        f"{ours:.1%}",
        f"plain Parsl: {theirs:.1%}",
        f"{ours / theirs:.3f}",
    )


def continuation_row(task: Task, kind: str, n_tasks: int) -> tuple[str, str, str, str]:
    """Seconds until a run with so many finished tasks is where it was."""
    site_file = load_site("laptop")
    with tempfile.TemporaryDirectory() as scratch:
        folder, seconds = Path(scratch), []
        for _ in range(2):
            began = time.perf_counter()
            with opened(folder, site_file) as campaign:
                numbers = [steps.Number(i) for i in range(n_tasks)]
                gather([campaign.submit(task, number) for number in numbers])
            seconds.append(time.perf_counter() - began)
    return (
        f"laptop: {n_tasks} finished tasks with {kind}: the run continues",
        f"{seconds[1]:.2f} s",
        f"first run: {seconds[0]:.1f} s",
        f"{seconds[1] / seconds[0]:.2f}",
    )


@contextmanager
def open_in_scratch(site_file: SiteFile) -> Iterator[Campaign]:
    """A campaign in a folder that does not stay."""
    with (
        tempfile.TemporaryDirectory() as scratch,
        opened(Path(scratch), site_file) as campaign,
    ):
        yield campaign


@contextmanager
def opened(folder: Path, site_file: SiteFile) -> Iterator[Campaign]:
    """A campaign that shows nothing."""
    progress = Progress(Console(file=io.StringIO()), folder)
    with open_campaign(folder, 0, site_file, progress) as campaign:
        yield campaign
    parsl.clear()


@contextmanager
def plain_parsl(site_file: SiteFile) -> Iterator[Plain]:
    """`run(function, arguments)`: Parsl alone, one task per tuple of arguments."""
    with plain_kernel(site_file) as kernel:

        def run(
            function: Callable[..., object], arguments: list[tuple[object, ...]]
        ) -> None:
            app = parsl.python_app(function, data_flow_kernel=kernel)
            for future in [app(*words) for words in arguments]:
                future.result()

        yield run


@contextmanager
def plain_kernel(site_file: SiteFile) -> Iterator[DataFlowKernel]:
    """Parsl alone on the executors of a site, without memoizer and log."""
    with tempfile.TemporaryDirectory() as scratch:
        kernel = DataFlowKernel(
            parsl.Config(
                executors=site_file.executors(),
                strategy_period=0.5,
                usage_tracking=0,
                run_dir=scratch,
                initialize_logging=False,
            )
        )
        try:
            yield kernel
        finally:
            kernel.cleanup()


if __name__ == "__main__":
    main()
