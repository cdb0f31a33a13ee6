"""Any computer, the way a cluster works: two worker processes behind an interchange.

Everything listens on the loopback address only. Heartbeats are short: a killed worker
is noticed within 2 s, and workers whose driver was killed end within 1 s.
"""

from parsl.executors import HighThroughputExecutor
from parsl.executors.base import ParslExecutor

from workflows.engine.sites.clusters import LocalBlocks
from workflows.engine.sites.failed_blocks import explain_failed_blocks
from workflows.engine.sites.site import (
    Site,
    local_tiers,
    python_commands,
    worker_environment,
)

WORKERS = 2

SITE = Site(
    name="laptop_htex",
    status="two worker processes on this computer; tested",
    cores_per_node=WORKERS,
    gpus_per_node=0,
    roles={"sim": "processes", "train": "processes", "io": "processes"},
    tiers=local_tiers(),
)


def executors() -> list[ParslExecutor]:
    """One pool of worker processes for every role."""
    processes = HighThroughputExecutor(
        label="processes",
        address="127.0.0.1",
        max_workers_per_node=WORKERS,
        cores_per_worker=0.01,  # the cap above counts, also where there is one core
        heartbeat_period=2,
        heartbeat_threshold=20,
        block_error_handler=explain_failed_blocks,
        provider=LocalBlocks(
            init_blocks=1, max_blocks=1, worker_init=worker_environment()
        ),
        **python_commands(are_pools_here=True),
    )
    return [processes]
