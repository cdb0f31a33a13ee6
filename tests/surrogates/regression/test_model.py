import pytest
import torch

from simulators.subsurface import Forcing, energy, residual, structured_mesh
from simulators.subsurface.operator import flow_operator, forcing_load
from surrogates.regression.model import (
    HeadNetwork,
    NetworkShape,
    network_constants,
    network_from_state,
    network_state,
)

SMALL = NetworkShape(n_steps=2, width=6, n_coarse=12)


def build(problem, skip, shape):
    constants = network_constants(problem[0], skip, shape.n_coarse)
    return HeadNetwork(*problem, constants, shape)


@pytest.fixture
def network(problem, skip):
    torch.manual_seed(1)
    return build(problem, skip, SMALL)


def test_operator_and_load_are_the_solvers_equations(problem, members):
    mesh, forcing = problem
    field, head = members.log_transmissivity[:4], members.head[:4] + 0.3
    operator = flow_operator(mesh, field)
    by_operator = operator.apply(head) - forcing_load(mesh, operator, forcing)
    expected = residual(mesh, field, head, forcing)
    torch.testing.assert_close(by_operator, expected, rtol=0, atol=1e-11)
    columns = operator.apply(torch.eye(mesh.n_cells).double()[:, None])
    diagonal = columns.diagonal(dim1=0, dim2=2)  # (members, cells)
    torch.testing.assert_close(diagonal, operator.diagonal, rtol=1e-13, atol=0)


@pytest.mark.parametrize("weights", ["untrained", "random"])
def test_every_step_lowers_the_energy_whatever_the_weights(
    problem, skip, members, weights
):
    torch.manual_seed(4)
    network = build(problem, skip, NetworkShape(4, 6, 12)).double()
    if weights == "random":
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    field, steps, levels = members.log_transmissivity[:16], network.steps, []
    for n_steps in range(5):
        network.steps = steps[:n_steps]
        head = network(field).detach()
        levels.append(energy(problem[0], field, head, problem[1]))
    for more, fewer in zip(levels[1:], levels[:-1], strict=True):
        assert (more < fewer).all()


def test_zero_steps_are_the_linear_prediction(problem, skip, members):
    network = build(problem, skip, NetworkShape(0, 6, 12)).double()
    field = members.log_transmissivity[:3]
    expected = skip.mean_head + (field - skip.mean_log_transmissivity) @ skip.matrix
    # the constants are kept in float32: heads of 20 m to 1e-6 m times a few cells
    torch.testing.assert_close(network(field), expected, rtol=0, atol=2e-5)


def test_steps_with_all_coarse_modes_contract_the_residual_of_the_mean_field(
    problem, skip, members
):
    n_cells = problem[0].n_cells
    network = build(problem, skip, NetworkShape(6, 6, n_cells)).double()
    field = skip.mean_log_transmissivity[None]
    head = network(field)
    scale = flow_operator(problem[0], field).diagonal
    left = residual(problem[0], field, head, problem[1]) / scale
    start = residual(problem[0], field, skip.mean_head[None], problem[1]) / scale
    # a step also has the diagonal correction, so it contracts rather than finishes
    assert left.abs().max() < 0.02 * start.abs().max()


def test_parameter_gradients_equal_finite_differences(problem, skip, members):
    torch.manual_seed(2)
    network = build(problem, skip, SMALL).double()
    for parameter in network.parameters():  # zero layers would hide wrong gradients
        torch.nn.init.normal_(parameter, std=0.2)
    field, target = members.log_transmissivity[:2], members.head[:2]

    def loss():
        return (network(field) - target).square().mean()

    loss().backward()
    for name, parameter in network.named_parameters():
        direction = torch.randn_like(parameter)
        expected = float((parameter.grad * direction).sum())
        values = []
        for step in (1e-5, -1e-5):
            with torch.no_grad():
                parameter.add_(direction, alpha=step)
                values.append(float(loss()))
                parameter.sub_(direction, alpha=step)
        difference = (values[0] - values[1]) / 2e-5
        assert difference == pytest.approx(expected, rel=1e-5, abs=1e-9), name


def test_a_batch_equals_its_members(network, members):
    field = members.log_transmissivity[:5]
    alone = torch.cat([network(row[None]) for row in field])
    torch.testing.assert_close(network(field), alone, rtol=1e-5, atol=1e-4)


def test_a_network_rebuilt_from_its_state_predicts_the_same_bits(network, members):
    again = network_from_state(network_state(network))
    field = members.log_transmissivity[:4]
    assert torch.equal(network(field), again(field))


def test_a_description_of_another_format_is_refused(network):
    state = {**network_state(network), "format": 0}
    with pytest.raises(ValueError, match="must have format 1; got 0"):
        network_from_state(state)


def test_cells_of_fixed_head_are_refused(problem, skip):
    mesh = structured_mesh((12, 10), (1.0, 1.0), fixed_cells=[(0, 0)])
    forcing = Forcing(fixed_head=torch.ones(1, dtype=torch.float64))
    constants = network_constants(problem[0], skip, SMALL.n_coarse)
    with pytest.raises(ValueError, match="1 fixed cells"):
        HeadNetwork(mesh, forcing, constants, SMALL)
