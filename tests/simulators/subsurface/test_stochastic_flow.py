"""Statistics of flow in random media, against theory and the published Monte Carlo."""

import math

import numpy as np
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

LENGTH = 0.1  # correlation length of the one-dimensional cases, domain length 1


def sample_exponential(n_cells, n_members, seed):
    """Unit-variance fields with covariance exp(-|dx|/l), exact, cell by cell."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(n_members, n_cells, generator=generator, dtype=torch.float64)
    x = (torch.arange(n_cells, dtype=torch.float64) + 0.5) / n_cells
    covariance = torch.exp(-(x[:, None] - x).abs() / LENGTH)
    return noise @ torch.linalg.cholesky(covariance).T


def strip(n_cells):
    faces = outer_faces((1, n_cells), ["west", "east"])
    mesh = structured_mesh((1, n_cells), (1.0, 1 / n_cells), head_faces=faces)
    heads = (faces[:, 2] == 3).double()
    return mesh, FlowSolver(mesh), Forcing(head=heads)


def first_order_variance(x):
    """Var h/(J^2 s2) for fixed heads at 0 and 1 (J = 1)."""

    def a(x):
        return 2 * LENGTH**2 * (x / LENGTH - 1 + math.exp(-x / LENGTH))

    return a(x) - x * (a(x) + a(1) - a(1 - x)) + x**2 * a(1)


def test_first_order_head_variance_formula():
    """Values tabulated with the formula for l/L = 0.1."""
    assert first_order_variance(0.25) == pytest.approx(0.022484, abs=1e-6)
    assert first_order_variance(0.5) == pytest.approx(0.035135, abs=1e-6)


def test_every_one_dimensional_member_is_its_quadrature():
    n = 100
    mesh, solver, forcing = strip(n)
    log_k = sample_exponential(n, 20, seed=1)
    head = solver.solve(log_k, forcing)
    resistance = torch.exp(-log_k) / n
    q = 1 / resistance.sum(-1, keepdim=True)
    exact = 1 - q * (resistance.cumsum(-1) - resistance / 2)
    torch.testing.assert_close(head, exact, rtol=1e-11, atol=1e-12)
    into = boundary_flows(mesh, log_k, head, forcing).head_faces[:, :1]
    torch.testing.assert_close(into, q, rtol=1e-10, atol=0)


@pytest.mark.parametrize(
    ("variance", "expected"), [(0.01, (0.02229, 0.03481)), (1.0, (0.02025, 0.02952))]
)
def test_head_variance_in_one_dimension(variance, expected):
    """Reference: Monte Carlo with 40,000 members and 400 cells, at L/4 and L/2.

    4000 members here: the standard error of a variance is about sqrt(2/4000) = 2.2 %,
    3.5 of them (and 0.8 % of the reference) are allowed.
    """
    n, n_members = 200, 4000
    _, solver, forcing = strip(n)
    log_k = math.sqrt(variance) * sample_exponential(n, n_members, seed=2)
    head = solver.solve(log_k, forcing)
    at = (head[:, [n // 4 - 1, n // 2 - 1]] + head[:, [n // 4, n // 2]]) / 2
    measured = (at.var(0) / variance).tolist()
    assert measured == pytest.approx(expected, rel=0.08)


def test_mean_resistance_in_one_dimension():
    """E[1/q] = exp(s2/2)/Kg exactly; within 4 standard errors of 4000 members."""
    n, variance = 200, 1.0
    mesh, solver, forcing = strip(n)
    log_k = math.sqrt(variance) * sample_exponential(n, 4000, seed=3)
    head = solver.solve(log_k, forcing)
    resistance = 1 / boundary_flows(mesh, log_k, head, forcing).head_faces[:, 0]
    error = float(resistance.std()) / math.sqrt(len(resistance))
    assert error < 0.02
    assert abs(float(resistance.mean()) - math.exp(variance / 2)) < 4 * error


def periodic_box(n):
    """An n x n torus; the mean gradient enters as sources, one cell is fixed."""
    cells = torch.arange(n * n).reshape(n, n)
    a = torch.cat([cells.ravel(), cells.ravel()])
    b = torch.cat([cells.roll(-1, 1).ravel(), cells.roll(-1, 0).ravel()])
    none, two = torch.empty(0, dtype=torch.int64), torch.full((2 * n * n,), 2.0)
    return FlowMesh(
        n_cells=n * n, cell_a=a, cell_b=b, factor_a=two.double(),
        factor_b=two.double(), head_cell=none, head_factor=none.double(),
        inflow_cell=none, fixed_cell=torch.tensor([0]),
    )  # fmt: skip


def sample_periodic(n, scale, n_members, seed):
    """Unit-variance fields of covariance exp(-(pi/4)(r/l)^2) on the torus, by FFT."""
    offset = np.minimum(np.arange(n), n - np.arange(n))
    r2 = offset[:, None] ** 2 + offset**2
    spectrum = np.fft.fft2(np.exp(-np.pi / 4 * r2 / scale**2)).real.clip(min=0)
    noise = np.random.default_rng(seed).standard_normal((n_members, n, n))
    fields = np.fft.ifft2(np.sqrt(spectrum) * np.fft.fft2(noise)).real
    return torch.from_numpy(fields.reshape(n_members, n * n))


@pytest.mark.parametrize("variance", [0.5, 2.0])
def test_effective_conductivity_in_two_dimensions_is_the_geometric_mean(variance):
    """Matheron: Keff = Kg at any variance, for isotropic lognormal K in two dimensions.

    Periodic boxes of 8 x 8 integral scales; box means scatter, so the mean over
    members has to lie within 4 standard errors, themselves below 3 %.
    """
    n, scale, n_members = 48, 6.0, 128
    mesh = periodic_box(n)
    log_k = math.sqrt(variance) * sample_periodic(n, scale, n_members, seed=5)
    log_k = log_k - log_k.mean(-1, keepdim=True)  # Kg of the box, less scatter
    t = 2 / ((-log_k[:, mesh.cell_a]).exp() + (-log_k[:, mesh.cell_b]).exp())
    t_x = t[:, : n * n]  # faces to the east carry a mean flow of t times unit gradient
    source = torch.zeros_like(log_k)
    source = source.index_add(-1, mesh.cell_a[: n * n], -t_x)
    source = source.index_add(-1, mesh.cell_b[: n * n], t_x)
    forcing = Forcing(fixed_head=torch.zeros(1).double(), source=source)
    head = FlowSolver(mesh).solve(log_k, forcing)
    drop = head[:, mesh.cell_a[: n * n]] - head[:, mesh.cell_b[: n * n]]
    keff = (t_x * (1 + drop)).mean(-1)
    error = float(keff.std()) / math.sqrt(n_members)
    assert error < 0.03
    assert abs(float(keff.mean()) - 1) < 4 * error


def test_small_variance_limit_of_the_head_variance(hanford):
    """As s2 -> 0, Var h -> diag(G C G'), G = dh/dY; Matern-5/2, l = 0.04 (2.4 km)."""
    variance, n_members = 1e-3, 2000
    distance = np.linalg.norm(hanford.centroids[:, None] - hanford.centroids, axis=-1)
    a = math.sqrt(5) * torch.from_numpy(distance) / 0.04
    covariance = variance * (1 + a + a**2 / 3) * torch.exp(-a)
    root = torch.linalg.cholesky(
        covariance + 1e-10 * torch.eye(len(a), dtype=torch.float64)
    )
    generator = torch.Generator().manual_seed(7)
    noise = torch.randn(n_members, len(a), generator=generator, dtype=torch.float64)
    head = hanford.solver.solve(hanford.log_t + noise @ root.T, hanford.forcing)
    wells = torch.tensor(hanford.wells)
    jacobian = hanford.solver.head_jacobian(hanford.log_t, hanford.forcing, wells)
    linear = ((jacobian @ root) ** 2).sum(-1)
    ratio = head[:, wells].var(0) / linear
    # standard error sqrt(2/2000) = 3.2 % per well; correlated wells, so 2 % on the mean
    assert abs(float(ratio.mean()) - 1) < 0.05
    assert float((ratio - 1).abs().max()) < 0.16
