import math
from itertools import pairwise

import torch

from simulators.subsurface import FlowSolver, Forcing, residual


def normal(*shape, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def test_gradcheck_for_every_input(small):
    mesh, log_t, forcing = small
    solver = FlowSolver(mesh)
    inputs = (log_t, forcing.head, forcing.inflow, forcing.fixed_head, forcing.source)

    def heads(log_t, *forcing):
        return solver.solve(log_t, Forcing(*forcing))

    leaves = [x.clone().requires_grad_() for x in inputs]
    assert torch.autograd.gradcheck(heads, leaves, eps=1e-6, atol=1e-7, rtol=1e-6)


def test_gradients_are_those_of_the_residual(small):
    """-lambda' dr/dp by hand equals automatic differentiation of `residual`."""
    mesh, log_t, forcing = small
    given = (forcing.head, forcing.inflow, forcing.fixed_head, forcing.source)
    inputs = [x.expand(2, -1).clone().requires_grad_() for x in (log_t, *given)]
    head = normal(2, mesh.n_cells, seed=5)
    head[:, mesh.fixed_cell] = forcing.fixed_head
    adjoint = normal(2, mesh.n_cells, seed=6).index_fill(-1, mesh.fixed_cell, 0.0)
    left = residual(mesh, inputs[0], head, Forcing(*inputs[1:]))
    expected = torch.autograd.grad(left, inputs, -adjoint)
    leaves = [x.detach() for x in inputs]
    gradients = FlowSolver(mesh).pull_back(leaves, head, adjoint)
    for name, value, law in zip(gradients._fields, gradients, expected, strict=True):
        torch.testing.assert_close(value, law, rtol=1e-12, atol=1e-13, msg=name)


def test_taylor_remainder_is_second_order(hanford):
    direction = normal(hanford.mesh.n_cells, seed=1)
    leaf = hanford.log_t.clone().requires_grad_()
    weights = normal(hanford.mesh.n_cells, seed=2)

    def loss(log_t):
        return (weights * hanford.solver.solve(log_t, hanford.forcing)).sum()

    value = loss(leaf)
    (gradient,) = torch.autograd.grad(value, leaf)
    value, steps = value.detach(), [0.1 / 2**i for i in range(5)]
    slope = float(gradient @ direction)
    remainders = [
        abs(float(loss(hanford.log_t + s * direction) - value) - s * slope)
        for s in steps
    ]
    orders = [math.log2(a / b) for a, b in pairwise(remainders)]
    assert abs(orders[-1] - 2) < 0.05, orders


def test_adjoint_is_the_transpose_of_the_tangent(hanford):
    """<w, dh/dY v> by central differences of h equals <(dh/dY)' w, v>."""
    v, w = (normal(hanford.mesh.n_cells, seed=i) for i in (3, 4))
    step = 1e-4
    pair = torch.stack([hanford.log_t + step * v, hanford.log_t - step * v])
    plus, minus = hanford.solver.solve(pair, hanford.forcing)
    tangent = w @ (plus - minus) / (2 * step)
    leaf = hanford.log_t.clone().requires_grad_()
    hanford.solver.solve(leaf, hanford.forcing).backward(w)
    torch.testing.assert_close(leaf.grad @ v, tangent, rtol=1e-6, atol=0)


def test_head_jacobian_equals_central_differences(hanford):
    """Eight digits at the head wells, as the source of the data reports."""
    wells, step = torch.tensor(hanford.wells), 1e-4
    jacobian = hanford.solver.head_jacobian(hanford.log_t, hanford.forcing, wells)
    assert jacobian.shape == (323, 1475)
    cell = int(jacobian.abs().amax(0).argmax())
    nudge = torch.zeros_like(hanford.log_t)
    nudge[cell] = step
    pair = torch.stack([hanford.log_t + nudge, hanford.log_t - nudge])
    plus, minus = hanford.solver.solve(pair, hanford.forcing)
    central = ((plus - minus) / (2 * step))[wells]
    error = (jacobian[:, cell] - central).abs().max() / central.abs().max()
    assert error < 1e-7


def test_head_jacobian_has_no_rows_for_fixed_cells_and_equals_autograd(small):
    mesh, log_t, forcing = small
    solver = FlowSolver(mesh)
    single = Forcing(
        forcing.head[0], forcing.inflow, forcing.fixed_head[0], forcing.source[0]
    )
    cells = torch.arange(mesh.n_cells)
    jacobian = solver.head_jacobian(log_t[0], single, cells)
    rows = torch.autograd.functional.jacobian(
        lambda y: solver.solve(y, single), log_t[0]
    )
    torch.testing.assert_close(jacobian, rows, rtol=1e-12, atol=1e-14)
    assert bool((jacobian[mesh.fixed_cell] == 0).all())
    assert bool((jacobian[0] != 0).any())


def test_uniform_factor_on_transmissivity_scales_flow_not_head(hanford):
    """Without inflow, heads do not depend on the level of T: rows of dh/dY sum to 0."""
    forcing = Forcing(head=hanford.forcing.head)
    wells = torch.tensor(hanford.wells[:20])
    jacobian = hanford.solver.head_jacobian(hanford.log_t, forcing, wells)
    assert jacobian.sum(-1).abs().max() < 1e-9 * jacobian.abs().sum(-1).max()
