"""Seconds from a command to what its user waits for, on local processes.

    python -m benchmarks.start_up [--markdown]

That is the first result of a task; the standard error of workers that do not start;
the cause where workers cannot import what a task needs. Peer: plain Parsl.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.rows import parser_of, print_row
from benchmarks.start_up_steps import MISSING
from workflows.engine.sites.site import load_site

CAUSE = "module physics is not known"
BAD_INIT = f"echo {CAUSE} >&2; exit 3"
ENGINE = ("benchmarks.start_up_workflow", "--run-dir")
BROKEN = ("--set", "step=import_missing")
PLAIN = ("benchmarks.start_up_plain",)


def main() -> None:
    """Prints a line or a table row per case."""
    arguments = parser_of(str(__doc__)).parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        site = folder / "bad_init.py"
        text = load_site("laptop_htex").path.read_text()
        good = "worker_init=worker_environment()"
        if good not in text:
            raise ValueError(f"site laptop_htex must have {good}; it has not.")
        site.write_text(text.replace(good, f"worker_init={BAD_INIT!r}"))
        good_site, bad_site = ("--site", "laptop_htex"), ("--site", str(site))
        cases = {
            "first result": (
                seconds_until("answer 42", *ENGINE, f"{folder}/1", *good_site),
                seconds_until("answer 42", *PLAIN),
                3,
            ),
            "stderr of a failing worker_init": (
                seconds_until(CAUSE, *ENGINE, f"{folder}/2", *bad_site),
                seconds_until(CAUSE, *PLAIN, BAD_INIT),
                6,
            ),
            "cause of a broken import": (
                seconds_until(MISSING, *ENGINE, f"{folder}/3", *good_site, *BROKEN),
                None,
                6,
            ),
        }
    for what, (ours, theirs, limit) in cases.items():
        peer = "–" if theirs is None else ""
        if theirs is not None:
            peer = f"plain Parsl: {theirs:.1f} s"
        ratio = "–" if theirs is None or ours is None else f"{ours / theirs:.2f}"
        figure = "not shown" if ours is None else f"{ours:.1f} s (limit {limit} s)"
        print_row((what, figure, peer, ratio), markdown=arguments.markdown)


def seconds_until(words: str, module: str, *rest: str) -> float | None:
    """Seconds from the start of a program until a line of its output has the words.

    None if it ends without.
    """
    began, found = time.perf_counter(), None
    with subprocess.Popen(
        [sys.executable, "-m", module, *rest],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as program:
        for line in program.stdout or ():
            if found is None and words in line:
                found = time.perf_counter() - began
    return found


if __name__ == "__main__":
    main()
