"""Red noise: variance, memory, and draws that depend on the own seed only."""

import math

import pytest
import torch

from simulators.shallow_water import ShallowWater, State
from simulators.sphere import (
    RedNoise,
    RungeKutta4,
    SemiImplicit,
    Snapshot,
    SphericalHarmonics,
    gauss_grid_for,
    integrate,
    power_spectrum,
    start_noise,
)
from simulators.sphere.noise import NoiseStepper

NOISE = RedNoise(amplitude=3e-10, correlation_time_s=7200.0, wavenumbers=(4, 6))


def generators_of(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def test_noise_has_its_amplitude_on_its_ring_only():
    stepper = NoiseStepper(start_noise(NOISE, generators_of(*range(400))), 600.0)
    for _ in range(5):
        spectrum = power_spectrum(stepper.coefficients(21)).mean(0)
        assert (spectrum[:4] == 0).all()
        assert (spectrum[7:] == 0).all()
        # 400 members of 33 numbers: 1.2 % of sampling error
        assert abs(spectrum.sum() / NOISE.amplitude**2 - 1) < 0.05
        per_mode = spectrum[4:7] / torch.tensor([9.0, 11.0, 13.0])
        assert per_mode.max() / per_mode.min() < 1.15
        stepper.advance()


def test_noise_forgets_in_its_correlation_time():
    stepper = NoiseStepper(start_noise(NOISE, generators_of(*range(400))), 600.0)
    first = torch.view_as_real(stepper.coefficients(21))
    for _ in range(12):
        stepper.advance()
    later = torch.view_as_real(stepper.coefficients(21))
    correlation = (first * later).sum() / (first**2).sum()
    assert abs(correlation - math.exp(-1)) < 0.03


def test_a_member_draws_from_its_own_seed_only():
    together = NoiseStepper(start_noise(NOISE, generators_of(1, 2, 3)), 600.0)
    alone = NoiseStepper(start_noise(NOISE, generators_of(2)), 600.0)
    for _ in range(3):
        assert torch.equal(together.coefficients(21)[1], alone.coefficients(21)[0])
        together.advance()
        alone.advance()


@pytest.mark.parametrize("scheme", [RungeKutta4(900.0), SemiImplicit(900.0)])
def test_noise_forces_vorticity(scheme):
    """From rest, over a time in which the noise does not change."""
    harmonics = SphericalHarmonics(gauss_grid_for(21), 21)
    model = ShallowWater(harmonics, torch.zeros(22, 22, dtype=torch.complex128))
    noise = RedNoise(1e-12, 1e9, (4, 6))
    state = start_noise(noise, generators_of(5))
    zero = torch.zeros(1, 22, 22, dtype=torch.complex128)
    depth = zero.clone()
    depth[..., 0, 0] = math.sqrt(2) * 1e5
    start = Snapshot(0.0, State(zero, zero, depth), noise=state)
    *_, end = integrate(model, start, scheme, 7200.0)
    expected = 7200.0 * NoiseStepper(state, 900.0).coefficients(21)
    error = (end.state.vorticity - expected).abs().max()
    assert error < 0.02 * expected.abs().max()


def test_bad_noise_is_refused():
    with pytest.raises(ValueError, match="lowest <= highest"):
        RedNoise(1e-10, 7200.0, (6, 4))
    with pytest.raises(ValueError, match="amplitude must be positive"):
        RedNoise(0.0, 7200.0, (4, 6))
    harmonics = SphericalHarmonics(gauss_grid_for(5), 5)
    state = State(*torch.zeros(3, 1, 6, 6, dtype=torch.complex128))
    state.geopotential[..., 0, 0] = 1e5
    start = Snapshot(0.0, state, noise=start_noise(NOISE, generators_of(1)))
    run = integrate(ShallowWater(harmonics), start, RungeKutta4(60.0), 60.0)
    with pytest.raises(ValueError, match=r"up to 6; a model of truncation 5"):
        next(run)
