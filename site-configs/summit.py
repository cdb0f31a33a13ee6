"""Summit (OLCF, IBM AC922; retired in 2024): Power9 and V100 nodes under LSF.

The settings of `workflows.engine.sites.clusters` apply, and one of Summit's own:

- `HEADRACE_SPECTRAL_FOLDER`: folder on the parallel file system to which Spectral
  drains what is written below the NVMe, also when the job failed

The NVMe is seen by compute nodes only, which `jsrun` reaches: stage inside tasks.
"""

import shlex

from parsl.executors.base import ParslExecutor
from parsl.launchers import JsrunLauncher

from data.staging import Tier
from workflows.engine.sites.clusters import (
    ACCOUNT,
    LsfBlocks,
    block_options,
    text,
    worker_pool,
)
from workflows.engine.sites.site import Site

CORES, GPUS = 42, 6
NVME = "/mnt/bb/$USER"

SITE = Site(
    name="summit",
    status="Summit at OLCF, retired in 2024; tested on stand-ins for LSF and jsrun",
    cores_per_node=CORES,
    gpus_per_node=GPUS,
    roles={"sim": "cpu", "train": "gpu", "io": "cpu"},
    rank_launch_prefix=("jsrun", "-a", "1", "-c", "7", "-g", "1", "-b", "packed:7"),
    tiers=(
        Tier("nvme", "${BBPATH}", 1_400 * 10**9, True, "node", "/mnt/bb/${USER}"),
        Tier(
            "file_system",
            "/gpfs/alpine/${HEADRACE_ACCOUNT}/scratch/${USER}/headrace",
            None,
            False,
            "site",
        ),
    ),
    address=text("HEADRACE_ADDRESS", "ib0"),
    needs={"HEADRACE_ACCOUNT": ACCOUNT},
)


def executors() -> list[ParslExecutor]:
    """Nodes of one worker a core, and nodes of one worker for each GPU."""
    return [
        _pool("cpu", workers_per_node=CORES),
        _pool("gpu", workers_per_node=GPUS, gpus_per_node=GPUS),
    ]


def _pool(
    label: str, *, workers_per_node: int, gpus_per_node: int = 0
) -> ParslExecutor:
    drain = text("HEADRACE_SPECTRAL_FOLDER")
    flags = '#BSUB -alloc_flags "nvme spectral"' if drain else "#BSUB -alloc_flags nvme"
    directives = (flags, text("HEADRACE_SCHEDULER_OPTIONS"))
    # by default a resource set is one core and no GPU, which starves the workers
    resources = f"-a 1 -c {CORES} -g {gpus_per_node} -b none"
    provider = LsfBlocks(
        project=text("HEADRACE_ACCOUNT"),
        queue=text("HEADRACE_QUEUE") or None,
        scheduler_options="\n".join(filter(None, directives)),
        cmd_timeout=60,
        launcher=JsrunLauncher(overrides=resources),
        **block_options(nodes=2, worker_init=_spectral(drain) if drain else ""),
    )
    return worker_pool(
        label,
        SITE,
        provider,
        workers_per_node=workers_per_node,
        gpus_per_node=gpus_per_node,
    )


def _spectral(folder: str) -> str:
    """Drain the NVMe to the folder, and wait for it however the job ends."""
    return "\n".join(
        [
            "module load spectral",
            f"export PERSIST_DIR={NVME} PFS_DIR={shlex.quote(folder)}",
            "trap spectral_wait.py EXIT",
        ]
    )
