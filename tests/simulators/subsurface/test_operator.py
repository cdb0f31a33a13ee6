import pytest
import torch

from simulators.subsurface import FlowMesh, FlowSolver, Forcing, residual
from simulators.subsurface.operator import flow_operator, forcing_load


def members_of(hanford, n):
    generator = torch.Generator().manual_seed(4)
    noise = torch.randn(n, hanford.mesh.n_cells, generator=generator).double()
    return hanford.log_t + 0.5 * noise


def test_operator_and_load_are_the_equations_with_heads_and_inflows(hanford):
    field = members_of(hanford, 3)
    generator = torch.Generator().manual_seed(5)
    head = 115 + torch.randn(field.shape, generator=generator).double()
    operator = flow_operator(hanford.mesh, field)
    load = forcing_load(hanford.mesh, operator, hanford.forcing)
    expected = residual(hanford.mesh, field, head, hanford.forcing)
    # sums of flows up to 1e6 m3/d, each from heads near 115 m
    scale = operator.diagonal * 115
    assert ((operator.apply(head) - load - expected) / scale).abs().max() < 1e-14


def test_load_is_supplied_by_heads_and_inflows_of_each_side(hanford):
    field = members_of(hanford, 2)
    operator = flow_operator(hanford.mesh, field)
    forcing = Forcing(torch.zeros_like(hanford.forcing.head), hanford.forcing.inflow)
    inflow_only = forcing_load(hanford.mesh, operator, forcing)
    # the total inflow of the published boundary conditions
    assert inflow_only.sum(-1).tolist() == pytest.approx([10_823.46] * 2, rel=1e-10)
    heads_only = forcing_load(
        hanford.mesh, operator, Forcing(torch.ones_like(hanford.forcing.head))
    )
    # heads of 1 m everywhere are in balance with faces of 1 m
    ones = torch.ones_like(field)
    error = (operator.apply(ones) - heads_only).abs().max()
    assert error < 1e-12 * operator.diagonal.max()


def test_solved_heads_carry_the_load(hanford):
    field = members_of(hanford, 2)
    head = hanford.solver.solve(field, hanford.forcing)
    operator = flow_operator(hanford.mesh, field)
    load = forcing_load(hanford.mesh, operator, hanford.forcing)
    left = (operator.apply(head) - load) / (operator.diagonal * 115)
    assert left.abs().max() < 1e-13


def test_faces_that_share_a_cell_add_up():
    """Two head faces and two inflow faces on the first of two cells, by hand."""
    mesh = FlowMesh(
        n_cells=2,
        cell_a=torch.tensor([0]),
        cell_b=torch.tensor([1]),
        factor_a=torch.tensor([2.0]).double(),
        factor_b=torch.tensor([2.0]).double(),
        head_cell=torch.tensor([0, 0]),
        head_factor=torch.tensor([1.0, 3.0]).double(),
        inflow_cell=torch.tensor([0, 0]),
        fixed_cell=torch.empty(0, dtype=torch.int64),
    )
    log_t = torch.tensor([2.0, 1.0]).double().log()
    forcing = Forcing(
        torch.tensor([5.0, 7.0]).double(), torch.tensor([0.5, 4]).double()
    )
    operator = flow_operator(mesh, log_t)
    # t = 1/(1/4 + 1/2) between the cells, 2 and 6 at the faces
    expected = torch.tensor([4 / 3 + 8, 4 / 3]).double()
    torch.testing.assert_close(operator.diagonal, expected)
    load = forcing_load(mesh, operator, forcing)
    assert load.tolist() == pytest.approx([2 * 5 + 6 * 7 + 4.5, 0])
    head = FlowSolver(mesh).solve(log_t, forcing)
    torch.testing.assert_close(operator.apply(head), load, rtol=0, atol=1e-12)
