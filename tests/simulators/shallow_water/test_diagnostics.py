"""Norms, invariants and spectra against values known by hand."""

import math

import pytest
import torch

from simulators.shallow_water import GRAVITY, ROTATION_RATE, ShallowWater, State
from simulators.shallow_water.diagnostics import (
    error_norms,
    invariants,
    kinetic_energy_spectrum,
    wind_error_norms,
)
from simulators.shallow_water.williamson import (
    MEAN_GEOPOTENTIAL,
    REVOLUTION_SPEED,
    flow_over_mountain,
    mountain_geopotential,
    rossby_haurwitz_wave,
    steady_zonal_flow,
)
from simulators.sphere import SphericalHarmonics, gauss_grid, gauss_grid_for


@pytest.fixture(scope="module")
def t21():
    return SphericalHarmonics(gauss_grid_for(21), 21)


def resting(transform, depth):
    zero = torch.zeros(22, 22, dtype=transform.dtype.to_complex())
    height = zero.clone()
    height[0, 0] = math.sqrt(2) * GRAVITY * depth
    return State(zero, zero, height)


def test_norms_of_known_fields():
    grid = gauss_grid(16, 32)
    sine = grid.latitude.sin()[:, None].expand(grid.shape)
    reference = torch.stack((2 * torch.ones_like(sine), sine))
    norms = error_norms(grid, reference + torch.stack((sine, sine)), reference)
    # I(|sin|) = 1/2 up to the kink at the equator, I(sin^2) = 1/3
    assert norms.l1[0] == pytest.approx(1 / 4, rel=5e-3)
    assert norms.l2[0] == pytest.approx(math.sqrt(1 / 3) / 2, rel=1e-13)
    assert norms.linf[0] == pytest.approx(float(sine.max()) / 2)
    for norm in norms:
        assert norm.shape == (2,)
        assert norm[1] == pytest.approx(1.0, rel=1e-13)


def test_wind_errors_take_the_length_of_the_difference():
    grid = gauss_grid(8, 16)
    one = torch.ones(grid.shape)
    norms = wind_error_norms(grid, (3 * one, 4 * one), (0 * one, 0 * one + 10))
    for norm in norms:
        assert float(norm) == pytest.approx(math.hypot(3, 6) / 10)


def test_a_fluid_at_rest_has_the_invariants_of_its_depth(t21):
    for depth in (1000.0, 3000.0):
        got = invariants(ShallowWater(t21), resting(t21, depth))
        assert float(got.mass) == pytest.approx(depth)
        assert float(got.energy) == pytest.approx(GRAVITY * depth**2 / 2)
        # I(f^2) = 4 Omega^2/3
        expected = 4 * ROTATION_RATE**2 / 3 / (2 * depth)
        assert float(got.potential_enstrophy) == pytest.approx(expected)
        top = 2 * ROTATION_RATE * float(t21.grid.latitude.sin().max()) / depth
        assert float(got.potential_vorticity) == pytest.approx(top)
        assert float(got.mean_vorticity) == 0
        assert float(got.mean_divergence) == 0


def test_energy_of_a_steady_flow(t21):
    got = invariants(ShallowWater(t21), steady_zonal_flow(t21))
    u0, g0 = REVOLUTION_SPEED, MEAN_GEOPOTENTIAL
    c = t21.radius * ROTATION_RATE * u0 + u0**2 / 2
    # means of 1, mu^2, mu^4: 1, 1/3, 1/5; |V|^2 = u0^2 (1 - mu^2)
    kinetic = u0**2 / 2 * (g0 * 2 / 3 - c * (1 / 3 - 1 / 5)) / GRAVITY
    potential = (g0**2 - 2 * g0 * c / 3 + c**2 / 5) / (2 * GRAVITY)
    assert float(got.energy) == pytest.approx(kinetic + potential, rel=1e-13)
    assert float(got.mass) == pytest.approx((g0 - c / 3) / GRAVITY, rel=1e-13)


def test_energy_counts_from_the_ground(t21):
    # at rest and level: h = depth + ground is constant
    mountain = mountain_geopotential(t21)
    level = resting(t21, 3000.0)
    state = State(level.vorticity, level.divergence, level.geopotential - mountain)
    got = invariants(ShallowWater(t21, mountain=mountain), state)
    ground = t21.synthesise(mountain) / GRAVITY
    expected = GRAVITY * (3000.0**2 - t21.grid.area_mean(ground**2)) / 2
    assert float(got.energy) == pytest.approx(float(expected), rel=1e-13)


def test_energy_spectrum_sums_to_the_mean_of_the_squared_wind(t21):
    state = flow_over_mountain(t21)
    noise = torch.randn(22, 22, 2, generator=torch.Generator().manual_seed(0)).double()
    divergence = 1e-6 * torch.view_as_complex(noise).tril()
    divergence[:, 0] = divergence[:, 0].real.to(divergence)
    divergence[0] = 0
    state = State(state.vorticity, divergence, state.geopotential)
    u, v = t21.wind(state.vorticity, state.divergence)
    spectrum = kinetic_energy_spectrum(t21, state)
    expected = t21.grid.area_mean(u**2 + v**2) / 2
    assert float(spectrum.sum()) == pytest.approx(float(expected), rel=1e-12)
    assert float(spectrum[0]) == 0


def test_members_are_diagnosed_one_by_one_in_float64():
    single = SphericalHarmonics(gauss_grid_for(21), 21, dtype=torch.float32)
    states = [steady_zonal_flow(single), rossby_haurwitz_wave(single)]
    batch = State(
        *(
            torch.stack([getattr(s, name) for s in states])
            for name in ("vorticity", "divergence", "geopotential")
        )
    )
    model = ShallowWater(single)
    got = invariants(model, batch)
    for i, state in enumerate(states):
        for value, alone in zip(got, invariants(model, state), strict=True):
            assert value.dtype == torch.float64
            torch.testing.assert_close(value[i], alone, rtol=1e-6, atol=1e-20)
        spectra = kinetic_energy_spectrum(single, batch)
        assert spectra.dtype == torch.float64
        torch.testing.assert_close(
            spectra[i], kinetic_energy_spectrum(single, state), rtol=1e-5, atol=1e-9
        )
