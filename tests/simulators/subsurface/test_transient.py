"""Transient flow against exact solutions, its own limits and MODFLOW 6."""

import math
from itertools import pairwise

import h5py
import numpy as np
import pytest
import scipy.linalg
import scipy.special
import torch

from simulators.subsurface import (
    FlowMesh,
    FlowSolveError,
    FlowSolver,
    Forcing,
    StressPeriod,
    boundary_flows,
    number_cells,
    outer_faces,
    residual,
    solve_transient,
    structured_mesh,
    well_source,
)

# W(u) of the well function, as tabulated
WELL_FUNCTION = {
    1.0: 0.2193839,
    0.1: 1.8229240,
    0.01: 4.0379296,
    1e-3: 6.3315394,
    1e-4: 8.6332247,
}


def normal(*shape, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def zeros(*shape):
    return torch.zeros(*shape, dtype=torch.float64)


def full(n, value):
    return torch.full((n,), value, dtype=torch.float64)


def radial_mesh(edges):
    """Rings between radii, T = 1: conductance 2 pi/ln(r_b/r_a) between their radii.

    The radius of a ring is the geometric mean of its edges; a head face closes the
    last one.
    """
    radius, n = np.sqrt(edges[:-1] * edges[1:]), len(edges) - 1
    half = torch.tensor(4 * np.pi / np.log(radius[1:] / radius[:-1]))
    none = torch.empty(0, dtype=torch.int64)
    mesh = FlowMesh(
        n_cells=n,
        cell_a=torch.arange(n - 1),
        cell_b=torch.arange(1, n),
        factor_a=half,
        factor_b=half,
        head_cell=torch.tensor([n - 1]),
        head_factor=torch.tensor([2 * np.pi / np.log(edges[-1] / radius[-1])]),
        inflow_cell=none,
        fixed_cell=none,
    )
    return mesh, radius, torch.tensor(np.pi * np.diff(edges**2))


def test_theis_well_function():
    """Drawdown of a pumped well against the table of W(u), four decades of u.

    Backward Euler lags by at most half a step; steps of 2 % of the time and dW/d ln t =
    exp(-u) allow an error of 0.01 exp(-u). Rings that grow by 3 % add 1e-4 of W. The
    well is a ring of 1 mm, read at 100 m, and the rim 600 km away.
    """
    transmissivity, storativity, rate, growth = 250.0, 1e-4, 30.0, 1.02
    diffusivity = transmissivity / storativity
    mesh, radius, area = radial_mesh(np.exp(np.arange(math.log(1e-3), 13.3, 0.03)))
    steps = 1 / diffusivity * growth ** np.arange(700)
    times = np.cumsum(steps)
    source = well_source(mesh, [0], full(1, -rate))
    forcing = Forcing(head=zeros(1), source=source)
    heads = solve_transient(
        FlowSolver(mesh),
        full(mesh.n_cells, math.log(transmissivity)),
        storativity * area,
        zeros(mesh.n_cells),
        [StressPeriod(forcing, float(step), 1) for step in steps],
    )
    ring = int(np.argmin(np.abs(radius - 100.0)))
    for u, expected in WELL_FUNCTION.items():
        time = radius[ring] ** 2 / (4 * diffusivity * u)
        assert times[100] < time < times[-1]
        drawdown = -np.interp(np.log(time), np.log(times), heads[:, ring].numpy())
        w = drawdown * 4 * math.pi * transmissivity / rate
        allowed = (growth - 1) / 2 * math.exp(-u) + 1e-4 * expected
        assert w == pytest.approx(expected, abs=allowed), u


def test_theis_on_a_grid():
    """Cells of 1 m, well in the middle, rim beyond the cone: W(u) at 5 to 15 m.

    The five-point Laplacian misses the logarithm by O(1/r^2) of a cell, backward Euler
    with 200 steps smears the front by a share of a step.
    """
    n, time, n_steps = 101, 100.0, 200
    mesh = structured_mesh((n, n), (1.0, 1.0), head_faces=outer_faces((n, n)))
    numbers = number_cells((n, n))
    source = well_source(
        mesh, numbers[n // 2, n // 2 : n // 2 + 1], -torch.ones(1).double()
    )
    forcing = Forcing(head=zeros(len(mesh.head_cell)), source=source)
    period = StressPeriod(forcing, time / n_steps, n_steps)
    heads = solve_transient(
        FlowSolver(mesh),
        zeros(mesh.n_cells),
        torch.ones(mesh.n_cells).double(),
        zeros(mesh.n_cells),
        [period],
    )
    for r in (5, 10, 15):
        drawdown = -float(heads[-1, numbers[n // 2, n // 2 + r]])
        exact = scipy.special.exp1(r**2 / (4 * time)) / (4 * math.pi)
        assert drawdown == pytest.approx(exact, rel=0.01), r


def test_single_mode_decays_by_its_exact_factor_per_step():
    """h = sin(pi x) cos(pi y) between fixed heads 0: h^n = h^0/(1 + mu dt)^n."""
    rows, columns, dy, dx = 7, 11, 2.0, 1.5
    ends = [(row, column) for row in range(rows) for column in (0, columns - 1)]
    mesh = structured_mesh((rows, columns), (dy, dx), fixed_cells=ends)
    transmissivity, storativity, dt = 3.0, 0.02, 0.05
    across = torch.sin(math.pi * torch.arange(columns).double() / (columns - 1))
    along = torch.cos(math.pi * (torch.arange(rows).double() + 0.5) / rows)
    mode = (along[:, None] * across).ravel().index_fill(0, mesh.fixed_cell, 0.0)
    bend_x = 2 * (1 - math.cos(math.pi / (columns - 1))) / dx**2
    bend_y = 2 * (1 - math.cos(math.pi / rows)) / dy**2
    decay = 1 + transmissivity / storativity * (bend_x + bend_y) * dt
    heads = solve_transient(
        FlowSolver(mesh),
        full(mesh.n_cells, math.log(transmissivity)),
        full(mesh.n_cells, storativity * dx * dy),
        mode,
        [StressPeriod(Forcing(fixed_head=zeros(len(ends))), dt, 6)],
    )
    factors = decay ** -torch.arange(1.0, 7.0).double()
    torch.testing.assert_close(heads, factors[:, None] * mode, rtol=0, atol=1e-13)


def dense_problem(small):
    """Matrix, load, storage and initial head of one member without fixed cells."""
    mesh, log_t, forcing = small
    log_t = log_t[0]
    forcing = Forcing(
        forcing.head[0], forcing.inflow, forcing.fixed_head[0], forcing.source[0]
    )
    storage = normal(mesh.n_cells, seed=8).exp()
    initial = normal(mesh.n_cells, seed=9)
    return mesh, log_t, storage, initial, forcing


def test_first_order_in_time_towards_the_exact_semi_discrete_solution(small):
    """On a fixed mesh h(t) = h_inf + exp(-C^-1 A t) (h_0 - h_inf) is known exactly."""
    mesh, log_t, storage, initial, forcing = dense_problem(small)
    solver, time = FlowSolver(mesh), 0.8
    steady = solver.solve(log_t, forcing)
    free = torch.ones(mesh.n_cells, dtype=torch.bool).index_fill(0, mesh.fixed_cell, 0)

    def load(head):
        return residual(mesh, log_t, head, forcing)[..., free]

    identity = torch.eye(mesh.n_cells).double()[free]
    matrix = (load(identity) - load(zeros(mesh.n_cells))).T  # A of the free cells
    flow = scipy.linalg.expm((-time * matrix / storage[free][:, None]).numpy())
    exact = steady[free] + torch.tensor(flow) @ (initial - steady)[free]

    def error(n_steps):
        period = StressPeriod(forcing, time / n_steps, n_steps)
        heads = solve_transient(solver, log_t, storage, initial, [period])
        return float((heads[-1, free] - exact).norm())

    orders = [math.log2(a / b) for a, b in pairwise(map(error, (40, 80, 160, 320)))]
    assert abs(orders[-1] - 1) < 0.03, orders


def test_steady_state_is_the_fixed_point_and_the_limit(small):
    mesh, log_t, forcing = small
    solver = FlowSolver(mesh)
    steady = solver.solve(log_t, forcing)
    storage = normal(mesh.n_cells, seed=8).exp()
    stay = solve_transient(
        solver, log_t, storage, steady, [StressPeriod(forcing, 0.1, 5)]
    )
    torch.testing.assert_close(
        stay, steady[:, None].expand_as(stay), rtol=0, atol=1e-12
    )
    far = solve_transient(
        solver, log_t, storage, zeros(mesh.n_cells), [StressPeriod(forcing, 1e9, 2)]
    )
    torch.testing.assert_close(far[:, -1], steady, rtol=0, atol=1e-8)
    without_storage = solve_transient(
        solver, log_t, zeros(mesh.n_cells), storage, [StressPeriod(forcing, 1.0, 1)]
    )
    torch.testing.assert_close(without_storage[:, 0], steady, rtol=0, atol=1e-12)


def test_every_step_closes_its_water_balance():
    """Storage change = inflow - outflow - pumping to 1e-10 of the inflow."""
    shape, cells = (20, 30), torch.tensor([65, 333])
    west = outer_faces(shape, ["west"])
    mesh = structured_mesh(
        shape, (40.0, 50.0), head_faces=west, fixed_cells=[(i, 29) for i in range(20)]
    )
    log_t = 3 + normal(3, mesh.n_cells, seed=1)
    storage = 2e-4 * 40 * 50 * normal(mesh.n_cells, seed=2).exp()
    rates = torch.tensor([[-300.0, 50.0], [0.0, -120.0]]).double()
    periods = [
        StressPeriod(
            Forcing(
                head=full(20, 31.0),
                fixed_head=full(20, 29.0),
                source=well_source(mesh, cells, rates[i]),
            ),
            dt,
            n_steps,
        )
        for i, (dt, n_steps) in enumerate([(0.05, 8), (0.3, 5)])
    ]
    initial = full(mesh.n_cells, 30.0)
    heads = solve_transient(FlowSolver(mesh), log_t, storage, initial, periods)
    assert heads.shape == (3, 13, mesh.n_cells)
    free = torch.ones(mesh.n_cells).double().index_fill(0, mesh.fixed_cell, 0.0)
    before, n = initial.expand(3, -1), 0
    for period in periods:
        for _ in range(period.n_steps):
            now = heads[:, n]
            flows = boundary_flows(mesh, log_t, now, period.forcing)
            entering = torch.cat([flows.head_faces, flows.fixed_cells], dim=-1)
            stored = (free * storage * (now - before)).sum(-1) / period.time_step
            net = entering.sum(-1) + period.forcing.source.sum() - stored
            assert (net.abs() <= 1e-10 * entering.clamp(min=0).sum(-1)).all(), n
            before, n = now, n + 1


def test_modflow_confined_transient(modflow_file):
    with h5py.File(modflow_file.with_name("confined_transient.h5")) as f:
        k = torch.tensor(f["conductivity_m_per_day"][:])
        chd, wells = torch.tensor(f["chd"][:]), torch.tensor(f["wells"][:])
        reference, time = torch.tensor(f["head_m"][:]), f["time_day"][:]
        dy, dx = float(f.attrs["dy_m"]), float(f.attrs["dx_m"])
        thickness = float(f.attrs["thickness_m"])
        storativity = float(f.attrs["specific_storage_per_m"]) * thickness
        initial = float(f.attrs["initial_head_m"])
    shape = tuple(k.shape)
    mesh = structured_mesh(shape, (dy, dx), fixed_cells=chd[:, :2].long())
    row, column = wells[:, :2].long().T
    source = well_source(mesh, number_cells(shape)[row, column], wells[:, 2])
    period = StressPeriod(
        Forcing(fixed_head=chd[:, 2], source=source), float(time[0]), len(time)
    )
    heads = solve_transient(
        FlowSolver(mesh),
        (k * thickness).log().ravel(),
        full(mesh.n_cells, storativity * dx * dy),
        full(mesh.n_cells, initial),
        [period],
    )
    assert (heads.reshape(reference.shape) - reference).abs().max() < 1e-8


def test_batch_equals_its_members_and_periods_continue_each_other(small):
    mesh, log_t, forcing = small
    solver, storage = FlowSolver(mesh), normal(2, mesh.n_cells, seed=8).exp()
    initial = normal(mesh.n_cells, seed=9)
    halves = [StressPeriod(forcing, 0.2, 2), StressPeriod(forcing, 0.2, 3)]
    both = solve_transient(solver, log_t, storage, initial, halves)
    whole = solve_transient(
        solver, log_t, storage, initial, [StressPeriod(forcing, 0.2, 5)]
    )
    torch.testing.assert_close(both, whole, rtol=0, atol=1e-14)
    for i in range(2):
        alone = Forcing(
            forcing.head[i], forcing.inflow, forcing.fixed_head[i], forcing.source[i]
        )
        one = solve_transient(
            solver, log_t[i], storage[i], initial, [StressPeriod(alone, 0.2, 5)]
        )
        assert one.shape == (5, mesh.n_cells)
        torch.testing.assert_close(one, whole[i], rtol=1e-13, atol=1e-13)


def test_gradcheck_for_every_input_over_two_periods(small):
    mesh, log_t, forcing = small
    solver, storage = FlowSolver(mesh), normal(mesh.n_cells, seed=8).exp()
    inputs = [log_t, storage, normal(2, mesh.n_cells, seed=9)]
    inputs += [forcing.head, forcing.inflow, forcing.fixed_head, forcing.source]

    def heads(log_t, storage, initial, head, inflow, fixed_head, source):
        first = Forcing(head, inflow, fixed_head, source)
        second = Forcing(head**2, 2 * inflow, fixed_head, -source)
        periods = [StressPeriod(first, 0.3, 2), StressPeriod(second, 0.7, 1)]
        return solve_transient(solver, log_t, storage, initial, periods)

    leaves = [x.clone().requires_grad_() for x in inputs]
    assert torch.autograd.gradcheck(heads, leaves, eps=1e-6, atol=1e-7, rtol=1e-6)


def test_taylor_remainder_is_second_order(hanford):
    mesh, solver = hanford.mesh, hanford.solver
    storage = full(mesh.n_cells, 50.0)
    initial = full(mesh.n_cells, 115.0)
    period = StressPeriod(hanford.forcing, 2.0, 8)
    direction, weights = (normal(mesh.n_cells, seed=i) for i in (1, 2))

    def loss(log_t):
        heads = solve_transient(solver, log_t, storage, initial, [period])
        return (weights * heads).sum()

    leaf = hanford.log_t.clone().requires_grad_()
    value = loss(leaf)
    (gradient,) = torch.autograd.grad(value, leaf)
    value, slope = value.detach(), float(gradient @ direction)
    steps = [0.1 / 2**i for i in range(4)]
    remainders = [
        abs(float(loss(hanford.log_t + s * direction) - value) - s * slope)
        for s in steps
    ]
    orders = [math.log2(a / b) for a, b in pairwise(remainders)]
    assert abs(orders[-1] - 2) < 0.05, orders


def line_problem():
    mesh = structured_mesh((1, 4), (1.0, 1.0), fixed_cells=[(0, 0)])
    return mesh, StressPeriod(Forcing(fixed_head=zeros(1)), 1.0, 1)


def test_bad_members_are_refused_by_number():
    mesh, period = line_problem()
    solver, good = FlowSolver(mesh), zeros(3, 4)
    for name, value in (
        ("storage", -1.0),
        ("storage", math.nan),
        ("storage", math.inf),
        ("initial_head", math.nan),
        ("ln T", math.nan),
    ):
        fields = {
            "ln T": good.clone(),
            "storage": good + 1,
            "initial_head": good.clone(),
        }
        fields[name][1, 2] = value
        with pytest.raises(FlowSolveError, match=f"{name}.*member 1, cell 2") as caught:
            solve_transient(solver, *fields.values(), [period])
        assert caught.value.members == (1,)


def test_a_member_with_a_forcing_that_is_no_number_is_named():
    mesh, _ = line_problem()
    head = torch.tensor([[1.0], [math.nan], [2.0]]).double()
    periods = [StressPeriod(Forcing(fixed_head=head), 1.0, 2)]
    with pytest.raises(FlowSolveError, match=r"balance.*\[1\]") as caught:
        solve_transient(FlowSolver(mesh), zeros(4), zeros(4) + 1, zeros(4), periods)
    assert caught.value.members == (1,)


def test_bad_shapes_and_steps_are_refused():
    mesh, period = line_problem()
    solver = FlowSolver(mesh)
    for time_step in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="time_step must be positive"):
            StressPeriod(period.forcing, time_step, 1)
    with pytest.raises(ValueError, match="n_steps must be at least 1; got 0"):
        StressPeriod(period.forcing, 1.0, 0)
    with pytest.raises(ValueError, match="periods must hold one"):
        solve_transient(solver, zeros(4), zeros(4), zeros(4), [])
    with pytest.raises(ValueError, match=r"storage must have 4 values.*\(3,\)"):
        solve_transient(solver, zeros(4), zeros(3), zeros(4), [period])
    with pytest.raises(TypeError, match="initial_head must be float64"):
        solve_transient(solver, zeros(4), zeros(4), zeros(4).float(), [period])


def test_wells_outside_the_mesh_are_refused_and_wells_in_one_cell_add_up():
    mesh, _ = line_problem()
    for cell in (-1, 4):
        with pytest.raises(ValueError, match=f"cell 0..3 of the mesh; got {cell}"):
            well_source(mesh, [2, cell], zeros(2))
    with pytest.raises(ValueError, match=r"cell of fixed head.*cell 0"):
        well_source(mesh, [0], zeros(1))
    with pytest.raises(ValueError, match="rates of the wells must have 2 values"):
        well_source(mesh, [1, 2], zeros(3))
    rates = torch.tensor([[1.0, 2.0, 4.0]]).double()
    expected = torch.tensor([[0.0, 5.0, 0.0, 2.0]]).double()
    torch.testing.assert_close(well_source(mesh, [1, 3, 1], rates), expected)
