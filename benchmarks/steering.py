"""Does steering save simulations, and does overlapping keep the cores busy?

    python -m benchmarks.steering [--markdown] [--seeds 5] [--members 240]

The problem is `benchmarks.well_field`. A random campaign draws all members from their
prior; a steered one draws each batch of 24 in favour of inputs at which five networks
disagree. Error is the rms error over the deviation on 600 members of the prior; those
are not counted. Members needed are read off the error curves, made monotone, at the
error at which the random campaign of the same seed ends; the batch that is under way
when a steered campaign stops is counted. 90 % interval over seeds, Student's t. The
last rows: share of the time of two worker processes, from the first task to the last,
that tasks ran, with and without overlap.
"""

import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from benchmarks import well_field
from benchmarks.rows import parser_of, print_row
from benchmarks.surrogate_accuracy import with_interval
from benchmarks.well_field import BatchRecord, LearnRecord
from workflows.engine.driving.campaign import Campaign, TaskFuture, open_campaign
from workflows.engine.driving.steering import MembersGained, Spent, Steered, steer
from workflows.engine.sites.site import load_site
from workflows.engine.watching.events import read_events
from workflows.engine.watching.progress import Progress

BATCH, TASKS_PER_BATCH, N_TEST = 24, 12, 600
TRAINING_STEPS, EXPONENT = 500, 3.0


def main() -> None:
    """Prints a line or a table row per answer."""
    parser = parser_of(str(__doc__))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--members", type=int, default=240)
    options = parser.parse_args()
    show = partial(print_row, markdown=options.markdown)
    with tempfile.TemporaryDirectory() as scratch:
        test = Path(scratch) / "test.npz"
        seconds = write_test_members(test)
        curves: dict[str, list[np.ndarray]] = {"random": [], "steered": []}
        for seed in range(options.seeds):
            for mode, found in curves.items():
                folder = Path(scratch) / f"{mode}-{seed}"
                run = campaign(
                    folder, test, seed, options.members, is_steered=mode == "steered"
                )
                found.append(np.array([facts["error"] for facts in run.history]))
        show(("one member, 20 steps on 256 x 256 cells", f"{seconds:.2f} s", "–", "–"))
        for mode, found in curves.items():
            ends = with_interval([float(curve[-1]) for curve in found])
            starts = with_interval([float(curve[0]) for curve in found])
            what = f"{mode}: error after {options.members} members"
            show((what, ends, f"after {BATCH}: {starts}", "–"))
        show_needed(curves, options.members, show)
        show_utilisation(Path(scratch), test, show)


def show_needed(
    curves: dict[str, list[np.ndarray]], members: int, show: partial[None]
) -> None:
    """At how many members the steered campaigns are as good as the random ones."""
    pairs = list(zip(curves["steered"], curves["random"], strict=True))
    shares = [needed(steered, random) for steered, random in pairs]
    reached = [share for share in shares if share is not None]
    what = f"members for the random campaign's error, {len(pairs)} seeds"
    found, ratio = f"not reached by {len(shares) - len(reached)} seeds", "–"
    if len(reached) == len(shares):
        found = with_interval([share * members for share in reached])
        ratio = with_interval(reached)
    show((what, found, f"random: {members}", ratio))


def needed(steered: np.ndarray, random: np.ndarray) -> float | None:
    """Share of the random campaign's members at which the steered one is as good."""
    best = np.minimum.accumulate(steered)
    reached = np.flatnonzero(best <= random.min())
    if not len(reached):
        return None
    k = int(reached[0])
    batches = 1.0 + k
    if k:  # the error falls about evenly in its logarithm between two trainings
        a, b, level = np.log([best[k - 1], best[k], random.min()])
        batches = k + (a - level) / (a - b)
    return float((batches + 1) / len(random))  # one more was under way


def show_utilisation(scratch: Path, test: Path, show: partial[None]) -> None:
    """Busy share of two processes, with and without overlap, in one go."""
    for overlap in (True, False):
        folder = scratch / f"overlap-{overlap}"
        began = time.perf_counter()
        campaign(
            folder, test, 0, 6 * BATCH, is_steered=True, overlap=overlap,
            site="laptop_htex",
        )  # fmt: skip
        seconds = time.perf_counter() - began
        what = "overlapped" if overlap else "one after the other"
        show((f"{what}: busy share of two cores", f"{busy_share(folder):.2f}",
              f"{seconds:.0f} s with start and end", "–"))  # fmt: skip


def busy_share(folder: Path) -> float:
    """Seconds of tasks over two cores' seconds from the first start to the last end."""
    starts, busy, times = {}, 0.0, []
    for event in read_events(folder):
        if event.get("event") == "start":
            starts[event["task"]] = event["time"]
        elif event.get("event") == "finish":
            busy += event["time"] - starts[event["task"]]
        else:
            continue
        times.append(event["time"])
    return float(busy / (2 * (max(times) - min(times))))


def campaign(
    folder: Path,
    test: Path,
    seed: int,
    members: int,
    *,
    is_steered: bool,
    overlap: bool = True,
    site: str = "laptop",
) -> Steered:
    """One campaign of the well field; trains after every batch, stops when spent."""
    (folder / "inputs").mkdir(parents=True)
    (folder / well_field.TEST).write_bytes(test.read_bytes())
    progress = Progress(Console(stderr=True, quiet=True), folder)
    with open_campaign(folder, seed, load_site(site), progress) as running:
        return steer(
            partial(simulate, running, is_steered=is_steered),
            partial(learn, running),
            batch_members=BATCH,
            retrain=[MembersGained(BATCH)],
            stop=[Spent(members)],
            log=running.log,
            overlap=overlap,
        )


def simulate(
    running: Campaign, number: int, surrogate: TaskFuture | None, *, is_steered: bool
) -> list[TaskFuture]:
    """Submits a batch."""
    inputs = {"surrogate": [surrogate]} if is_steered and surrogate else {}
    return [
        running.submit(
            well_field.simulate_task,
            BatchRecord(number, k, BATCH, TASKS_PER_BATCH, running.seed, EXPONENT),
            **inputs,
        )
        for k in range(TASKS_PER_BATCH)
    ]


def learn(running: Campaign, number: int, batches: Sequence[TaskFuture]) -> TaskFuture:
    """Submits a training."""
    record = LearnRecord(number, running.seed, TRAINING_STEPS)
    return running.submit(well_field.learn_task, record, batches=batches)


def write_test_members(path: Path) -> float:
    """Simulates the test members on two cores; seconds of one member."""
    inputs = well_field.draw_inputs(N_TEST, torch.Generator().manual_seed(10**6))
    context = get_context("spawn")
    with ProcessPoolExecutor(2, context, torch.set_num_threads, (1,)) as pool:
        outputs = list(pool.map(well_field.drawdowns, torch.split(inputs, 10)))
        seconds = pool.submit(_time_member, inputs[:3]).result()
    well_field.write_members(path, inputs, torch.cat(outputs))
    return seconds


def _time_member(inputs: torch.Tensor) -> float:
    well_field.drawdowns(inputs[:1])  # warm
    began = time.perf_counter()
    well_field.drawdowns(inputs)
    return (time.perf_counter() - began) / len(inputs)


if __name__ == "__main__":
    main()
