"""Tendencies against a plain form on the grid, exact states and invariants."""

import math

import pytest
import torch

from simulators.shallow_water import ROTATION_RATE, ShallowWater, State
from simulators.shallow_water.equations import coriolis_coefficients
from simulators.sphere import (
    EARTH_RADIUS,
    SphericalHarmonics,
    equiangular_grid,
    gauss_grid,
    gauss_grid_for,
)


def plain_tendency(harmonics, state, coriolis, mountain):
    """The equations with the simple transforms, one product at a time."""
    u, v = harmonics.wind(state.vorticity, state.divergence)
    absolute = harmonics.synthesise(state.vorticity + coriolis)
    geopotential = harmonics.synthesise(state.geopotential)
    curl, divergence = harmonics.vorticity_divergence(absolute * u, absolute * v)
    _, mass = harmonics.vorticity_divergence(geopotential * u, geopotential * v)
    energy = harmonics.analyse((u**2 + v**2) / 2)
    total = state.geopotential + mountain + energy
    return State(-divergence, curl - harmonics.laplacian(total), -mass)


def fields_of(state):
    return state.vorticity, state.divergence, state.geopotential


@pytest.mark.parametrize("truncation", [5, 21, 42])
def test_tendency_is_that_of_the_plain_equations(truncation, random_state):
    harmonics = SphericalHarmonics(gauss_grid_for(truncation), truncation)
    coriolis = coriolis_coefficients(harmonics, axis_angle=0.7)
    mountain = random_state(truncation, seed=5).geopotential
    model = ShallowWater(harmonics, coriolis, mountain)
    state = random_state(truncation, 2, 3)
    got = model.tendency(state)
    expected = plain_tendency(harmonics, state, coriolis, mountain)
    for x, y in zip(fields_of(got), fields_of(expected), strict=True):
        assert x.shape == state.vorticity.shape
        assert (x - y).abs().max() < 1e-11 * y.abs().max()


@pytest.mark.parametrize("angle", [0.0, math.pi / 4, math.pi / 2 - 0.05])
def test_steady_solid_body_rotation_has_no_tendency(angle):
    harmonics = SphericalHarmonics(gauss_grid_for(42), 42)
    grid = harmonics.grid
    coriolis = coriolis_coefficients(harmonics, axis_angle=angle)
    speed = 2 * math.pi * EARTH_RADIUS / (12 * 86400)
    k = harmonics.synthesise(coriolis) / (2 * ROTATION_RATE)
    factor = EARTH_RADIUS * ROTATION_RATE * speed + speed**2 / 2
    state = State(
        coriolis * (speed / (EARTH_RADIUS * ROTATION_RATE)),
        torch.zeros_like(coriolis),
        harmonics.analyse(2.94e4 - factor * k**2),
    )
    u, _ = harmonics.wind(state.vorticity, state.divergence)
    exact = math.cos(angle) * grid.latitude.cos()[:, None] + (
        math.sin(angle) * grid.latitude.sin()[:, None] * torch.cos(grid.longitude)
    )
    torch.testing.assert_close(u, speed * exact, rtol=0, atol=1e-12)
    rate = ShallowWater(harmonics, coriolis).tendency(state)
    # per second; one part in 1e12 of the fields in a day
    assert rate.vorticity.abs().max() < 1e-22
    assert rate.divergence.abs().max() < 1e-20
    assert rate.geopotential.abs().max() < 1e-12


def test_means_do_not_change(random_state):
    harmonics = SphericalHarmonics(gauss_grid_for(21), 21)
    rate = ShallowWater(harmonics).tendency(random_state(21, 4))
    for field in fields_of(rate):
        assert (field[..., 0, 0] == 0).all()


def test_a_member_does_not_depend_on_its_batch(random_state):
    harmonics = SphericalHarmonics(gauss_grid_for(21), 21)
    model, state = ShallowWater(harmonics), random_state(21, 5)
    together = model.tendency(state)
    for i in range(5):
        alone = model.tendency(State(*(x[i] for x in fields_of(state))))
        for x, y in zip(fields_of(together), fields_of(alone), strict=True):
            assert (x[i] - y).abs().max() < 1e-13 * y.abs().max()


def test_forcing_is_added(random_state):
    harmonics = SphericalHarmonics(gauss_grid_for(21), 21)
    added, state = random_state(21, seed=7), random_state(21, 2)

    def forcing(time_s):
        return State(*(x * time_s for x in fields_of(added)))

    plain = ShallowWater(harmonics).tendency(state)
    forced = ShallowWater(harmonics, forcing=forcing).tendency(state, 2.0)
    for x, y, z in zip(*map(fields_of, (forced, plain, added)), strict=True):
        torch.testing.assert_close(x, y + 2 * z, rtol=1e-13, atol=1e-13 * z.abs().max())


def test_tables_follow_the_device():
    model = ShallowWater(
        SphericalHarmonics(gauss_grid_for(21), 21, dtype=torch.float32, device="meta")
    )
    n = 22
    field = torch.zeros(2, n, n, dtype=torch.complex64, device="meta")
    assert model.tendency(State(field, field, field)).divergence.is_meta


def test_bad_models_and_states_are_refused(random_state):
    with pytest.raises(ValueError, match=r"must not alias.*Use T <= 42"):
        ShallowWater(SphericalHarmonics(gauss_grid(64, 128), 60))
    with pytest.raises(ValueError, match=r"must not alias"):
        ShallowWater(SphericalHarmonics(equiangular_grid(64, 128), 31))
    with pytest.raises(ValueError, match=r"multiples of 4; got 32 x 66"):
        ShallowWater(SphericalHarmonics(gauss_grid(32, 66), 21))
    harmonics = SphericalHarmonics(gauss_grid_for(21), 21)
    with pytest.raises(ValueError, match="positive and finite"):
        ShallowWater(harmonics, reference_geopotential=0.0)
    model = ShallowWater(harmonics)
    with pytest.raises(ValueError, match=r"must all be \(\.\.\., 22, 22\)"):
        model.tendency(random_state(31))
    state = State(*(x.to(torch.complex64) for x in fields_of(random_state(21))))
    with pytest.raises(TypeError, match="complex128"):
        model.tendency(state)
