"""Where the bytes of a run lie on the way: storage tiers, from fast to lasting."""

from data.staging.tiers import Tier

__all__ = ["Tier"]
