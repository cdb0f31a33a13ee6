"""Carried vorticity against exact solutions, and against the shallow-water solver."""

import math

import pytest
import torch

from simulators.shallow_water import (
    EARTH_RADIUS,
    GRAVITY,
    ROTATION_RATE,
    Diffusion,
    Propagator,
    SemiImplicit,
    ShallowWater,
    stack_fields,
)
from simulators.shallow_water.galewsky import JetParameters, galewsky_jet
from simulators.shallow_water.random_states import (
    balanced_state,
    peaked_spectrum,
    random_vorticity,
)
from simulators.sphere import SphericalHarmonics, gauss_grid_for
from surrogates.sphere import (
    PotentialVorticityAdvection,
    one_step_skill,
    pairs_of,
    roll_out,
)

HOUR = 3600.0
RIGID_LID = 1e12  # geopotential of a fluid so deep that its depth does not matter
DEEP = 1e4 * GRAVITY


def harmonics_of(truncation, dtype=torch.float64):
    return SphericalHarmonics(gauss_grid_for(truncation), truncation, dtype=dtype)


@pytest.fixture(scope="module")
def t21():
    return harmonics_of(21)


def state_of(harmonics, vorticity):
    """States of a field of vorticity alone (lat, lon)."""
    coefficients = harmonics.analyse(vorticity)
    zero = torch.zeros_like(coefficients)
    return torch.stack((coefficients, zero, zero))[None]


def relative_error(harmonics, found, vorticity):
    field = harmonics.synthesise(found[0, 0])
    mean = harmonics.grid.area_mean
    return float((mean((field - vorticity) ** 2) / mean(vorticity**2)).sqrt())


def rotating_about(harmonics, direction, rate):
    """Vorticity 2 rate cos(angle from the axis) of a solid rotation."""
    latitude, longitude = torch.meshgrid(
        harmonics.grid.latitude, harmonics.grid.longitude, indexing="ij"
    )
    tilt, turned = direction
    cosine = math.cos(tilt) * latitude.sin()
    cosine += math.sin(tilt) * latitude.cos() * (longitude - turned).cos()
    return 2 * rate * cosine


@pytest.mark.parametrize("tilt", [0.3, math.pi / 2])  # the second crosses the poles
def test_the_axis_of_a_solid_rotation_rests_in_space(t21, tilt):
    """d omega/dt = -Omega x omega: seen from the planet it turns west once a day."""
    rate, hours = 20.0 / EARTH_RADIUS, 1
    advance = PotentialVorticityAdvection(t21, RIGID_LID, hours * HOUR)
    first = rotating_about(t21, (tilt, 0.5), rate)
    found = roll_out(advance, state_of(t21, first), 3)[:, -1]
    turned = 0.5 - ROTATION_RATE * 3 * hours * HOUR
    exact = rotating_about(t21, (tilt, turned), rate)
    assert relative_error(t21, state_of(t21, first), exact) > 0.2
    assert relative_error(t21, found, exact) < 0.01


def rossby_haurwitz(harmonics, time_s, wave=4, rate=7.848e-6):
    """Vorticity of the wave of Williamson et al. (1992), case 6, without divergence.

    It moves east with nu = [R(3 + R) omega - 2 Omega]/[(1 + R)(2 + R)], their eq. 144.
    """
    nu = (wave * (3 + wave) * rate - 2 * ROTATION_RATE) / ((1 + wave) * (2 + wave))
    latitude, longitude = torch.meshgrid(
        harmonics.grid.latitude, harmonics.grid.longitude, indexing="ij"
    )
    sine, cosine = latitude.sin(), latitude.cos()
    waves = sine * cosine**wave * (wave * (longitude - nu * time_s)).cos()
    return 2 * rate * sine - rate * (wave**2 + 3 * wave + 2) * waves


def test_a_rossby_haurwitz_wave_moves_as_it_must_to_second_order():
    harmonics = harmonics_of(42)  # shorter steps show the error of interpolation
    last = 12 * HOUR
    first, exact = rossby_haurwitz(harmonics, 0.0), rossby_haurwitz(harmonics, last)
    assert relative_error(harmonics, state_of(harmonics, first), exact) > 0.2
    errors = []
    for n_steps in (1, 2):
        advance = PotentialVorticityAdvection(harmonics, RIGID_LID, last / n_steps)
        found = roll_out(advance, state_of(harmonics, first), n_steps)[:, -1]
        errors.append(relative_error(harmonics, found, exact))
    assert errors[1] < 0.03
    assert math.log2(errors[0] / errors[1]) > 1.9


@pytest.fixture(scope="module")
def drawn(t21):
    """Random balanced states of long waves."""
    generators = [torch.Generator().manual_seed(k) for k in range(4)]
    vorticity = random_vorticity(t21, generators, peaked_spectrum(15.0, 2, 21))
    return stack_fields(balanced_state(t21, vorticity, DEEP))


def test_a_zonal_jet_stays_what_it_is():
    """80 m/s, 1,700 km in a step: the middle of a trajectory must be found exactly."""
    harmonics = harmonics_of(42)
    state = stack_fields(galewsky_jet(harmonics, JetParameters(bump_height=0.0)))[None]
    advance = PotentialVorticityAdvection(harmonics, DEEP, 6 * HOUR)
    found = roll_out(advance, state, 4)[:, -1]
    vorticity = harmonics.synthesise(state[0, 0])
    assert relative_error(harmonics, found, vorticity) < 0.01


def test_it_does_most_of_what_the_solver_does(t21, drawn):
    model = ShallowWater(t21, diffusion=Diffusion(28 * HOUR))
    solver = Propagator(model, SemiImplicit(1800.0), 6 * HOUR)
    before, after = pairs_of(roll_out(solver, drawn, 4))
    found = PotentialVorticityAdvection(t21, DEEP, 6 * HOUR)(before)
    vorticity, divergence, geopotential = one_step_skill(found, before, after)
    assert vorticity > 0.95
    assert divergence == 0
    assert geopotential > 0.7
    # stretching is what holds the longest waves: a rigid lid has none
    stiff = PotentialVorticityAdvection(t21, RIGID_LID, 6 * HOUR)(before)
    assert one_step_skill(stiff, before, after)[0] < 0.93


def test_means_stay_to_the_bit_and_longitude_does_not_matter(t21, drawn):
    advance = PotentialVorticityAdvection(t21, DEEP, 6 * HOUR)
    found = advance(drawn)
    assert torch.equal(found[..., 0, 0], drawn[..., 0, 0])
    m = torch.arange(22.0, dtype=torch.float64)
    turn = torch.exp(-1j * m * (2 * math.pi * 6 / 64))  # by points of both grids
    error = (advance(drawn * turn) - found * turn).abs().amax((0, 2, 3))
    assert (error <= 1e-12 * found.abs().amax((0, 2, 3))).all()


def test_its_gradient_is_that_of_differences(t21, drawn):
    advance = PotentialVorticityAdvection(t21, DEEP, 6 * HOUR)
    first, direction = drawn[:1], drawn[1:2] - drawn[2:3]
    weights = drawn[3:]

    def value(step):
        later = advance(first + step * direction)
        return (later[:, 0] * weights[:, 0].conj()).real.sum() * 1e10

    step = torch.zeros((), dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(value(step), step)
    h = 1e-6
    difference = float(value(h) - value(-h)) / (2 * h)
    assert difference == pytest.approx(float(slope), rel=1e-4)
