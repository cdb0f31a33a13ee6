"""What a GPU gains: shallow water and subsurface flow there, beside one core.

    python -m benchmarks.gpu [--markdown] [--members 512]

A day of the Galewsky jet with the semi-implicit scheme, as in `shallow_water_speed`, on
the GPU with all members at once and on one core in chunks, each compiled: simulated
years per day of all members, and the l2 difference of the depth between the two ends.

The flow solver's sparse factorisation runs on the CPU only. What a GPU has instead are
dense matrices, all members at once: assembly from ln T, Cholesky factors, and a solve
for the heads and one for the adjoint, beside `FlowSolver` with its adjoint on one core.

Says so and ends where there is no GPU.
"""

from dataclasses import replace
from functools import partial

import torch

from benchmarks import flow_solver
from benchmarks.rows import parser_of, print_row
from benchmarks.shallow_water_speed import Case, run_a_day, years_per_day
from simulators.shallow_water import State
from simulators.shallow_water.diagnostics import error_norms
from simulators.sphere import SphericalHarmonics, gauss_grid_for
from simulators.subsurface import FlowMesh, FlowSolver, residual, transmissibility

REPEATS = 5
CORE_MEMBERS = 64  # of the flow solver


def main() -> None:
    """Prints a line or a table row per truncation and dtype."""
    parser = parser_of(str(__doc__))
    parser.add_argument("--members", type=int, default=512, help="on the GPU at once")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("no GPU: nothing is measured")
        return
    torch.set_num_threads(1)
    torch.backends.cuda.matmul.allow_tf32 = False
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}", flush=True)
    for truncation in (42, 85):
        for dtype in (torch.float32, torch.float64):
            case = Case(truncation, dtype=dtype)
            print_row(compare(case, options.members), markdown=options.markdown)
    for dtype in (torch.float32, torch.float64):
        row = compare_flow(flow_solver.hanford_case(), options.members, dtype, "cuda")
        print_row(row, markdown=options.markdown)


def compare(case: Case, members: int) -> tuple[str, str, str, str]:
    """Row (what, figure, peer, ratio) of a case on both devices."""
    on_gpu = replace(case, members=members, device="cuda")
    eager, _ = run_a_day(replace(on_gpu, compiled=False))
    seconds, end = run_a_day(on_gpu)
    core_seconds, core_end = run_a_day(case)
    harmonics = SphericalHarmonics(gauss_grid_for(case.truncation), case.truncation)
    depth = partial(_geopotential, harmonics)
    error = error_norms(harmonics.grid, depth(end), depth(core_end)).l2
    return (
        f"{on_gpu.name}, GPU",
        f"{years_per_day(seconds):,.0f} SYPD (eager {years_per_day(eager):,.0f}); "
        f"differs by {float(error):.0e}",
        f"one core, {case.members} members: {years_per_day(core_seconds):,.0f} SYPD",
        f"{core_seconds / seconds:.0f}",
    )


def compare_flow(
    case: flow_solver.Case, members: int, dtype: torch.dtype, device: str
) -> tuple[str, str, str, str]:
    """Row of dense solves of many members on a device beside sparse ones on a core."""
    n = case.mesh.n_cells
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(members, n, generator=generator, dtype=torch.float64)
    log_t = case.mean + case.deviation * noise
    load = -residual(case.mesh, log_t, torch.zeros_like(log_t), case.forcing)
    on_device, loads = (x.to(device, dtype) for x in (log_t, load))
    mesh = case.mesh.to(device)
    few, solver = log_t[:CORE_MEMBERS], FlowSolver(case.mesh)

    def dense() -> torch.Tensor:
        factors = torch.linalg.cholesky(dense_matrices(mesh, on_device))
        heads = torch.cholesky_solve(loads[..., None], factors)
        torch.cholesky_solve(2 * heads, factors)  # the adjoint of their squares
        return heads[..., 0].cpu()  # waits for the device

    def sparse() -> torch.Tensor:
        leaf = few.clone().requires_grad_()
        heads = solver.solve(leaf, case.forcing)
        heads.square().sum().backward()  # type: ignore[no-untyped-call]  # torch
        return heads.detach()

    seconds, core_seconds = flow_solver.alternate([dense, sparse], REPEATS)
    per_member, per_core = seconds / members, core_seconds / len(few)
    error = (dense()[: len(few)].double() - sparse()).abs().max()
    precision = str(dtype).removeprefix("torch.")
    return (
        f"{case.name}: {members} members, {precision}, dense solve and adjoint, GPU",
        f"{1e3 * per_member:.3f} ms per member; heads within {float(error):.0e} m",
        f"sparse, one core: {1e3 * per_core:.3f} ms",
        f"{per_core / per_member:.1f}",
    )


def dense_matrices(mesh: FlowMesh, log_t: torch.Tensor) -> torch.Tensor:
    """Matrices (members, n, n) of steady flow for ln T (members, n), on its device."""
    a, b, faces, n = mesh.cell_a, mesh.cell_b, mesh.head_cell, mesh.n_cells
    t = transmissibility(mesh, log_t)
    t_face = log_t[:, faces].exp() * mesh.head_factor.to(log_t.dtype)
    matrices = log_t.new_zeros(len(log_t), n * n)
    for row, column, value in (
        (a, a, t),
        (b, b, t),
        (a, b, -t),
        (b, a, -t),
        (faces, faces, t_face),
    ):
        matrices.index_add_(1, row * n + column, value)
    return matrices.reshape(-1, n, n)


def _geopotential(harmonics: SphericalHarmonics, state: State) -> torch.Tensor:
    """Of the first member, (lat, lon)."""
    return harmonics.synthesise(state.geopotential[0].to("cpu", torch.complex128))


if __name__ == "__main__":
    main()
