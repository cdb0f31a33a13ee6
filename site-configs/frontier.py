"""Frontier (OLCF, HPE Cray EX): nodes of 64 cores and 8 GPU dies under Slurm.

The settings of `workflows.engine.sites.clusters` apply. Each node lends two NVMe drives
to a job that asks for the constraint `nvme`; they are wiped at its end.
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

CORES, GPUS = 56, 8  # Frontier keeps 8 of 64 cores for the system

SITE = Site(
    name="frontier",
    status="Frontier at OLCF; batch scripts tested, never run there",
    cores_per_node=CORES,
    gpus_per_node=GPUS,
    roles={"sim": "cpu", "train": "gpu", "io": "cpu"},
    rank_launch_prefix=("srun", "--overlap", "--cpu-bind=none"),
    tiers=(
        Tier("nvme", "/mnt/bb/${USER}/headrace", 3 * 10**12, True, "node"),
        Tier(
            "file_system",
            "/lustre/orion/${HEADRACE_ACCOUNT}/scratch/${USER}/headrace",
            None,
            False,
            "site",
        ),
    ),
    address=text("HEADRACE_ADDRESS", "hsn0"),
    needs={"HEADRACE_ACCOUNT": ACCOUNT},
)


def executors() -> list[ParslExecutor]:
    """Nodes of one worker a core, and nodes of one worker for each GPU die."""
    return [
        _pool("cpu", workers_per_node=CORES),
        _pool("gpu", workers_per_node=GPUS, gpus_per_node=GPUS),
    ]


def _pool(
    label: str, *, workers_per_node: int, gpus_per_node: int = 0
) -> ParslExecutor:
    provider = SlurmBlocks(
        partition=text("HEADRACE_PARTITION", "batch"),
        qos=text("HEADRACE_QOS") or None,
        account=text("HEADRACE_ACCOUNT"),
        constraint="nvme",
        gpus_per_node=gpus_per_node or None,
        scheduler_options=text("HEADRACE_SCHEDULER_OPTIONS"),
        cmd_timeout=120,
        launcher=SrunLauncher(overrides=f"--cpu-bind=none -c {CORES}"),
        **block_options(nodes=2),
    )
    return worker_pool(
        label,
        SITE,
        provider,
        workers_per_node=workers_per_node,
        gpus_per_node=gpus_per_node,
    )
