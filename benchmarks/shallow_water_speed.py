"""Speed of the shallow-water model on one core, beside published single-core figures.

    python -m benchmarks.shallow_water_speed [--markdown] [--quick]

Simulated years per day (SYPD) = 86400 / (365 x wall seconds per simulated day), times
the members that run together: a day of the Galewsky jet through `integrate`, checks
included, best of the repeats. The peer is SpeedyWeather.jl's ShallowWaterModel with the
same truncation, step, precision and kind of scheme on one core of an EPYC 9554. The
share is that of the core's sgemm (dgemm) peak, measured in the same run; it counts
nominal work only: nine transforms with triangular Legendre sums folded by parity and
2.5 N log2 N per FFT, 11 operations per grid point and 30 per coefficient.
"""

import math
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import torch

from benchmarks.rows import parser_of, print_row
from simulators.shallow_water import ShallowWater, State
from simulators.shallow_water.galewsky import galewsky_jet
from simulators.sphere import (
    Diffusion,
    RungeKutta4,
    SemiImplicit,
    SphericalHarmonics,
    gauss_grid_for,
    integrate,
)

DAY = 86400.0
STEPS = {21: 3600.0, 42: 1800.0, 63: 1200.0, 85: 900.0, 127: 600.0, 170: 450.0}
RUNGE_KUTTA_STEPS = {42: 960.0, 85: 480.0}
PUBLISHED = {42: 8616, 63: 2297, 85: 960, 127: 231, 170: 86}
E_FOLDING_TIME_S = 28 * 3600.0
FINEST_REPEATED = 85  # finer ones take seconds for a day


@dataclass(frozen=True, slots=True)
class Case:
    """One run to time."""

    truncation: int
    members: int = 16
    dtype: torch.dtype = torch.float32
    is_explicit: bool = False
    compiled: bool = True
    device: str = "cpu"

    @property
    def name(self) -> str:
        """What a row says of it."""
        scheme = "RK4" if self.is_explicit else "semi-implicit"
        dtype = str(self.dtype).removeprefix("torch.")
        how = "compiled" if self.compiled else "eager"
        return f"T{self.truncation}, {self.members} members, {dtype}, {scheme}, {how}"


def main() -> None:
    """Prints a line or a table row per case."""
    parser = parser_of(str(__doc__))
    parser.add_argument(
        "--quick", action="store_true", help="chunks of 16 at T42 and T85 only"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for case in cases(quick=arguments.quick):
        print_row(time_case(case), markdown=arguments.markdown)
    for truncation in (42, 85):
        print_row(measure_memory(Case(truncation)), markdown=arguments.markdown)


def cases(*, quick: bool) -> list[Case]:
    """Both ways at T42 and T85, then one change at a time, then growth with T."""
    main_cases = [
        Case(t, compiled=compiled) for t in (42, 85) for compiled in (False, True)
    ]
    if quick:
        return main_cases
    others = [
        case
        for t in (42, 85)
        for case in (
            Case(t, members=1, compiled=False),
            Case(t, members=1),
            Case(t, members=64),
            Case(t, dtype=torch.float64),
            Case(t, is_explicit=True),
        )
    ]
    growth = [Case(t) for t in STEPS if t not in {42, 85}]
    return main_cases + others + growth


def time_case(case: Case) -> tuple[str, str, str, str]:
    """Row (what, figure, peer, ratio) of a case."""
    seconds, state = run_a_day(case)
    step = (RUNGE_KUTTA_STEPS if case.is_explicit else STEPS)[case.truncation]
    n_steps = math.ceil(DAY / step)
    evaluations = n_steps * (4 if case.is_explicit else 1)
    share = nominal_work(case.truncation) * evaluations / seconds / peak(case.dtype)
    figure = years_per_day(seconds)
    peer = PUBLISHED.get(case.truncation)
    return (
        case.name,
        f"{figure:,.0f} SYPD ({1e3 * seconds / n_steps:.3f} ms per member and step, "
        f"{100 * share:.0f} % of peak, {state_megabytes(state):.2f} MB per member)",
        f"SpeedyWeather.jl, published: {peer:,} SYPD" if peer else "none published",
        f"{figure / peer:.1f}" if peer else "-",
    )


def measure_memory(case: Case) -> tuple[str, str, str, str]:
    """Row of what eager steps of one chunk need beside the model and the state."""
    eager = replace(case, compiled=False)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        megabytes = pool.submit(working_megabytes, eager).result()
    return (
        f"{eager.name}: working memory",
        f"{megabytes:.0f} MB, {megabytes / case.members:.1f} MB per member",
        "-",
        "-",
    )


def working_megabytes(case: Case) -> float:
    """Growth of this process's memory, at its peak, while eight steps run; Linux."""
    torch.set_num_threads(1)
    model, state = build(case)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = _status_megabytes("VmRSS")
    step = STEPS[case.truncation]
    for _ in integrate(model, state, SemiImplicit(step), 8 * step):
        pass
    return _status_megabytes("VmHWM") - before


def _status_megabytes(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024 / 1e6


def run_a_day(case: Case) -> tuple[float, State]:
    """Least wall seconds of a simulated day per member, and the state after it."""
    torch.compiler.reset()
    model, state = build(case)
    scheme: RungeKutta4 | SemiImplicit = SemiImplicit(STEPS[case.truncation])
    if case.is_explicit:
        scheme = RungeKutta4(RUNGE_KUTTA_STEPS[case.truncation])

    def run(duration_s: float) -> State:
        *_, end = integrate(model, state, scheme, duration_s)
        return end.state

    run(4 * scheme.time_step_s)  # compiles
    repeats = 5 if case.truncation <= FINEST_REPEATED else 1
    seconds = least_seconds(lambda: run(DAY), repeats) / case.members
    return seconds, run(DAY)


def years_per_day(seconds: float) -> float:
    """Simulated years per day from the wall seconds of a simulated day."""
    return 86400 / (365 * seconds)


def build(case: Case) -> tuple[ShallowWater, State]:
    """The model of a case and equal members at its initial state."""
    grid = gauss_grid_for(case.truncation)
    jet = galewsky_jet(SphericalHarmonics(grid, case.truncation))
    harmonics = SphericalHarmonics(
        grid, case.truncation, dtype=case.dtype, device=case.device
    )
    fields = (jet.vorticity, jet.divergence, jet.geopotential)
    n = case.truncation + 1
    state = State(
        *(
            x.to(case.device, case.dtype.to_complex()).expand(case.members, n, n)
            for x in fields
        )
    )
    diffusion = Diffusion(E_FOLDING_TIME_S)
    return ShallowWater(harmonics, diffusion=diffusion, compiled=case.compiled), state


def nominal_work(truncation: int) -> float:
    """Operations of one evaluation for one member."""
    n_lat, n_lon = gauss_grid_for(truncation).shape
    coefficients = (truncation + 1) * (truncation + 2)
    legendre = coefficients * n_lat
    fourier = 2.5 * n_lon * math.log2(n_lon) * n_lat
    return 9 * (legendre + fourier) + 11 * n_lat * n_lon + 30 * coefficients


@cache
def peak(dtype: torch.dtype) -> float:
    """Operations per second of a square matrix product."""
    n = 1024
    matrix = torch.ones(n, n, dtype=dtype)
    return 2 * n**3 / least_seconds(lambda: matrix @ matrix, 20)


def least_seconds(task: Callable[[], object], repeats: int) -> float:
    """Least wall seconds; other work on the machine only adds time."""
    best = math.inf
    for _ in range(repeats):
        start = time.perf_counter()
        task()
        best = min(best, time.perf_counter() - start)
    return best


def state_megabytes(state: State) -> float:
    """Of the real numbers of one member's three fields."""
    n = state.vorticity.shape[-1]
    size = state.vorticity.element_size() / 2
    return 3 * n**2 * size / 1e6


if __name__ == "__main__":
    main()
