"""Flows carried ahead by an interval: the numbers of `integrate`, member by member."""

import math

import pytest
import torch

from simulators.shallow_water import GRAVITY, ShallowWater, split_fields, stack_fields
from simulators.shallow_water.williamson import rossby_haurwitz_wave, steady_zonal_flow
from simulators.sphere import (
    IntegrationError,
    Propagator,
    RungeKutta4,
    SemiImplicit,
    SphericalHarmonics,
    StartError,
    gauss_grid_for,
    integrate,
)

HOUR = 3600.0


@pytest.fixture(scope="module")
def t21():
    return SphericalHarmonics(gauss_grid_for(21), 21)


@pytest.fixture(scope="module")
def flows(t21):
    states = [steady_zonal_flow(t21), rossby_haurwitz_wave(t21)]
    return torch.stack([stack_fields(state) for state in states])


@pytest.fixture(scope="module")
def too_fast(flows):
    """390 m/s over the depth of the first flow."""
    return flows[:1] * torch.tensor([10.0, 10.0, 1.0])[:, None, None]


@pytest.fixture(scope="module")
def propagator(t21):
    return Propagator(ShallowWater(t21), SemiImplicit(HOUR / 2), 6 * HOUR)


def run(propagator, fields):
    """The same interval by `integrate`."""
    state = split_fields(fields)
    (later,) = integrate(
        propagator.model, state, propagator.scheme, propagator.interval_s
    )
    return stack_fields(later.state)


def is_nan(fields):
    """Members that are NaN throughout; none may be in part."""
    found = fields.isnan().flatten(1)
    assert torch.equal(found.any(1), found.all(1))
    return found.all(1).tolist()


def test_stacked_fields_are_the_state(flows):
    again = stack_fields(split_fields(flows))
    assert torch.equal(again, flows)


def test_an_interval_is_that_of_integrate(propagator, flows):
    assert torch.equal(propagator(flows), run(propagator, flows))


def test_gradients_are_those_of_integrate(propagator, flows):
    found = []
    for advance in (propagator, lambda fields: run(propagator, fields)):
        leaf = flows.clone().requires_grad_()
        found += torch.autograd.grad(advance(leaf).abs().square().sum(), leaf)
    assert torch.equal(*found)


def test_a_flow_that_the_model_refuses_is_nan_and_the_others_go_on(
    propagator, flows, too_fast
):
    mixed = torch.cat([flows[:1], too_fast, flows[1:]])
    with pytest.raises(StartError, match="time_step_s"):
        run(propagator, mixed)
    for later in (propagator(mixed), propagator.follow(mixed)):
        assert is_nan(later) == [False, True, False]
        alone = propagator(flows)
        # chunks of other sizes round otherwise
        wrong = (later[::2] - alone).abs().amax((0, 2, 3)) / alone.abs().amax((0, 2, 3))
        assert (wrong < 1e-10).all()


def test_a_flow_that_is_not_sound_or_too_deep_is_nan(propagator, flows):
    dry, deep = flows[:1].clone(), flows[:1].clone()
    dry[:, 2, 0, 0] = 0
    deep[:, 2, 0, 0] = math.sqrt(2) * GRAVITY * 3e4  # the reference is that of 1e4 m
    nan = torch.full_like(dry, torch.nan)
    later = propagator(torch.cat([dry, deep, nan, flows]))
    assert is_nan(later) == [True, True, True, False, False]
    # nothing that is wrong with a state is an error of the set-up
    assert is_nan(propagator(torch.cat([dry, nan]))) == [True, True]
    assert is_nan(propagator(nan)) == [True]


def test_a_flow_that_loses_its_fluid_on_the_way_is_nan(t21, flows):
    broken = flows[:1].clone()
    broken[:, 1, 1, 0] = 3e-4  # divergence that empties a hemisphere within hours
    advance = Propagator(ShallowWater(t21), SemiImplicit(200.0), 6 * HOUR)
    with pytest.raises(IntegrationError, match="positive depth"):
        run(advance, broken)
    assert is_nan(advance(broken)) == [True]
    assert is_nan(advance(torch.cat([broken, flows]))) == [True, False, False]


@pytest.mark.parametrize(
    ("reference", "scheme", "message"),
    [
        (1e5, RungeKutta4(2 * HOUR), "time_step_s must be at most"),
        (1e5, SemiImplicit(6 * HOUR), "time_step_s must be at most"),
        (1e3, SemiImplicit(600.0), "reference_geopotential must be at least half"),
    ],
)
def test_a_set_up_that_no_flow_can_be_run_with_is_refused_as_by_integrate(
    t21, flows, reference, scheme, message
):
    model = ShallowWater(t21, reference_geopotential=reference)
    wrong = Propagator(model, scheme, 6 * HOUR)
    with pytest.raises(ValueError, match=message) as expected:
        run(wrong, flows)
    with pytest.raises(ValueError, match=message) as found:
        wrong(flows)
    assert str(found.value) == str(expected.value)
    with pytest.raises(ValueError, match=message):  # whatever else is in the batch
        wrong(torch.cat([torch.full_like(flows, torch.nan), flows]))
    with pytest.raises(ValueError, match=message):
        wrong.check(flows[:1])


def test_a_rollout_goes_on_where_the_model_can_follow_no_flow(propagator, too_fast):
    with pytest.raises(StartError, match="time_step_s"):
        propagator(too_fast)
    assert is_nan(propagator.follow(too_fast)) == [True]


@pytest.mark.parametrize("interval_s", [0.0, -HOUR, math.inf, math.nan])
def test_an_interval_that_is_none_is_refused(propagator, interval_s):
    with pytest.raises(ValueError, match="interval_s must be positive and finite"):
        Propagator(propagator.model, propagator.scheme, interval_s)


def test_coefficients_of_another_model_are_refused(propagator, flows):
    for advance in (propagator, propagator.follow):
        with pytest.raises(ValueError, match=r"\(members, 3, 22, 22\)"):
            advance(flows[..., :-1, :-1])
        with pytest.raises(ValueError, match=r"\(members, 3, 22, 22\)"):
            advance(flows[:, :2])
        with pytest.raises(TypeError, match="complex128"):
            advance(flows.to(torch.complex64))
