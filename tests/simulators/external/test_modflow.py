"""What MODFLOW 6 is told, and, where it is installed, what it answers."""

import shutil

import numpy as np
import pytest
import torch

from simulators.external import run_member
from simulators.external.modflow import (
    modflow_simulator,
    read_modflow_heads,
    write_modflow_input,
)
from simulators.subsurface import (
    FlowMesh,
    FlowSolver,
    Forcing,
    StressPeriod,
    outer_faces,
    solve_transient,
    structured_mesh,
)

pytest.importorskip("flopy", reason="FloPy, the extra `modflow`, is not installed")


def normal(*shape, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


@pytest.fixture
def problem():
    """A mesh with every kind of forcing, a member, and periods that differ in all."""
    flat = structured_mesh(
        (4, 5),
        (2.0, 3.0),
        head_faces=outer_faces((4, 5), ["west"]),
        fixed_cells=[(3, 4), (3, 3)],
    )
    names = ("cell_a", "cell_b", "factor_a", "factor_b", "head_cell", "head_factor")
    inflow = torch.tensor([4, 7, 7])
    fields = (getattr(flat, name) for name in names)
    mesh = FlowMesh(20, *fields, inflow_cell=inflow, fixed_cell=flat.fixed_cell)
    rich = Forcing(
        normal(4, seed=1), normal(3, seed=2), normal(2, seed=3), normal(20, seed=4)
    )
    bare = Forcing(head=normal(4, seed=5), fixed_head=normal(2, seed=6))
    periods = [StressPeriod(rich, 0.2, 3), StressPeriod(bare, 0.5, 2)]
    member = {
        "log_transmissivity": normal(20, seed=7),
        "storage": normal(20, seed=8).exp(),
        "initial_head": normal(20, seed=9),
    }
    return mesh, periods, member


def our_heads(mesh, periods, member):
    return solve_transient(FlowSolver(mesh), *member.values(), periods).numpy()


def heads_of_written_files(folder):
    """MODFLOW's equations, evaluated from the files as FloPy reads them.

    Conductance of a connection with width w and lengths l: w K_n K_m/(K_n l_mn + K_m
    l_nm) at thickness 1; storage S_s times area and thickness; general heads, wells and
    constant heads by period, backward Euler.
    """
    import flopy

    simulation = flopy.mf6.MFSimulation.load(sim_ws=str(folder), verbosity_level=0)
    flow, periods = simulation.get_model(), simulation.tdis.perioddata.array
    grid, k, head = flow.disu, flow.npf.k.array.ravel(), flow.ic.strt.array.ravel()
    n = len(k)
    row, column = np.repeat(np.arange(n), grid.iac.array), grid.ja.array
    length, width = np.zeros((n, n)), np.zeros((n, n))
    length[row, column], width[row, column] = grid.cl12.array, grid.hwva.array
    i, j = np.nonzero(width)
    conductance = np.zeros((n, n))
    series = k[i] * length[j, i] + k[j] * length[i, j]
    conductance[i, j] = width[i, j] * k[i] * k[j] / series
    flow_matrix = np.diag(conductance.sum(axis=1)) - conductance
    volume = grid.area.array * (grid.top.array - grid.bot.array)
    is_transient = flow.get_package("sto") is not None
    storage = flow.sto.ss.array.ravel() * volume if is_transient else 0 * volume

    def stress(package, period):
        found = flow.get_package(package)
        rows = None if found is None else found.stress_period_data.get_data(period)
        return [] if rows is None else [(row[0][0], *list(row)[1:]) for row in rows]

    heads = []
    for period, (duration, n_steps, _) in enumerate(periods):
        rate = storage * n_steps / duration
        matrix, load = flow_matrix + np.diag(rate), np.zeros(n)
        for cell, given, c in (r[:3] for r in stress("ghb", period)):
            matrix[cell, cell] += c
            load[cell] += c * given
        for cell, given in (r[:2] for r in stress("wel", period)):
            load[cell] += given
        for _ in range(n_steps):
            right, left = load + rate * head, matrix.copy()
            for cell, given in (r[:2] for r in stress("chd", period)):
                left[cell], left[cell, cell], right[cell] = 0.0, 1.0, given
            head = np.linalg.solve(left, right)
            heads.append(head)
    return np.array(heads)


def test_the_files_say_our_transient_problem(problem, tmp_path):
    mesh, periods, member = problem
    write_modflow_input(mesh, periods, member, tmp_path)
    told = heads_of_written_files(tmp_path)
    np.testing.assert_allclose(told, our_heads(*problem), rtol=0, atol=1e-12)


def test_the_files_say_our_steady_problem(problem, tmp_path):
    mesh, periods, member = problem
    del member["storage"]
    write_modflow_input(mesh, periods[:1], member, tmp_path)
    head = FlowSolver(mesh).solve(member["log_transmissivity"], periods[0].forcing)
    told = heads_of_written_files(tmp_path)
    np.testing.assert_allclose(told, head.expand(3, -1), rtol=0, atol=1e-12)


def test_connections_are_numbered_from_one_and_stress_ends_with_its_period(
    problem, tmp_path
):
    """As MODFLOW reads them: a period without a block would go on as the one before."""
    mesh, periods, member = problem
    write_modflow_input(mesh, periods, member, tmp_path)
    grid = (tmp_path / "flow.disu").read_text().split()
    assert grid[grid.index("ja") + 1 :][3:6] == ["1", "2", "6"]
    wells = (tmp_path / "flow.wel").read_text().split()
    assert " ".join(wells).endswith("BEGIN period 2 END period 2")


def test_written_numbers_keep_all_their_digits(problem, tmp_path):
    mesh, periods, member = problem
    write_modflow_input(mesh, periods, member, tmp_path)
    text = (tmp_path / "flow.ic").read_text().split()
    start = text.index("strt") + 4
    read = np.array(text[start : start + 20], dtype=float)
    np.testing.assert_allclose(read, member["initial_head"], rtol=1e-15, atol=0)


def test_heads_are_read_step_by_step(tmp_path):
    from flopy.utils.binaryfile import BinaryHeader

    heads = normal(3, 20, seed=1).numpy()
    with (tmp_path / "flow.hds").open("wb") as stream:
        for step, head in enumerate(heads):
            header = BinaryHeader.create(
                bintype="head",
                precision="double",
                text="HEAD",
                nrow=1,
                ncol=20,
                ilay=1,
                pertim=step + 1.0,
                totim=step + 1.0,
                kstp=step + 1,
                kper=1,
            )
            header.tofile(stream)
            head.tofile(stream)
    np.testing.assert_array_equal(read_modflow_heads(tmp_path)["head"], heads)


@pytest.mark.skipif(shutil.which("mf6") is None, reason="no MODFLOW 6 `mf6` on PATH")
@pytest.mark.parametrize("is_steady", [False, True])
def test_modflow_gives_our_heads(is_steady, problem, tmp_path):
    mesh, periods, member = problem
    expected = our_heads(*problem)
    if is_steady:
        storage = torch.zeros_like(member.pop("storage"))
        expected = our_heads(mesh, periods, {**member, "storage": storage})
    simulator = modflow_simulator(mesh, periods, tmp_path, time_limit_s=60.0)
    head = run_member(simulator, 0, member)["head"]
    np.testing.assert_allclose(head, expected, rtol=0, atol=1e-6)


def test_a_machine_without_modflow_is_told_so(problem, tmp_path):
    mesh, periods, member = problem
    simulator = modflow_simulator(mesh, periods, tmp_path, 60.0, program="no-mf6")
    with pytest.raises(FileNotFoundError, match=r"got no-mf6\. Install it"):
        run_member(simulator, 0, member)


def test_what_modflow_cannot_be_told_is_refused(problem, tmp_path):
    mesh, periods, member = problem
    batched = Forcing(head=normal(2, 4, seed=1), fixed_head=normal(2, seed=2))
    with pytest.raises(ValueError, match=r"forcing.head must be of one member.*\(2, 4"):
        write_modflow_input(mesh, [StressPeriod(batched, 1.0, 1)], member, tmp_path)
    short = {**member, "storage": member["storage"][:3]}
    with pytest.raises(ValueError, match=r"storage must hold a finite value.*\(3,\)"):
        write_modflow_input(mesh, periods, short, tmp_path)
    ones, none = torch.ones(2).double(), torch.empty(0, dtype=torch.int64)
    ends = torch.tensor([0, 1]), torch.tensor([1, 0])
    twice = FlowMesh(2, *ends, ones, ones, none, none.double(), none, ends[0][:1])
    period = StressPeriod(Forcing(fixed_head=ones[:1]), 1.0, 1)
    two = {"log_transmissivity": ones, "initial_head": ones}
    with pytest.raises(ValueError, match="two between cells 0 and 1"):
        write_modflow_input(twice, [period], two, tmp_path)
