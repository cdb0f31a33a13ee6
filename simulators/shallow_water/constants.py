"""Constants of the shallow-water test cases (Williamson et al. 1992)."""

from simulators.sphere import EARTH_RADIUS

ROTATION_RATE = 7.292e-5  # [1/s]
GRAVITY = 9.80616  # [m/s2]

__all__ = ["EARTH_RADIUS", "GRAVITY", "ROTATION_RATE"]
