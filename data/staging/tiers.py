"""Storage tiers as a site declares them, and their folders where a process runs."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from data.durable_files import StagingError

_VARIABLE = re.compile(r"\$\{(\w+)\}")


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


def folder_of(tier: Tier, environment: Mapping[str, str]) -> tuple[Path, str | None]:
    """The folder of a tier, and the missing variable if that is its fallback.

    Raises:
        StagingError: a variable is not set and there is no fallback, or the fallback
            has a variable that is not set either.
    """
    missing = _missing_variables(tier.root, environment)
    root = tier.fallback if missing and tier.fallback else tier.root
    if _missing_variables(root, environment):
        fallback = f"the fallback {tier.fallback}" if tier.fallback else "no fallback"
        raise StagingError(
            f"tier {tier.name} must find its folder {tier.root}; the environment "
            f"variable {missing[0]} is not set here and there is {fallback}. Run where "
            "it is set, or give the tier of the site file another fallback."
        )
    folder = Path(_VARIABLE.sub(lambda found: environment[found[1]], root))
    return folder, missing[0] if missing else None


def _missing_variables(root: str, environment: Mapping[str, str]) -> list[str]:
    return [name for name in _VARIABLE.findall(root) if not environment.get(name)]
