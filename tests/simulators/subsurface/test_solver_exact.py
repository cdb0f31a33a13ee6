"""Exact solutions on orthogonal grids; two-point flux is inconsistent on others."""

import math
from itertools import pairwise

import pytest
import torch

from simulators.subsurface import (
    FlowMesh,
    FlowSolver,
    Forcing,
    boundary_flows,
    outer_faces,
    structured_mesh,
)


def centres(n, spacing, dtype=torch.float64):
    return (torch.arange(n, dtype=dtype) + 0.5) * spacing


def face_points(faces, spacing):
    """(x, y) midpoints of outer faces, y growing with the row."""
    row, col, side = faces.T
    offset = torch.tensor([[0.0, -0.5], [0.5, 0.0], [0.0, 0.5], [-0.5, 0.0]]).double()
    dy, dx = spacing
    middle = torch.stack([(col + 0.5) * dx, (row + 0.5) * dy], dim=-1)
    return (middle + offset[side] * torch.tensor([dx, dy])).T


def test_linear_head_is_exact():
    rows, cols, spacing = 7, 5, (2.0, 3.0)
    faces = outer_faces((rows, cols))
    mesh = structured_mesh((rows, cols), spacing, head_faces=faces)
    x, y = face_points(faces, spacing)
    head = FlowSolver(mesh).solve(
        torch.full((mesh.n_cells,), 2.0, dtype=torch.float64),
        Forcing(head=10 + 0.3 * x - 0.7 * y),
    )
    exact = 10 + 0.3 * centres(cols, 3.0) - 0.7 * centres(rows, 2.0)[:, None]
    torch.testing.assert_close(head.reshape(rows, cols), exact, rtol=1e-13, atol=0)


def test_layers_in_series_are_exact():
    """q = dh/sum(dx_i/K_i), heads by the running resistance; layers are cells."""
    spacing, n = 0.5, 9
    faces = outer_faces((1, n), ["west", "east"])
    mesh = structured_mesh((1, n), (1.0, spacing), head_faces=faces)
    log_t = torch.linspace(-4, 5, n, dtype=torch.float64).sin() * 3
    forcing = Forcing(head=torch.tensor([2.0, -1.0], dtype=torch.float64))
    head = FlowSolver(mesh).solve(log_t, forcing)
    resistance = spacing * torch.exp(-log_t)
    q = 3.0 / resistance.sum()
    exact = 2.0 - q * (resistance.cumsum(0) - resistance / 2)
    torch.testing.assert_close(head, exact, rtol=1e-12, atol=1e-13)
    flows = boundary_flows(mesh, log_t, head, forcing).head_faces
    torch.testing.assert_close(flows, torch.stack([q, -q]), rtol=1e-10, atol=0)


def test_parallel_connections_add_up():
    """A ring of two cells next to a fixed one: each pair is joined twice."""

    def ring(pairs, factor):
        a, b = torch.tensor(pairs).T
        return FlowMesh(
            n_cells=4, cell_a=a, cell_b=b, factor_a=factor, factor_b=factor,
            head_cell=torch.tensor([0, 3]), head_factor=torch.ones(2).double(),
            inflow_cell=torch.empty(0, dtype=torch.int64),
            fixed_cell=torch.empty(0, dtype=torch.int64),
        )  # fmt: skip

    one, two = torch.ones(6).double(), torch.full((3,), 2.0).double()
    twice = ring([[0, 1], [1, 0], [1, 2], [1, 2], [2, 3], [3, 2]], one)
    once = ring([[0, 1], [1, 2], [2, 3]], two)
    log_t = torch.tensor([0.3, -1.0, 0.5, 2.0], dtype=torch.float64)
    forcing = Forcing(head=torch.tensor([1.0, 0.0], dtype=torch.float64))
    heads = [FlowSolver(mesh).solve(log_t, forcing) for mesh in (twice, once)]
    torch.testing.assert_close(*heads, rtol=1e-14, atol=0)


def manufactured_error(n):
    """rms error of u = sin(pi x) sin(pi y) + x with K = exp(sin(2 pi x) cos(pi y))."""
    pi, spacing = math.pi, (1 / n, 1 / n)
    faces = outer_faces((n, n))
    mesh = structured_mesh((n, n), spacing, head_faces=faces)
    y, x = torch.meshgrid(centres(n, 1 / n), centres(n, 1 / n), indexing="ij")

    def exact(x, y):
        return (pi * x).sin() * (pi * y).sin() + x

    log_k = (2 * pi * x).sin() * (pi * y).cos()
    u_x = pi * (pi * x).cos() * (pi * y).sin() + 1
    u_y = pi * (pi * x).sin() * (pi * y).cos()
    laplacian = -2 * pi**2 * (pi * x).sin() * (pi * y).sin()
    log_k_x = 2 * pi * (2 * pi * x).cos() * (pi * y).cos()
    log_k_y = -pi * (2 * pi * x).sin() * (pi * y).sin()
    source = -log_k.exp() * (laplacian + log_k_x * u_x + log_k_y * u_y) / n**2
    forcing = Forcing(head=exact(*face_points(faces, spacing)), source=source.ravel())
    head = FlowSolver(mesh).solve(log_k.ravel(), forcing)
    return float((head - exact(x, y).ravel()).square().mean().sqrt())


def test_manufactured_solution_is_second_order():
    """rms errors of the reference table of this verification case."""
    errors = [manufactured_error(n) for n in (16, 32, 64, 128)]
    assert errors == pytest.approx([4.041e-3, 1.020e-3, 2.556e-4, 6.396e-5], rel=1e-3)
    orders = [math.log2(a / b) for a, b in pairwise(errors)]
    assert min(orders) > 1.9, orders


def test_well_draws_down_by_the_logarithm_of_thiem():
    """h2 - h1 = Q/(2 pi T) ln(r2/r1); the well cell stands for r = 0.198 dx (Peaceman).

    The heads of the outer faces are those of the exact solution.
    """
    n, dx, rate, t = 41, 10.0, 500.0, 200.0
    faces = outer_faces((n, n))
    mesh = structured_mesh((n, n), (dx, dx), head_faces=faces)
    x_well = n * dx / 2

    def thiem(x, y):
        r = torch.hypot(x - x_well, y - x_well)
        return 50 + rate / (2 * math.pi * t) * (r / 100).log()

    source = torch.zeros(n, n, dtype=torch.float64)
    source[n // 2, n // 2] = -rate
    log_t = torch.full((n * n,), math.log(t), dtype=torch.float64)
    forcing = Forcing(head=thiem(*face_points(faces, (dx, dx))), source=source.ravel())
    head = FlowSolver(mesh).solve(log_t, forcing).reshape(n, n)
    x = centres(n, dx)
    error = head - thiem(x[None, :], x[:, None])
    distance = torch.hypot(x[None, :] - x_well, x[:, None] - x_well)
    drawdown_unit = rate / (2 * math.pi * t)
    # the lattice departs from the logarithm by cos(4 angle)/(12 (r/dx)^2) units
    assert error[distance > 5 * dx].abs().max() < drawdown_unit / (12 * 5**2)
    at_well = head[n // 2, n // 2]
    r_equivalent = 100 * math.exp((float(at_well) - 50) / drawdown_unit)
    assert r_equivalent / dx == pytest.approx(0.198, abs=0.002)
