"""Parsl's own benchmark, `parsl-perf`, on a site: tasks per second of doing nothing.

    python -m benchmarks.parsl_perf --site NAME [arguments of parsl-perf]

The program reads this very file and takes `fresh_config()`. Parsl's files go to
`runs/parsl_perf`, which nodes of a cluster see too.
"""

import argparse
import os
import subprocess
import sys

import parsl

from workflows.engine.files.run_folder import runs_folder
from workflows.engine.sites.site import load_site, require_environment

PROGRAM = "from parsl.benchmark.perf import cli_run; cli_run()"


def fresh_config() -> parsl.Config:
    """The executors of the site that $HEADRACE_SITE names, with nothing of the engine.

    Raises:
        ValueError: if the site needs what the environment lacks.
    """
    site_file = load_site(os.environ.get("HEADRACE_SITE", "laptop"))
    require_environment(site_file.site)
    return parsl.Config(
        executors=site_file.executors(),
        run_dir=str(runs_folder("parsl_perf").absolute()),
        initialize_logging=False,
        strategy_period=0.1,
        usage_tracking=0,
    )


def main() -> None:
    """Runs parsl-perf on the site; ends with its exit code."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--site", default=os.environ.get("HEADRACE_SITE", "laptop"))
    arguments, rest = parser.parse_known_args()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "--config", __file__, *rest],
        env={**os.environ, "HEADRACE_SITE": arguments.site},
        check=False,
    )
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()
