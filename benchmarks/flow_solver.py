"""Cost of steady and transient flow solves, beside SciPy's direct solver alone.

    python -m benchmarks.flow_solver [--markdown]

One thread. A solve of ours includes the assembly from ln T; `spsolve` is timed on a
matrix that exists already. Repeats of both alternate and the best of each is shown, as
other work on the machine only adds time. The mesh of 1475 cells is the Hanford one
where `$HEADRACE_HANFORD_DATA`, or the folder shared/ beside the checkout, has its
files, else a structured mesh of similar size.
"""

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.sparse
import scipy.sparse.linalg
import torch
from torch import Tensor

from benchmarks.rows import parser_of, print_row
from data.sources.hanford import read_hanford
from simulators.subsurface import (
    FlowMesh,
    FlowSolver,
    Forcing,
    StressPeriod,
    outer_faces,
    residual,
    solve_transient,
    structured_mesh,
    well_source,
)
from workflows.hanford.fields import flow_problem

DEFAULT_DATA = Path(__file__).parents[2] / "shared/reference/hanford/data"


class Case(NamedTuple):
    """One mesh with its forcing and the spread of ln T of its members."""

    name: str
    mesh: FlowMesh
    forcing: Forcing
    mean: Tensor
    deviation: float


def main() -> None:
    """Time all cases and print a line or a table row for each figure."""
    parser = parser_of(str(__doc__))
    parser.add_argument("--repeats", type=int, default=15)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for case, n_members, share in (
        (hanford_case(), 64, 1),
        (square_case(64), 16, 2),
        (square_case(256), 2, 5),
    ):
        for row in time_case(case, n_members, max(3, arguments.repeats // share)):
            print_row(row, markdown=arguments.markdown)
    print_row(
        time_transient_member(arguments.repeats // 5), markdown=arguments.markdown
    )


def time_transient_member(repeats: int) -> tuple[str, str, str, str]:
    """Row of one member of 256 x 256 cells: two wells pump, then rest, 50 steps.

    The peer factorises its matrix once as well and solves for the same 50 steps.
    """
    case, n_steps, dt = square_case(256), 50, 40.0
    solver, n = FlowSolver(case.mesh), case.mesh.n_cells
    generator = torch.Generator().manual_seed(0)
    log_t = torch.randn(n, generator=generator, dtype=torch.float64)
    storage, initial = log_t.new_full((n,), 0.1), log_t.new_zeros(n)
    rates = torch.tensor([-2.0, -1.0], dtype=torch.float64)
    source = well_source(case.mesh, [n // 3, n // 2 + 40], rates)
    pumping = Forcing(head=case.forcing.head, source=source)
    periods = [
        StressPeriod(forcing, dt, n_steps // 2) for forcing in (pumping, case.forcing)
    ]
    matrix, load = linear_system(case, log_t)
    loads = [load + source.numpy(), load]

    def ours() -> Tensor:
        return solve_transient(solver, log_t, storage, initial, periods)

    def peer() -> np.ndarray:
        rate = (storage / dt).numpy()
        factors = scipy.sparse.linalg.splu((matrix + scipy.sparse.diags(rate)).tocsc())
        head = initial.numpy()
        for step in range(n_steps):
            head = factors.solve(loads[2 * step // n_steps] + rate * head)
        return head

    error = np.abs(ours()[-1].numpy() - peer()).max()
    own, other = alternate([ours, peer], max(2, repeats))
    return (
        f"{case.name}: transient member, {n_steps} backward Euler steps, two wells",
        f"{1e3 * own:.0f} ms (heads within {error:.0e} m)",
        f"scipy splu and {n_steps} solves: {1e3 * other:.0f} ms",
        f"{other / own:.1f}",
    )


def time_case(
    case: Case, n_members: int, repeats: int
) -> list[tuple[str, str, str, str]]:
    """Rows (what, figure, peer, ratio) of one mesh."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(
        n_members, case.mesh.n_cells, generator=generator, dtype=torch.float64
    )
    log_t = case.mean + case.deviation * noise
    solver = FlowSolver(case.mesh)
    matrix, load = linear_system(case, log_t[0])
    error = np.abs(
        solver.solve(log_t[0], case.forcing).numpy()
        - scipy.sparse.linalg.spsolve(matrix, load)
    ).max()

    def solve() -> None:
        solver.solve(log_t, case.forcing)

    def solve_and_adjoint() -> None:
        leaf = log_t.clone().requires_grad_()
        solver.solve(leaf, case.forcing).square().sum().backward()  # type: ignore[no-untyped-call]  # torch

    def peer() -> None:
        for _ in range(max(1, n_members // 8)):
            scipy.sparse.linalg.spsolve(matrix, load)

    ours, both, spsolve = alternate([solve, solve_and_adjoint, peer], repeats)
    ours, both = ours / n_members, both / n_members
    spsolve /= max(1, n_members // 8)
    return [
        (
            f"{case.name}: steady solves per second and core, assembly included",
            f"{1 / ours:.0f} ({1e3 * ours:.3f} ms; heads within {error:.0e} m)",
            f"scipy spsolve alone: {1 / spsolve:.0f} ({1e3 * spsolve:.2f} ms)",
            f"{spsolve / ours:.1f}",
        ),
        (
            f"{case.name}: solve and adjoint per member, batch of {n_members}",
            f"{1e3 * both:.3f} ms",
            f"solve alone: {1e3 * ours:.3f} ms",
            f"{both / ours:.2f}",
        ),
    ]


def alternate(tasks: Sequence[Callable[[], object]], repeats: int) -> list[float]:
    """Least seconds of each task; one round runs every task once."""
    seconds = np.empty((repeats, len(tasks)))
    for task in tasks:
        task()
    for i in range(repeats):
        for j, task in enumerate(tasks):
            start = time.perf_counter()
            task()
            seconds[i, j] = time.perf_counter() - start
    best: list[float] = seconds.min(axis=0).tolist()
    return best


def linear_system(
    case: Case, log_t: Tensor
) -> tuple[scipy.sparse.csc_matrix, np.ndarray]:
    """Matrix and right-hand side as the peer would be given them."""
    mesh, n = case.mesh, case.mesh.n_cells
    t_cell = log_t.exp().numpy()
    a, b, faces = mesh.cell_a.numpy(), mesh.cell_b.numpy(), mesh.head_cell.numpy()
    t_a, t_b = t_cell[a] * mesh.factor_a.numpy(), t_cell[b] * mesh.factor_b.numpy()
    t, t_face = t_a * t_b / (t_a + t_b), t_cell[faces] * mesh.head_factor.numpy()
    rows, columns = np.concatenate([[a, b], [b, a], [a, a], [b, b]], axis=1)
    rows, columns = np.concatenate([[rows, columns], [faces, faces]], axis=1)
    values = np.concatenate([-t, -t, t, t, t_face])
    matrix = scipy.sparse.coo_matrix((values, (rows, columns)), shape=(n, n)).tocsc()
    zero = torch.zeros(n, dtype=torch.float64)
    return matrix, -residual(mesh, log_t, zero, case.forcing).numpy()


def square_case(n: int) -> Case:
    """Square of n x n cells, heads 1 and 0 m on two sides, lognormal white noise."""
    faces = outer_faces((n, n), ("west", "east"))
    mesh = structured_mesh((n, n), (1.0, 1.0), head_faces=faces)
    heads = (faces[:, 1] == 0).double()
    mean = torch.zeros(mesh.n_cells, dtype=torch.float64)
    return Case(f"{n} x {n} cells", mesh, Forcing(head=heads), mean, 1.0)


def hanford_case() -> Case:
    """The Hanford mesh, or rectangles of similar number where it is absent."""
    folder = Path(os.environ.get("HEADRACE_HANFORD_DATA", DEFAULT_DATA))
    if not folder.exists():
        return square_case(38)._replace(name="no Hanford data: 38 x 38 cells")
    aquifer = read_hanford(folder)
    mean = torch.tensor(aquifer.reference_log_transmissivity)
    return Case("Hanford, 1475 cells", *flow_problem(aquifer), mean, 0.5)


if __name__ == "__main__":
    main()
