import pytest
import torch

from simulators.subsurface import (
    FlowSolver,
    Forcing,
    boundary_flows,
    energy,
    residual,
    structured_mesh,
    transmissibility,
)


def dense_matrix(mesh, log_t):
    """The matrix of one member, entry by entry from its definition."""
    matrix = torch.zeros(mesh.n_cells, mesh.n_cells, dtype=torch.float64)
    t_cell = log_t.exp()
    for a, b, f_a, f_b in zip(
        mesh.cell_a, mesh.cell_b, mesh.factor_a, mesh.factor_b, strict=True
    ):
        t = 1 / (1 / (t_cell[a] * f_a) + 1 / (t_cell[b] * f_b))
        for i, j, sign in ((a, a, 1), (b, b, 1), (a, b, -1), (b, a, -1)):
            matrix[i, j] += sign * t
    for c, factor in zip(mesh.head_cell, mesh.head_factor, strict=True):
        matrix[c, c] += t_cell[c] * factor
    matrix[mesh.fixed_cell] = 0
    matrix[:, mesh.fixed_cell] = 0
    return matrix


def test_gradient_of_the_residual_is_the_assembled_matrix(small):
    mesh, log_t, forcing = small
    single = Forcing(*(x if x.ndim == 1 else x[0] for x in values(forcing)))
    head = torch.zeros(mesh.n_cells, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(
        lambda h: residual(mesh, log_t[0], h, single), head
    )
    torch.testing.assert_close(jacobian, dense_matrix(mesh, log_t[0]))


def test_gradient_of_the_energy_is_the_residual(small):
    mesh, log_t, forcing = small
    head = torch.linspace(-1, 1, 2 * mesh.n_cells, dtype=torch.float64).reshape(2, -1)
    head.requires_grad_()
    (gradient,) = torch.autograd.grad(energy(mesh, log_t, head, forcing).sum(), head)
    torch.testing.assert_close(gradient, residual(mesh, log_t, head, forcing))


def test_solution_has_the_least_energy(small):
    mesh, log_t, forcing = small
    head = FlowSolver(mesh).solve(log_t, forcing)
    generator = torch.Generator().manual_seed(0)
    nudge = torch.randn(50, *head.shape, generator=generator, dtype=head.dtype)
    nudge[..., mesh.fixed_cell] = 0
    least = energy(mesh, log_t, head, forcing)
    assert bool((energy(mesh, log_t, head + 1e-3 * nudge, forcing) > least).all())


def test_solution_has_no_residual_and_balanced_boundaries(small):
    mesh, log_t, forcing = small
    head = FlowSolver(mesh).solve(log_t, forcing)
    assert residual(mesh, log_t, head, forcing).abs().max() < 1e-13
    flows = boundary_flows(mesh, log_t, head, forcing)
    source = forcing.source.index_fill(-1, mesh.fixed_cell, 0).sum(-1)
    net = flows.head_faces.sum(-1) + flows.fixed_cells.sum(-1)
    net = net + forcing.inflow.sum(-1) + source
    assert flows.fixed_cells.abs().min() > 1e-3, "the test needs flow"
    assert net.abs().max() < 1e-12


def test_heads_given_in_fixed_cells_are_ignored(small):
    mesh, log_t, forcing = small
    head = torch.ones(mesh.n_cells, dtype=torch.float64)
    other = head.index_fill(0, mesh.fixed_cell, 99.0)
    for law in (residual, energy):
        a, b = (law(mesh, log_t, h, forcing) for h in (head, other))
        assert torch.equal(a, b)


def test_transmissibility_is_harmonic():
    mesh = structured_mesh((1, 2), (1.0, 1.0), head_faces=[(0, 0, 3)])
    log_t = torch.tensor([1.0, 3.0], dtype=torch.float64).log()
    # half a cell of T = 1 in series with half a cell of T = 3
    assert transmissibility(mesh, log_t).item() == pytest.approx(1 / (0.5 + 0.5 / 3))


def test_missing_heads_wrong_lengths_and_single_precision_are_refused(small):
    mesh, log_t, forcing = small
    head = torch.zeros(mesh.n_cells, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"forcing.head must be given for the 4"):
        residual(mesh, log_t, head, Forcing(fixed_head=forcing.fixed_head))
    with pytest.raises(ValueError, match=r"fixed_head must have 2 values"):
        residual(mesh, log_t, head, Forcing(forcing.head, fixed_head=forcing.head))
    with pytest.raises(ValueError, match=r"head must have 17 values"):
        residual(mesh, log_t, head[1:], forcing)
    with pytest.raises(TypeError, match=r"must be float64; got torch.float32"):
        residual(mesh, log_t.float(), head, forcing)


def values(forcing):
    return forcing.head, forcing.inflow, forcing.fixed_head, forcing.source
