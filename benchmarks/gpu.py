"""What a GPU gains: the shallow-water model there beside one core of its host.

    python -m benchmarks.gpu [--markdown] [--members 512]

A day of the Galewsky jet with the semi-implicit scheme, as in `shallow_water_speed`, on
the GPU with all members at once and on one core in chunks, each compiled: simulated
years per day of all members, and the l2 difference of the depth between the two ends.
Says so and ends where there is no GPU. The flow solver is not here: its sparse
factorisation runs on the CPU only.
"""

from dataclasses import replace
from functools import partial

import torch

from benchmarks.rows import parser_of, print_row
from benchmarks.shallow_water_speed import Case, run_a_day, years_per_day
from simulators.shallow_water import State
from simulators.shallow_water.diagnostics import error_norms
from simulators.sphere import SphericalHarmonics, gauss_grid_for


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


def _geopotential(harmonics: SphericalHarmonics, state: State) -> torch.Tensor:
    """Of the first member, (lat, lon)."""
    return harmonics.synthesise(state.geopotential[0].to("cpu", torch.complex128))


if __name__ == "__main__":
    main()
