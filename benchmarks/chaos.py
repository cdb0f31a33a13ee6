"""Harms runs in every way that machines do, continues them, and compares every bit.

    python -m benchmarks.chaos [--markdown] [--kills 30] [--seed 0] [--hanford]

Each harm is done to runs of `benchmarks.chaos_workflow` at instants drawn from the
seed, as real processes and real signals; the harmed run is then continued until it is
complete, and its artefacts are compared with those of an undisturbed run. `--hanford`
also kills smoke runs of the main job.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.rows import parser_of, print_row
from workflows.engine.driving.journal import read_journal
from workflows.engine.files.artefacts import Artefact, is_intact
from workflows.engine.watching.events import read_events

PROGRAM = "benchmarks.chaos_workflow"
MAX_STARTS = 8  # of one run; each continues it
SECONDS_TO_END = 120
FAULTY = ("--set", "nan_member=3", "--set", "endless_member=5")


@dataclass(slots=True)
class Toll:
    """What some harms cost.

    Attributes:
        injected: harms done.
        survived: runs that ended in the bits of the undisturbed one, of `runs`.
        recomputed: tasks that were started again.
        bytes_lost: of artefacts that are missing or differ at the end.
    """

    injected: int = 0
    runs: int = 0
    survived: int = 0
    recomputed: int = 0
    bytes_lost: int = 0

    def row(self, what: str) -> tuple[str, str, str, str]:
        """The columns of the table."""
        return (
            what,
            f"{self.injected} in {self.runs} runs, {self.survived} survived",
            str(self.recomputed),
            str(self.bytes_lost),
        )


@dataclass(frozen=True, slots=True)
class Subject:
    """A program to harm, and the run of it that nobody harms."""

    undisturbed: Path
    program: str = PROGRAM
    words: tuple[str, ...] = ()

    def start(self, folder: Path, site: str = "laptop") -> "subprocess.Popen[bytes]":
        """A driver in a session of its own; its words go to `<folder>.log`."""
        words = ["--run-dir", str(folder), "--site", site, *self.words]
        with folder.with_suffix(".log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", self.program, *words],
                start_new_session=True,
                stdout=log,
                stderr=log,
            )

    def complete(self, folder: Path, site: str = "laptop") -> int:
        """Run or continue to the end; the number of starts that this took."""
        for n_starts in range(1, MAX_STARTS + 1):
            if self.start(folder, site).wait(SECONDS_TO_END) == 0:
                return n_starts
        raise RuntimeError(folder.with_suffix(".log").read_text())

    def judge(self, folder: Path, toll: Toll) -> None:
        """Compare a run that has been continued to its end with the undisturbed one."""
        expected = artefacts_of(self.undisturbed)
        lost = [
            item
            for item in expected
            if not is_intact(item, folder) or item not in artefacts_of(folder)
        ]
        starts = Counter(
            e["task"] for e in read_events(folder) if e.get("event") == "start"
        )
        toll.runs += 1
        toll.bytes_lost += sum(item.bytes for item in lost)
        toll.survived += not lost and results_of(folder) == results_of(self.undisturbed)
        toll.recomputed += sum(count - 1 for count in starts.values())


def main() -> None:
    """Prints a row per kind of harm; exits with 1 if a bit was lost."""
    parser = parser_of(str(__doc__))
    parser.add_argument("--kills", type=int, default=30, help="of the driver, at least")
    parser.add_argument("--seed", type=int, default=0, help="of the instants")
    parser.add_argument("--hanford", action="store_true", help="kill the main job too")
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    # a worker that outlives its driver may still write there
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        tolls = list(harm_everything(Path(scratch), arguments))
    if any(toll.survived < toll.runs or toll.bytes_lost for toll in tolls):
        sys.exit("a run did not survive")


def harm_everything(scratch: Path, arguments: argparse.Namespace) -> Iterator[Toll]:
    """One kind of harm after the other; prints its row."""
    draw = random.Random(arguments.seed)
    subject = Subject(scratch / "undisturbed")
    began = time.perf_counter()
    subject.complete(subject.undisturbed)
    seconds = time.perf_counter() - began
    faulty = Subject(scratch / "faulty", words=FAULTY)
    faulty.complete(faulty.undisturbed)
    kinds: dict[str, Callable[[Path], Toll]] = {
        "SIGKILL of driver and all its children": lambda place: kill_drivers(
            subject, place, arguments.kills, seconds, draw
        ),
        "SIGKILL of the driver, workers left alone (processes)": lambda place: (
            kill_parts(subject, place, "driver", 2, draw)
        ),
        "SIGKILL of a worker (processes)": lambda place: kill_parts(
            subject, place, "worker", 3, draw
        ),
        "SIGKILL of the interchange (processes)": lambda place: kill_parts(
            subject, place, "interchange", 2, draw
        ),
        "torn journal": lambda place: harm_files(subject, place, [tear_journal], draw),
        "flipped bit in an artefact": lambda place: harm_files(
            subject, place, [flip_bit], draw
        ),
        "truncated artefact": lambda place: harm_files(
            subject, place, [truncate], draw
        ),
        "full disk (a small tmpfs, for root only)": lambda place: fill_disk(
            subject, place
        ),
        "NaN member and endless member, driver killed": lambda place: kill_drivers(
            faulty, place, 2, seconds, draw
        ),
    }
    if arguments.hanford:
        main_job = Subject(
            scratch / "main_job", "workflows.hanford", ("--size", "smoke")
        )
        began = time.perf_counter()
        main_job.complete(main_job.undisturbed)
        length = time.perf_counter() - began
        kinds["main job: SIGKILL of the driver"] = lambda place: kill_drivers(
            main_job, place, 4, length, draw
        )
    for number, (what, harm) in enumerate(kinds.items()):
        place = scratch / str(number)
        place.mkdir()
        toll = harm(place)
        print_row(toll.row(what), markdown=arguments.markdown)
        yield toll


def kill_drivers(
    subject: Subject, place: Path, n_kills: int, seconds: float, draw: random.Random
) -> Toll:
    """SIGKILL driver and children at random instants, again and again.

    Every other instant is counted from the first task, not from the start of Python.
    """
    toll = Toll()
    while toll.injected < n_kills:
        folder = place / str(toll.runs)
        is_complete = False
        while not is_complete and toll.injected < n_kills:
            n_before = n_started(folder)
            driver = subject.start(folder)
            longest = seconds
            if toll.injected % 2:
                longest = seconds / 4  # of which the start of Python is the most
                while n_started(folder) == n_before and driver.poll() is None:
                    time.sleep(0.005)  # a poll of files that other processes write
            try:
                is_complete = driver.wait(draw.uniform(0.0, longest)) == 0
            except subprocess.TimeoutExpired:
                os.killpg(driver.pid, signal.SIGKILL)
                driver.wait()
                toll.injected += 1
        subject.complete(folder)
        assert_nothing_finished_ran_again(folder)
        subject.judge(folder, toll)
    return toll


def kill_parts(
    subject: Subject, place: Path, part: str, n_kills: int, draw: random.Random
) -> Toll:
    """SIGKILL one process of a run on worker processes, once tasks have finished."""
    toll = Toll()
    for k in range(n_kills):
        folder = place / str(k)
        driver = subject.start(folder, "laptop_htex")
        workers = wait_for_work(folder, draw.randrange(1, 6), driver)
        victims = {
            "driver": [driver.pid],
            "worker": workers,
            "interchange": interchange_of(driver.pid),
        }
        os.kill(draw.choice(victims[part]), signal.SIGKILL)
        toll.injected += 1
        driver.wait(SECONDS_TO_END)
        subject.complete(folder)
        subject.judge(folder, toll)
    return toll


def harm_files(
    subject: Subject,
    place: Path,
    harms: list[Callable[[Path, random.Random], None]],
    draw: random.Random,
) -> Toll:
    """Harm the files of a complete run in some ways at once."""
    toll, folder = Toll(injected=len(harms)), place / "0"
    subject.complete(folder)
    for harm in harms:
        harm(folder, draw)
    subject.complete(folder)
    subject.judge(folder, toll)
    return toll


def tear_journal(folder: Path, draw: random.Random) -> None:
    """Cut the journal at a random byte of its second half."""
    path = folder / "journal.jsonl"
    size = path.stat().st_size
    os.truncate(path, draw.randrange(size // 2, size))


def flip_bit(folder: Path, draw: random.Random) -> None:
    """Alter one bit of a random artefact."""
    path = folder / draw.choice(artefacts_of(folder)).path
    content = bytearray(path.read_bytes())
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    path.write_bytes(content)


def truncate(folder: Path, draw: random.Random) -> None:
    """Cut a random artefact short."""
    item = draw.choice(artefacts_of(folder))
    os.truncate(folder / item.path, draw.randrange(item.bytes))


def fill_disk(subject: Subject, place: Path) -> Toll:
    """Run where the files do not fit, then continue where they do."""
    if os.geteuid() != 0:
        return Toll()
    toll = Toll(injected=1)
    total = sum(item.bytes for item in artefacts_of(subject.undisturbed))
    with small_disk(place / "disk", total // 2) as enlarge:
        folder = place / "disk" / "run"
        if subject.start(folder).wait(SECONDS_TO_END) == 0:
            raise RuntimeError("the disk must be too small for the run; it fitted.")
        enlarge()
        subject.complete(folder)
        subject.judge(folder, toll)
    return toll


@contextmanager
def small_disk(folder: Path, n_bytes: int) -> Iterator[Callable[[], None]]:
    """A file system of some bytes, and what makes it large; for root only."""

    def enlarge() -> None:
        options = "remount,size=64M"
        subprocess.run(["mount", "-o", options, str(folder)], check=True)

    folder.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={n_bytes}", "tmpfs", str(folder)]
    subprocess.run(["mount", *options], check=True)
    try:
        yield enlarge
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def wait_for_work(
    folder: Path, n_lines: int, driver: "subprocess.Popen[bytes]"
) -> list[int]:
    """Wait until the journal has so many lines; workers that have a task then."""
    path = folder / "journal.jsonl"
    while True:
        if driver.poll() is not None:
            raise RuntimeError(folder.with_suffix(".log").read_text())
        has_lines = path.exists() and path.read_bytes().count(b"\n") >= n_lines
        workers = workers_of(folder) if has_lines else []
        if workers:
            return workers
        time.sleep(0.005)  # a poll of files that other processes write


def n_started(folder: Path) -> int:
    """How often a task of a run has begun."""
    return sum(event.get("event") == "start" for event in read_events(folder))


def workers_of(folder: Path) -> list[int]:
    """Numbers of the processes that have begun a task and not ended it."""
    busy = dict[str, int]()
    for event in read_events(folder):
        if event.get("event") == "start":
            busy[event["task"]] = event["pid"]
        if event.get("event") in ("finish", "fail"):
            busy.pop(event["task"], None)
    return sorted(set(busy.values()))


def interchange_of(driver: int) -> list[int]:
    """The process that passes tasks from a driver to its workers."""
    children = psutil.Process(driver).children()
    return [c.pid for c in children if "interchange" in " ".join(c.cmdline())]


def artefacts_of(folder: Path) -> list[Artefact]:
    """What the journal says that a run has left, each once, by path."""
    found = {
        Artefact(**item)
        for line in read_journal(folder / "journal.jsonl")
        for item in line["artefacts"].values()
    }
    return sorted(found, key=lambda item: item.path)


def results_of(folder: Path) -> object:
    """The summary without what names the run or tells its time."""
    summary = json.loads((folder / "summary.json").read_bytes())
    return {k: v for k, v in summary.items() if k not in ("run_id", "timings")}


def assert_nothing_finished_ran_again(folder: Path) -> None:
    """Refuse a journal with two lines for one key; only harmed files excuse that."""
    lines = Counter(line["key"] for line in read_journal(folder / "journal.jsonl"))
    if max(lines.values()) > 1:
        raise RuntimeError(f"a finished task of {folder} was computed again.")


if __name__ == "__main__":
    main()
