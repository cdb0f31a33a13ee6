"""Where the bytes of a run lie on the way: storage tiers, from fast to lasting."""

from data.staging.staging import TASK, Handle, Staging, bytes_by_edge
from data.staging.tiers import Tier

__all__ = ["TASK", "Handle", "Staging", "Tier", "bytes_by_edge"]
