"""The same one task with plain Parsl and its defaults, on two local processes.

python -m benchmarks.start_up_plain [WORKER_INIT]
"""

import sys
import tempfile

import parsl
from parsl.executors import HighThroughputExecutor
from parsl.providers import LocalProvider

from benchmarks.start_up_steps import plain_answer
from workflows.engine.sites.site import python_commands, worker_environment


def main(worker_init: str) -> None:
    """Prints the answer, or what Parsl says instead."""
    executor = HighThroughputExecutor(
        address="127.0.0.1",
        max_workers_per_node=2,
        cores_per_worker=0.01,
        provider=LocalProvider(  # type: ignore[no-untyped-call]  # parsl
            init_blocks=1, max_blocks=1, worker_init=worker_init
        ),
        **python_commands(),
    )
    with tempfile.TemporaryDirectory() as folder:
        parsl.load(parsl.Config(executors=[executor], run_dir=folder))
        try:
            print(f"answer {parsl.python_app(plain_answer)().result()}", flush=True)
        except Exception as error:
            print(error, flush=True)
        parsl.dfk().cleanup()


if __name__ == "__main__":
    main(sys.argv[1] if sys.argv[1:] else worker_environment())
