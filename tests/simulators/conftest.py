"""States that the tests of shallow water share."""

import math

import pytest
import torch

from simulators.shallow_water import GRAVITY, State


@pytest.fixture(scope="session")
def random_state():
    return _random_state


def _random_state(truncation, *batch, seed=0, mean_depth_m=1e4):
    """Winds of some 20 m/s and depths within a few hundred metres of the mean."""
    generator = torch.Generator().manual_seed(seed)
    n = truncation + 1
    shape = (3, *batch, n, n, 2)
    noise = torch.randn(*shape, generator=generator, dtype=torch.float64)
    l = torch.arange(n, dtype=torch.float64)[:, None]
    fields = torch.view_as_complex(noise).tril() / (1 + l) ** 2
    fields[..., 0].imag.zero_()
    fields[..., 0, 0] = 0
    vorticity, divergence, geopotential = fields
    geopotential = 3e3 * geopotential
    geopotential[..., 0, 0] = math.sqrt(2) * GRAVITY * mean_depth_m
    return State(2e-5 * vorticity, 2e-6 * divergence, geopotential)
