"""Any computer: one thread per core in the driver's process; starts in milliseconds."""

import os

from parsl.executors import ThreadPoolExecutor
from parsl.executors.base import ParslExecutor

from workflows.engine.sites.site import Site, local_tiers

CORES = os.cpu_count() or 1

SITE = Site(
    name="laptop",
    status="threads on this computer; tested",
    cores_per_node=CORES,
    gpus_per_node=0,
    roles={"sim": "threads", "train": "threads", "io": "threads"},
    tiers=local_tiers(),
)


def executors() -> list[ParslExecutor]:
    """One pool of threads for every role."""
    return [ThreadPoolExecutor(label="threads", max_threads=CORES)]
