"""Carried vorticity against exact solutions, and against the shallow-water solver."""

import math

import pytest
import torch

from simulators.shallow_water import (
    EARTH_RADIUS,
    GRAVITY,
    ROTATION_RATE,
    ShallowWater,
    stack_fields,
)
from simulators.shallow_water.galewsky import JetParameters, galewsky_jet
from simulators.shallow_water.random_states import (
    balanced_state,
    peaked_spectrum,
    random_vorticity,
)
from simulators.sphere import (
    Diffusion,
    Propagator,
    SemiImplicit,
    SphericalHarmonics,
    gauss_grid_for,
    without_mean,
)
from surrogates.sphere import (
    PotentialVorticityAdvection,
    advection,
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


@pytest.mark.parametrize("tilt", [0.3, math.pi / 2])
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


def test_a_rossby_haurwitz_wave_moves_as_it_must():
    """Of second order in the step, but for the error of interpolation (0.003)."""
    harmonics, last = harmonics_of(42), 6 * HOUR
    first, exact = rossby_haurwitz(harmonics, 0.0), rossby_haurwitz(harmonics, last)
    assert relative_error(harmonics, state_of(harmonics, first), exact) > 0.2
    errors = []
    for n_steps in (1, 2):
        advance = PotentialVorticityAdvection(harmonics, RIGID_LID, last / n_steps)
        found = roll_out(advance, state_of(harmonics, first), n_steps)[:, -1]
        errors.append(relative_error(harmonics, found, exact))
    assert errors[0] < 0.02
    assert math.log2(errors[0] / errors[1]) > 1.6


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


def test_values_are_read_across_the_poles():
    """A smooth field of space, within two rows of either pole."""
    harmonics = harmonics_of(42)
    advance = PotentialVorticityAdvection(harmonics, DEEP, 6 * HOUR)

    def field_at(place):
        x, y, z = place.unbind(-3)
        return (2 * x + 3 * y) * z + x

    finer = advance._finer.grid
    latitude, longitude = torch.meshgrid(
        torch.tensor([89.5, 87.0, 84.0, -84.0, -87.0, -89.5]).double().deg2rad(),
        torch.arange(0, 360, 7.0).double().deg2rad(),
        indexing="ij",
    )

    def on_sphere(latitude, longitude):
        flat = latitude.cos() * longitude.cos(), latitude.cos() * longitude.sin()
        return torch.stack((*flat, latitude.sin()))

    grid = torch.meshgrid(finer.latitude, finer.longitude, indexing="ij")
    values = field_at(on_sphere(*grid))[None, None]
    places = on_sphere(latitude, longitude)[None]
    # without the other side of the pole both are wrong by 0.02 and more
    for mode, tolerance in (("bilinear", 2e-3), ("bicubic", 1e-2)):
        found = advance._read(values, places, mode)[0, 0]
        assert (found - field_at(places[0])).abs().max() < tolerance


def test_geopotential_follows_in_balance(t21, drawn):
    found = PotentialVorticityAdvection(t21, DEEP, 6 * HOUR)(drawn) - drawn
    streamfunction = t21.synthesise(t21.inverse_laplacian(found[:, 0]))
    coriolis = 2 * ROTATION_RATE * t21.grid.latitude.sin()[:, None]
    balanced = without_mean(t21.analyse(coriolis * streamfunction))
    error = (found[:, 2] - balanced).abs().max()
    assert error < 1e-12 * balanced.abs().max()


def test_potential_vorticity_is_that_of_its_formula(t21, drawn):
    """Matrices by order against products on the grid, there and back."""
    advance = PotentialVorticityAdvection(t21, DEEP, 6 * HOUR)
    vorticity = drawn[:, 0]
    found = advection._by_order(advance._stretched, vorticity)
    coriolis = 2 * ROTATION_RATE * t21.grid.latitude.sin()[:, None]
    streamfunction = t21.synthesise(t21.inverse_laplacian(vorticity))
    stretching = t21.analyse(coriolis**2 / DEEP * streamfunction)
    size = vorticity.abs().max()
    assert stretching.abs().max() > 0.1 * size
    assert (found - (vorticity - stretching)).abs().max() < 1e-12 * size
    again = advection._by_order(advance._balanced, found)
    assert (again - vorticity).abs().max() < 1e-12 * size


def test_a_long_interval_is_as_several_short_ones(t21, drawn):
    """Iterations for the middle of a trajectory would not converge in half a day."""
    short = PotentialVorticityAdvection(t21, DEEP, 6 * HOUR)
    long = PotentialVorticityAdvection(t21, DEEP, 12 * HOUR)
    torch.testing.assert_close(long(drawn), short(short(drawn)))


def test_single_precision_and_batches_change_nothing_but_rounding(t21, drawn):
    exact = PotentialVorticityAdvection(t21, DEEP, 6 * HOUR)(drawn)
    single = harmonics_of(21, torch.float32)
    advance = PotentialVorticityAdvection(single, DEEP, 6 * HOUR)
    first = drawn.to(torch.complex64)
    together = advance(first)
    alone = torch.cat([advance(first[k : k + 1]) for k in range(len(first))])
    for found in (together, alone):
        error = (found - exact).abs().amax((0, 2, 3))
        size = exact.abs().amax((0, 2, 3))
        assert (error <= 1e-5 * size).all()


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
