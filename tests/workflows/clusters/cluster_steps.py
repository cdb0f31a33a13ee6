"""Steps that say where they run."""

import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from string import Template

from workflows.engine.files.artefacts import Manifest

VARIABLES = ("SLURMD_NODENAME", "SLURM_JOB_NUM_NODES", "PMIX_RANK")


@dataclass(frozen=True)
class Meeting:
    """Tasks that wait for each other: they end only where all run at once."""

    name: str
    member: int
    n_members: int
    buffer: str = ""


def meet(record, folder, log):
    (folder / f"{record.name}-{record.member}").touch()
    deadline = time.monotonic() + 120
    while len(list(folder.glob(f"{record.name}-*"))) < record.n_members:
        if time.monotonic() > deadline:
            raise ValueError(f"{record.n_members} workers must run at once")
        time.sleep(0.05)  # a poll of files that other processes write
    facts = {name: os.environ.get(name) for name in VARIABLES}
    facts["accelerator"] = os.environ.get("CUDA_VISIBLE_DEVICES")
    facts["host"] = socket.gethostname()
    if record.buffer:
        root = Path(Template(record.buffer).substitute(os.environ))
        root.mkdir(parents=True, exist_ok=True)
        path = root / f"{record.name}-{record.member}"
        path.write_bytes(bytes(1 << 20))
        facts["buffered"] = str(path)
    return Manifest({}, facts)
