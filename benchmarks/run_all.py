"""Runs every benchmark and writes `benchmarks/RESULTS.md`: `make bench`."""

import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).parent
USUAL = ("what", "figure", "peer", "ratio")
BENCHMARKS = {
    "flow_solver": USUAL,
    "surrogate_accuracy": USUAL,
    "pigan": ("what", "head", "ln T", "one core"),
    "pigan_one_dimension": ("what", "u", "k", "one core"),
    "ensemble_statistics": USUAL,
    "start_up": USUAL,
    "staging": USUAL,
    "steering": USUAL,
    "shallow_water_speed": USUAL,
    "shallow_water_accuracy": USUAL,
    "shallow_water_surrogates": USUAL,
    "main_job": USUAL,
    "engine": USUAL,
    "taskbench": USUAL,
    "chaos": ("harm", "injected", "tasks started again", "bytes lost"),
}


def main() -> None:
    """Runs the benchmarks one after the other; each prints table rows."""
    parts = [
        "# Benchmark results",
        "",
        f"`make bench`, {datetime.now(UTC):%Y-%m-%d}, {describe_machine()}",
    ]
    for name, columns in BENCHMARKS.items():
        command = f"python -m benchmarks.{name}"
        print(command, flush=True)
        finished = subprocess.run(
            [sys.executable, "-m", f"benchmarks.{name}", "--markdown"],
            capture_output=True,
            text=True,
            check=False,
            cwd=HERE.parent,
        )
        if finished.returncode != 0:
            sys.exit(f"{command} failed:\n{finished.stderr}")
        header = f"| {' | '.join(columns)} |\n|---|---|---|---|"
        parts += ["", f"## `{command}`", "", header, finished.stdout.rstrip()]
    (HERE / "RESULTS.md").write_text("\n".join(parts) + "\n")


def describe_machine() -> str:
    """Processor, cores and versions that decide the figures."""
    import numpy as np
    import torch

    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.split(":")[1].strip() for line in lines if "model name" in line]
    return (
        f"{names[0] if names else platform.machine()}, {len(names)} cores shared with "
        f"other work, Python {platform.python_version()}, torch {torch.__version__}, "
        f"NumPy {np.__version__}"
    )


if __name__ == "__main__":
    main()
