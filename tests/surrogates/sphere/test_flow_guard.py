"""The guard: which states it stops, and that the model then does the interval."""

import pytest
import torch

from simulators.shallow_water import ShallowWater, stack_fields
from simulators.shallow_water.galewsky import galewsky_jet, sample_jet_parameters
from simulators.sphere import (
    Propagator,
    RungeKutta4,
    SphericalHarmonics,
    gauss_grid_for,
    integrate,
)
from surrogates.sphere.flow_guard import (
    QUANTITIES,
    Guard,
    flow_quantities,
    guard_of,
    roll_out_guarded,
)
from surrogates.sphere.flow_scores import vorticity_error

HOUR = 3600.0


@pytest.fixture(scope="module")
def model():
    return ShallowWater(SphericalHarmonics(gauss_grid_for(21), 21))


@pytest.fixture(scope="module")
def flows(model):
    """Three jets for a day, every six hours, (member, time, 3, l, m)."""
    generators = [torch.Generator().manual_seed(k) for k in range(3)]
    first = galewsky_jet(model.harmonics, sample_jet_parameters(generators))
    snapshots = integrate(model, first, RungeKutta4(900.0), 24 * HOUR, 6 * HOUR)
    states = [first, *(snapshot.state for snapshot in snapshots)]
    return torch.stack([stack_fields(state) for state in states], dim=1)


@pytest.fixture(scope="module")
def advance(model):
    return Propagator(model, RungeKutta4(900.0), 6 * HOUR)


class Failing:
    """A network that carries flows as the model does, but not the second member."""

    def __init__(self, advance, factor):
        self.advance, self.factor = advance, factor

    def __call__(self, states):
        later = self.advance(states).clone()
        later[1] = later[1] * self.factor
        return later


def anything():
    infinite = torch.full((len(QUANTITIES),), torch.inf, dtype=torch.float64)
    return Guard(-infinite, infinite)


def test_the_integrals_of_the_equations_do_not_drift(model, flows):
    values = flow_quantities(model, flows[:, -1], flows[:, 0])
    assert values.shape == (3, len(QUANTITIES))
    # integrals of the equations; a step of 900 s at T21 leaves 2e-5 in a day
    assert values[:, 0].abs().max() < 1e-4
    assert values[:, 1].abs().max() < 1e-3


@pytest.mark.parametrize("margin", [0.0, 0.2])
def test_a_guard_lets_its_own_flows_pass(model, flows, margin):
    guard = guard_of(model, flows, margin)
    for time in range(flows.shape[1]):
        values = flow_quantities(model, flows[:, time], flows[:, 0])
        assert not guard.is_outside(values).any()


def test_a_wider_margin_lets_more_pass(model, flows):
    narrow, wide = (guard_of(model, flows[:2], margin) for margin in (0.0, 100.0))
    values = flow_quantities(model, flows[2:, -1], flows[2:, 0])
    assert narrow.is_outside(values).sum() > wide.is_outside(values).sum()


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (lambda x: torch.full_like(x, torch.nan), set(QUANTITIES)),
        (lambda x: x * torch.tensor([2.0, 1, 1])[:, None, None], {"largest vorticity"}),
        (
            lambda x: x * torch.tensor([1, 1e3, 1])[:, None, None],
            {"largest divergence"},
        ),
        (lambda x: x * torch.tensor([1, 1, 0.5])[:, None, None], {"lowest depth"}),
    ],
)
def test_a_guard_names_what_is_outside(model, flows, change, names):
    guard = guard_of(model, flows, 0.1)
    values = flow_quantities(model, change(flows[:, -1]), flows[:, 0])
    outside = guard.is_outside(values)
    for name in names:
        assert outside[:, QUANTITIES.index(name)].all()
    assert not guard.is_outside(flow_quantities(model, flows[:, -1], flows[:, 0])).any()


@pytest.mark.parametrize("factor", [1.5, torch.nan])
def test_the_model_does_what_the_network_cannot(model, flows, advance, factor):
    guard = guard_of(model, flows, 0.5)
    network = Failing(advance, factor)
    found = roll_out_guarded(network, model, guard, advance, flows[:, 0], 3)
    expected = [flows[:, 0]]
    for _ in range(3):
        expected.append(advance(expected[-1]))
    # the batch of one that the model carries is not the batch of three to the bit
    error = vorticity_error(found.flows, torch.stack(expected, dim=1))
    assert error.max() < 1e-12
    assert found.outside.any(-1).tolist() == [[False] * 3, [True] * 3, [False] * 3]


def test_without_limits_a_network_is_on_its_own(model, flows, advance):
    network = Failing(advance, 1.5)
    found = roll_out_guarded(network, model, anything(), advance, flows[:, 0], 1)
    torch.testing.assert_close(found.flows[:, 1], network(flows[:, 0]))
    assert not found.outside.any()
