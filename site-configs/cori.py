"""Cori (NERSC, Cray XC40; retired in 2023): Haswell and KNL nodes under Slurm.

The settings of `workflows.engine.sites.clusters` apply, and three of Cori's own:

- `HEADRACE_CORI_SIM`: `knl` (default) or `haswell`, the nodes that simulate
- `HEADRACE_BURST_BUFFER_GB`: a DataWarp burst buffer of that size for each job
- `HEADRACE_BURST_BUFFER_NAME`: a persistent reservation that exists, instead
"""

from parsl.executors.base import ParslExecutor
from parsl.launchers import SrunLauncher

from data.staging import Tier
from workflows.engine.sites.clusters import (
    ACCOUNT,
    SlurmBlocks,
    block_options,
    choice,
    text,
    whole_number,
    worker_pool,
)
from workflows.engine.sites.site import Site

SIM = choice("HEADRACE_CORI_SIM", "knl", "haswell")
RESERVATION = text("HEADRACE_BURST_BUFFER_NAME")
BUFFER_GB = text("HEADRACE_BURST_BUFFER_GB")
# one lost node must not end the step; workers place themselves
SRUN = "-K0 -k --cpu-bind=none -c $SLURM_CPUS_ON_NODE"

BURST_BUFFER = Tier(
    name="burst_buffer",
    root=f"${{DW_PERSISTENT_STRIPED_{RESERVATION}}}"
    if RESERVATION
    else "${DW_JOB_STRIPED}",
    capacity_bytes=int(BUFFER_GB) * 10**9 if BUFFER_GB.isdecimal() else None,
    is_volatile=True,  # not safe storage either way: an SSD failure loses data
    scope="site" if RESERVATION else "job",
    fallback="${SCRATCH}/headrace/burst_buffer",
)

SITE = Site(
    name="cori",
    status="Cori at NERSC, retired in 2023; tested on a Slurm of virtual nodes",
    cores_per_node=32,
    gpus_per_node=0,
    roles={"sim": SIM, "train": "haswell", "io": "haswell"},
    rank_launch_prefix=("srun", "--overlap", "--cpu-bind=none"),
    tiers=(
        Tier("memory", "/dev/shm/${USER}/headrace", 16 * 10**9, True, "node"),
        BURST_BUFFER,
        Tier("file_system", "${SCRATCH}/headrace", None, False, "site"),
    ),
    address=text("HEADRACE_ADDRESS", "bond0.144"),
    needs={"HEADRACE_ACCOUNT": ACCOUNT},
)


def executors() -> list[ParslExecutor]:
    """Haswell nodes of 32 workers, and KNL nodes of 68."""
    return [
        _pool("haswell", "haswell", workers_per_node=32),
        _pool("knl", "knl&quad&cache", workers_per_node=68),
    ]


def _pool(label: str, constraint: str, *, workers_per_node: int) -> ParslExecutor:
    directives = (text("HEADRACE_SCHEDULER_OPTIONS"), burst_buffer_directive())
    provider = SlurmBlocks(
        partition=text("HEADRACE_PARTITION", "regular"),
        qos=text("HEADRACE_QOS") or None,
        account=text("HEADRACE_ACCOUNT"),
        constraint=constraint,
        scheduler_options="\n".join(filter(None, directives)),
        cmd_timeout=120,
        launcher=SrunLauncher(overrides=SRUN),
        **block_options(nodes=2),
    )
    return worker_pool(label, SITE, provider, workers_per_node=workers_per_node)


def burst_buffer_directive() -> str:
    """The DataWarp line of a job; empty where no burst buffer was asked for."""
    if RESERVATION:
        return f"#DW persistentdw name={RESERVATION}"
    if not BUFFER_GB:
        return ""
    # a decimal size is silently taken as the smallest there is: whole numbers only
    size = whole_number("HEADRACE_BURST_BUFFER_GB", 1)
    return f"#DW jobdw capacity={size}GB access_mode=striped type=scratch"
