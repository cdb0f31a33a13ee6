"""Where the bytes of a run lie on the way: storage tiers, from fast to lasting."""

from data.staging.private_folders import (
    UntrustedFolderError,
    open_own_file,
    require_private,
)
from data.staging.staging import TASK, Handle, Staging, bytes_by_edge
from data.staging.tiers import Tier

__all__ = [
    "TASK",
    "Handle",
    "Staging",
    "Tier",
    "UntrustedFolderError",
    "bytes_by_edge",
    "open_own_file",
    "require_private",
]
