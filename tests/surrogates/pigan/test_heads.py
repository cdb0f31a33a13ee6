import pytest
import torch

from simulators.subsurface import FlowSolver, Forcing
from surrogates.pigan.generators import KarhunenLoeveGenerator
from surrogates.pigan.heads import (
    HEAD,
    LOG_TRANSMISSIVITY,
    SOURCE,
    NetworkHead,
    SolverHead,
    linearised_basis,
    scaled_residual,
)


@pytest.fixture
def generator(expansion):
    torch.manual_seed(2)
    inputs = KarhunenLoeveGenerator({LOG_TRANSMISSIVITY: expansion}, width=8)
    return inputs.double()


def draw(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def test_solved_heads_have_no_residual(problem, truth):
    inputs = {LOG_TRANSMISSIVITY: truth[LOG_TRANSMISSIVITY][:5].float()}
    head = SolverHead(*problem)(inputs)
    left = scaled_residual(*problem, inputs[LOG_TRANSMISSIVITY], head)
    assert head.dtype == torch.float64
    # round-off of heads of 20 m, over 120 cells
    assert left.abs().max() < 1e-11


def test_a_generated_source_drives_the_head(problem, truth):
    field = truth[LOG_TRANSMISSIVITY][:3]
    source = draw(3, 120)
    head = SolverHead(*problem)({LOG_TRANSMISSIVITY: field, SOURCE: source.float()})
    forced = Forcing(head=problem[1].head, source=source.float().double())
    left = scaled_residual(problem[0], forced, field, head)
    assert left.abs().max() < 1e-11
    unforced = scaled_residual(*problem, field, head)
    assert unforced.abs().max() > 0.01


def test_gradients_reach_the_generator_through_the_solver(problem, generator):
    solve, z, weights = SolverHead(*problem), draw(4, 12), draw(120, seed=1)

    def loss():
        return (solve(generator(z)) @ weights).square().mean()

    loss().backward()
    for name, parameter in generator.named_parameters():
        direction = draw(*parameter.shape, seed=3)
        expected = float((parameter.grad * direction).sum())
        values = []
        for step in (1e-5, -1e-5):
            with torch.no_grad():
                parameter.add_(direction, alpha=step)
                values.append(float(loss()))
                parameter.sub_(direction, alpha=step)
        difference = (values[0] - values[1]) / 2e-5
        assert difference == pytest.approx(expected, rel=1e-5, abs=1e-7), name


def test_gradients_of_the_scaled_residual_equal_finite_differences(problem, truth):
    field, head = (truth[name][:1] for name in (LOG_TRANSMISSIVITY, HEAD))
    head = head + draw(1, 120)  # an exact head has no gradient in its scaling
    inputs = field.clone().requires_grad_(), head.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda y, h: scaled_residual(*problem, y, h).square().mean(), inputs
    )


def test_scaling_all_transmissivities_does_not_change_the_scaled_residual(
    problem, truth
):
    field = truth[LOG_TRANSMISSIVITY][:3]
    head = truth[HEAD][:3] + draw(3, 120)
    residual = scaled_residual(*problem, field, head)
    assert residual.abs().max() > 0.1
    other = scaled_residual(*problem, field - 4, head)
    torch.testing.assert_close(other, residual, rtol=0, atol=1e-12)


def test_small_transmissivities_do_not_pay_off_in_the_scaled_residual(problem, truth):
    field = truth[LOG_TRANSMISSIVITY][:3].clone().requires_grad_()
    head = truth[HEAD][:3] + draw(3, 120)
    scaled_residual(*problem, field, head).square().mean().backward()
    along_constant = field.grad.sum(-1).abs().max()
    assert along_constant < 1e-12 < field.grad.abs().max()


def test_the_scaled_residual_is_the_miss_of_one_cell_moved_alone(problem, truth):
    field, head = truth[LOG_TRANSMISSIVITY][:1], truth[HEAD][:1].clone()
    head[:, 57] += 0.25
    residual = scaled_residual(*problem, field, head)[0]
    assert float(residual[57]) == pytest.approx(0.25, abs=1e-11)
    untouched = [cell for cell in range(120) if cell not in (47, 56, 57, 58, 67)]
    assert residual[untouched].abs().max() < 1e-11


def test_the_linearised_head_misses_the_solved_one_by_second_order(
    problem, expansion, head_basis
):
    basis, solver = head_basis["linearised"], FlowSolver(problem[0])
    direction = expansion.modes @ (expansion.eigenvalues.sqrt() * draw(12))
    steps = 0.2 / 2 ** torch.arange(5, dtype=torch.float64)
    moved = expansion.mean + steps[:, None] * direction
    linear = basis.mean_head + (moved - basis.mean_log_transmissivity) @ basis.skip
    error = (linear - solver.solve(moved, problem[1])).norm(dim=-1)
    order = (error[:-1] / error[1:]).log2()
    assert (order - 2).abs().max() < 0.2, f"expected order 2; observed {order}"


def test_the_linearised_basis_spans_the_leading_changes_of_the_head(
    problem, expansion, head_basis
):
    full = linearised_basis(FlowSolver(problem[0]), problem[1], expansion, 12).basis
    # in so many modes as coordinates, a unit coordinate's change has no remainder
    change = (expansion.modes * expansion.eigenvalues.sqrt()).mT @ (
        head_basis["linearised"].skip
    )
    weights = torch.linalg.lstsq(full.mT, change.mT).solution
    torch.testing.assert_close(full.mT @ weights, change.mT, rtol=0, atol=1e-10)
    # the basis carries the variance of the linearised head
    torch.testing.assert_close(full.mT @ full, change.mT @ change, rtol=0, atol=1e-10)
    kept = head_basis["linearised"].basis
    torch.testing.assert_close(kept.abs(), full[:10].abs(), rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", ["linearised", "generic"])
def test_bases_have_the_shapes_of_the_mesh_and_the_expansion(head_basis, kind):
    basis = head_basis[kind]
    assert basis.mean_log_transmissivity.shape == basis.mean_head.shape == (120,)
    assert basis.projector.shape == (120, 12)
    assert basis.basis.shape == ({"linearised": 10, "generic": 40}[kind], 120)
    skip = None if basis.skip is None else tuple(basis.skip.shape)
    assert skip == {"linearised": (120, 120), "generic": None}[kind]


def test_the_projector_gives_the_coordinates_of_ln_t(expansion, head_basis):
    coordinates = draw(6, 12)
    fields = coordinates * expansion.eigenvalues.sqrt() @ expansion.modes.mT
    back = fields @ head_basis["generic"].projector
    torch.testing.assert_close(back, coordinates, rtol=0, atol=1e-10)


@pytest.mark.parametrize("kind", ["linearised", "generic"])
def test_a_network_head_starts_near_its_mean_and_linear_part(head_basis, truth, kind):
    torch.manual_seed(7)
    basis, field = head_basis[kind], truth[LOG_TRANSMISSIVITY][:20]
    network = NetworkHead(basis, width=8)
    expected = basis.mean_head.expand(20, -1)
    if basis.skip is not None:
        expected = expected + (field - basis.mean_log_transmissivity) @ basis.skip
    with torch.no_grad():
        head = network({LOG_TRANSMISSIVITY: field.float()})
    # the last layer is near zero: millimetres beside the metres that heads differ by
    assert (head - expected).abs().max() < 0.02
    assert head.dtype == torch.float32


@pytest.mark.parametrize("kind", ["linearised", "generic"])
def test_a_network_head_fits_the_heads_of_one_batch(head_basis, truth, kind):
    torch.manual_seed(7)
    network = NetworkHead(head_basis[kind], width=16)
    inputs = {LOG_TRANSMISSIVITY: truth[LOG_TRANSMISSIVITY][:8].float()}
    head, errors = truth[HEAD][:8].float(), []
    optimiser = torch.optim.Adam(network.parameters(), 0.02)
    for _ in range(300):
        loss = (network(inputs) - head).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        errors.append(loss.item() ** 0.5)
    # what ten modes of the head cannot express remains; the linearised head starts near
    share = {"linearised": 0.35, "generic": 0.25}[kind]
    assert errors[-1] < share * errors[0], f"{errors[0]:.3f} to {errors[-1]:.3f} m"
