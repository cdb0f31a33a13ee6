"""A storage tier as a site declares it."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Tier:
    """One place for bytes; a site lists its tiers from the fastest to the last.

    Attributes:
        name: `memory`, `nvme`, `burst_buffer` or `file_system`.
        root: folder; `${NAME}` stands for an environment variable where a task runs.
        capacity_bytes: that a run may fill; None if only the device limits it.
        is_volatile: what lies there may vanish with the node or the job.
        scope: who sees the same folder: the processes of one node, the nodes of one
            job, or every machine of the site.
        fallback: folder to use instead where a variable of the root is not set.
    """

    name: str
    root: str
    capacity_bytes: int | None
    is_volatile: bool
    scope: Literal["node", "job", "site"]
    fallback: str | None = None
