"""Random balanced states: spectrum, members, truncations, quiet gravity waves."""

import pytest
import torch

from simulators.random_fields import member_generator
from simulators.shallow_water import GRAVITY, ShallowWater, State
from simulators.shallow_water.diagnostics import kinetic_energy_spectrum
from simulators.shallow_water.random_states import (
    balanced_state,
    peaked_spectrum,
    random_vorticity,
)
from simulators.sphere import SphericalHarmonics, change_truncation, gauss_grid_for

ENERGY = peaked_spectrum(wind=15.0, peak=6, highest=20)
MEAN = 1e4 * GRAVITY


def generators(*members, seed=2):
    return [member_generator(seed, i) for i in members]


@pytest.fixture(scope="module")
def t21():
    return SphericalHarmonics(gauss_grid_for(21), 21)


def test_spectrum_has_its_wind_and_its_peak():
    assert float(ENERGY.sum()) == pytest.approx(15**2 / 2)
    assert int(ENERGY.argmax()) == 6
    assert float(ENERGY[0]) == 0
    with pytest.raises(ValueError, match=r"within 1\.\.20 = highest; got 21"):
        peaked_spectrum(15.0, 21, 20)


def test_members_have_the_expected_energy_spectrum(t21):
    n = 300
    vorticity = random_vorticity(t21, generators(*range(n)), ENERGY)
    zero = torch.zeros_like(vorticity)
    spectra = kinetic_energy_spectrum(t21, State(vorticity, zero, zero))
    mean, l = spectra.mean(0), torch.arange(1, 21)
    # the power of a degree is chi-square with 2 l + 1 degrees of freedom
    score = (mean[1:21] / ENERGY[1:] - 1) / (2 / ((2 * l + 1) * n)).sqrt()
    assert float(score.abs().max()) < 4
    assert float(mean[21]) == 0


def test_a_members_draws_are_its_own_and_real(t21):
    batch = random_vorticity(t21, generators(4, 9), ENERGY)
    alone = random_vorticity(t21, generators(9), ENERGY)
    assert torch.equal(batch[1:], alone)
    assert not torch.equal(batch[0], batch[1])
    assert float(batch[..., 0].imag.abs().max()) == 0
    assert torch.equal(batch, batch.tril())


def test_a_member_is_the_same_at_every_truncation(t21):
    t31 = SphericalHarmonics(gauss_grid_for(31), 31)
    coarse, fine = (
        balanced_state(t, random_vorticity(t, generators(0, 1), ENERGY), MEAN)
        for t in (t21, t31)
    )
    assert torch.equal(coarse.vorticity, change_truncation(fine.vorticity, 21))
    torch.testing.assert_close(
        coarse.geopotential,
        change_truncation(fine.geopotential, 21),
        rtol=0,
        atol=1e-10 * MEAN,
    )


def test_balance_leaves_no_change_of_the_divergence(t21):
    state = balanced_state(t21, random_vorticity(t21, generators(0), ENERGY), MEAN)
    change = ShallowWater(t21).tendency(state).divergence
    forced = t21.laplacian(state.geopotential)
    assert float(change.abs().max()) < 1e-12 * float(forced.abs().max())
    mean = t21.grid.area_mean(t21.synthesise(state.geopotential))
    assert float(mean) == pytest.approx(MEAN)


def test_impossible_states_are_refused(t21):
    with pytest.raises(ValueError, match="end at the truncation 21; got degrees up to"):
        random_vorticity(t21, generators(0), peaked_spectrum(1.0, 6, 30))
    wild = random_vorticity(t21, generators(0), 400 * ENERGY)
    with pytest.raises(ValueError, match="must cover the sphere"):
        balanced_state(t21, wild, MEAN)
