"""Rotating shallow water on the sphere by the spectral transform method."""

from simulators.shallow_water.constants import EARTH_RADIUS, GRAVITY, ROTATION_RATE
from simulators.shallow_water.equations import ShallowWater, coriolis_coefficients
from simulators.shallow_water.state import State, split_fields, stack_fields

__all__ = [
    "EARTH_RADIUS",
    "GRAVITY",
    "ROTATION_RATE",
    "ShallowWater",
    "State",
    "coriolis_coefficients",
    "split_fields",
    "stack_fields",
]
