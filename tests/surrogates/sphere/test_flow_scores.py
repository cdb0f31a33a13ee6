"""Scores of rollouts: against the norms of the solver's own diagnostics."""

import math

import pytest
import torch

from simulators.shallow_water import ShallowWater, stack_fields
from simulators.shallow_water.diagnostics import error_norms, invariants
from simulators.shallow_water.galewsky import galewsky_jet
from simulators.sphere import SphericalHarmonics, gauss_grid_for
from surrogates.sphere.flow_scores import horizon, invariant_drifts, vorticity_error


@pytest.fixture(scope="module")
def t21():
    return SphericalHarmonics(gauss_grid_for(21), 21)


def disturbed_jets(harmonics, n):
    """The jet, and jets that are `k` percent stronger."""
    jet = stack_fields(galewsky_jet(harmonics))
    return torch.stack([jet * (1 + k / 100) for k in range(n)])


def test_the_error_is_that_of_the_fields_on_the_grid(t21):
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(3, *t21.grid.shape, generator=generator, dtype=torch.float64)
    truth = disturbed_jets(t21, 2)
    found = truth + t21.analyse(1e-6 * noise)
    fields, reference = (t21.synthesise(x)[:, 0] for x in (found, truth))
    expected = error_norms(t21.grid, fields, reference).l2
    torch.testing.assert_close(vorticity_error(found, truth), expected)
    assert expected.min() > 0.01


def test_a_horizon_ends_at_the_first_lead_beyond_its_limit():
    limits = torch.full((4,), 0.5)
    assert horizon(torch.tensor([0.1, 0.4, 0.6, 0.2]), limits) == 2
    assert horizon(torch.tensor([0.1, math.nan, 0.2, 0.2]), limits) == 1
    assert horizon(torch.tensor([0.9, 0.1, 0.1, 0.1]), limits) == 0
    assert horizon(torch.tensor([0.1, 0.2, 0.3, 0.5]), limits) == 4


def test_drifts_are_those_of_the_invariants(t21):
    model, flows = ShallowWater(t21), disturbed_jets(t21, 3)[None]
    drifts = invariant_drifts(model, flows)
    jet = invariants(model, galewsky_jet(t21))
    # one percent more of everything is one percent more mass; energy is no multiple
    torch.testing.assert_close(
        drifts.mass[0], torch.tensor([0.0, 0.01, 0.02], dtype=torch.float64)
    )
    later = flows[0, 2]
    energy = invariants(model, type(galewsky_jet(t21))(*later.unbind(0))).energy
    assert drifts.energy[0, 2].item() == pytest.approx(float(energy / jet.energy) - 1)
    assert drifts.potential_enstrophy[0, 0].item() == 0
