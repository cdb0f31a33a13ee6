"""Flows carried ahead by an interval: the numbers of `integrate`, member by member."""

import pytest
import torch

from simulators.shallow_water import (
    IntegrationError,
    Propagator,
    SemiImplicit,
    ShallowWater,
    integrate,
    split_fields,
    stack_fields,
)
from simulators.shallow_water.williamson import rossby_haurwitz_wave, steady_zonal_flow
from simulators.sphere import SphericalHarmonics, gauss_grid_for

HOUR = 3600.0


@pytest.fixture(scope="module")
def t21():
    return SphericalHarmonics(gauss_grid_for(21), 21)


@pytest.fixture(scope="module")
def flows(t21):
    states = [steady_zonal_flow(t21), rossby_haurwitz_wave(t21)]
    return torch.stack([stack_fields(state) for state in states])


@pytest.fixture(scope="module")
def propagator(t21):
    return Propagator(ShallowWater(t21), SemiImplicit(HOUR / 2), 6 * HOUR)


def test_stacked_fields_are_the_state(flows):
    again = stack_fields(split_fields(flows))
    assert torch.equal(again, flows)


def test_an_interval_is_that_of_integrate(propagator, flows):
    (later,) = integrate(
        propagator.model, split_fields(flows), propagator.scheme, 6 * HOUR
    )
    assert torch.equal(propagator(flows), stack_fields(later.state))


def test_a_flow_that_the_model_refuses_is_nan_and_the_others_go_on(propagator, flows):
    too_fast = 10 * flows[:1]
    mixed = torch.cat([flows[:1], too_fast, flows[1:]])
    with pytest.raises(ValueError, match="time_step_s"):
        [*integrate(propagator.model, split_fields(mixed), propagator.scheme, HOUR)]
    later = propagator(mixed)
    assert later[1].isnan().all()
    alone = propagator(flows)
    # chunks of other sizes round otherwise
    wrong = (later[::2] - alone).abs().amax((0, 2, 3)) / alone.abs().amax((0, 2, 3))
    assert (wrong < 1e-10).all()


def test_a_flow_that_loses_its_fluid_on_the_way_is_nan(t21, flows):
    # divergence of 1e-3 1/s empties a hemisphere within an hour
    broken = flows[:1].clone()
    broken[:, 1, 1, 0] = 1e-3
    model = ShallowWater(t21)
    with pytest.raises((IntegrationError, ValueError)):
        [*integrate(model, split_fields(broken), SemiImplicit(600.0), 6 * HOUR)]
    assert Propagator(model, SemiImplicit(600.0), 6 * HOUR)(broken).isnan().all()


def test_coefficients_of_another_truncation_are_refused(propagator, flows):
    with pytest.raises(ValueError, match=r"\(members, 3, 22, 22\)"):
        propagator(flows[..., :-1, :-1])
