"""Any Slurm cluster, described by environment variables.

The settings of `workflows.engine.sites.clusters` apply; `HEADRACE_ADDRESS` must be set,
and `HEADRACE_ACCOUNT` where the cluster charges accounts. `HEADRACE_WORKERS` is 1
unless set. Three are of this file alone:

- `HEADRACE_CONSTRAINT`: features that nodes must have
- `HEADRACE_GPUS`: GPUs of a node, one worker for each
- `HEADRACE_SCRATCH`: folder on the parallel file system; default `headrace-scratch`
"""

from parsl.executors.base import ParslExecutor
from parsl.launchers import SrunLauncher

from data.staging import Tier
from workflows.engine.sites.clusters import (
    SlurmBlocks,
    block_options,
    text,
    whole_number,
    worker_pool,
)
from workflows.engine.sites.site import Site

GPUS = whole_number("HEADRACE_GPUS", 1) if text("HEADRACE_GPUS") else 0
WORKERS = whole_number("HEADRACE_WORKERS", GPUS or 1)

SITE = Site(
    name="slurm",
    status="a Slurm cluster, from environment variables; tested on virtual nodes",
    cores_per_node=WORKERS,
    gpus_per_node=GPUS,
    roles={"sim": "nodes", "train": "nodes", "io": "nodes"},
    rank_launch_prefix=("srun", "--overlap", "--cpu-bind=none"),
    tiers=(
        Tier(
            "file_system",
            "${HEADRACE_SCRATCH}",
            None,
            False,
            "site",
            fallback="headrace-scratch",
        ),
    ),
    address=text("HEADRACE_ADDRESS"),
    needs={
        "HEADRACE_ADDRESS": "IP address or network interface where compute nodes "
        "reach the driver, as ib0"
    },
)


def executors() -> list[ParslExecutor]:
    """One pool of workers for every role."""
    provider = SlurmBlocks(
        partition=text("HEADRACE_PARTITION") or None,
        qos=text("HEADRACE_QOS") or None,
        account=text("HEADRACE_ACCOUNT") or None,
        constraint=text("HEADRACE_CONSTRAINT") or None,
        gpus_per_node=GPUS or None,
        scheduler_options=text("HEADRACE_SCHEDULER_OPTIONS"),
        cmd_timeout=60,
        launcher=SrunLauncher(overrides="--cpu-bind=none -c $SLURM_CPUS_ON_NODE"),
        **block_options(nodes=1),
    )
    return [
        worker_pool(
            "nodes", SITE, provider, workers_per_node=WORKERS, gpus_per_node=GPUS
        )
    ]
