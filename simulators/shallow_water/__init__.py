"""Rotating shallow water on the sphere by the spectral transform method."""

from simulators.shallow_water.constants import EARTH_RADIUS, GRAVITY, ROTATION_RATE
from simulators.shallow_water.diffusion import Diffusion
from simulators.shallow_water.equations import ShallowWater, coriolis_coefficients
from simulators.shallow_water.integration import (
    IntegrationError,
    Snapshot,
    integrate,
)
from simulators.shallow_water.noise import NoiseState, RedNoise, start_noise
from simulators.shallow_water.propagation import (
    Propagator,
    split_fields,
    stack_fields,
)
from simulators.shallow_water.stability import largest_time_step
from simulators.shallow_water.state import State
from simulators.shallow_water.stepping import RungeKutta4, SemiImplicit

__all__ = [
    "EARTH_RADIUS",
    "GRAVITY",
    "ROTATION_RATE",
    "Diffusion",
    "IntegrationError",
    "NoiseState",
    "Propagator",
    "RedNoise",
    "RungeKutta4",
    "SemiImplicit",
    "ShallowWater",
    "Snapshot",
    "State",
    "coriolis_coefficients",
    "integrate",
    "largest_time_step",
    "split_fields",
    "stack_fields",
    "start_noise",
]
