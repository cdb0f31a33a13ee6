"""Perlmutter (NERSC, HPE Cray EX): CPU and A100 nodes under Slurm.

The settings of `workflows.engine.sites.clusters` apply. Compute nodes have no local
disk: /dev/shm is memory, and scratch is a parallel file system of flash, purged after 8
weeks without access.
"""

from parsl.executors.base import ParslExecutor
from parsl.launchers import SrunLauncher

from data.staging import Tier
from workflows.engine.sites.clusters import (
    ACCOUNT,
    SlurmBlocks,
    block_options,
    text,
    worker_pool,
)
from workflows.engine.sites.site import Site

CORES, GPUS = 64, 4

SITE = Site(
    name="perlmutter",
    status="Perlmutter at NERSC; batch scripts tested, never run there",
    cores_per_node=CORES,
    gpus_per_node=GPUS,
    roles={"sim": "cpu", "train": "gpu", "io": "cpu"},
    rank_launch_prefix=("srun", "--overlap", "--cpu-bind=none"),
    tiers=(
        Tier("memory", "/dev/shm/${USER}/headrace", 64 * 10**9, True, "node"),
        Tier("file_system", "${SCRATCH}/headrace", None, False, "site"),
    ),
    address=text("HEADRACE_ADDRESS", "hsn0"),
    needs={"HEADRACE_ACCOUNT": ACCOUNT},
)


def executors() -> list[ParslExecutor]:
    """CPU nodes of 128 workers, and GPU nodes of one worker for each of 4 GPUs."""
    cpu = SlurmBlocks(
        account=text("HEADRACE_ACCOUNT"),
        constraint="cpu",
        launcher=SrunLauncher(overrides="--cpu-bind=none -c 256"),
        **_options(),
    )
    gpu = SlurmBlocks(
        account=text("HEADRACE_ACCOUNT"),
        constraint="gpu",
        gpus_per_node=GPUS,
        launcher=SrunLauncher(overrides="--cpu-bind=none -c 128"),
        **_options(),
    )
    return [
        worker_pool("cpu", SITE, cpu, workers_per_node=128),
        worker_pool("gpu", SITE, gpu, workers_per_node=GPUS, gpus_per_node=GPUS),
    ]


def _options() -> dict[str, object]:
    return {
        "qos": text("HEADRACE_QOS", "regular"),
        "scheduler_options": text("HEADRACE_SCHEDULER_OPTIONS"),
        "cmd_timeout": 120,
        **block_options(nodes=2),
    }
