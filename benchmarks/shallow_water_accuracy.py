"""Accuracy of the shallow-water model and its tracers beside what others published.

    python -m benchmarks.shallow_water_accuracy [--markdown] [--truncations 42 85]

T42 takes about a minute on a free core and is the default; T85 takes ten.

Float64. Cases 5 and 6 are compared with T170 states in the folder shared/ beside the
checkout (left out where it is absent); their peer is the grid-point model GME with
10,242 (T42) and 40,962 points (T85) against the spectral model STSWM. "Second model" is
an independent spectral model with the same scheme; the ratio is ours over the peer's.
"""

import math
from collections.abc import Iterator
from pathlib import Path

import h5py
import torch
from torch import Tensor

from benchmarks.rows import parser_of, print_row
from simulators.shallow_water import (
    EARTH_RADIUS,
    GRAVITY,
    ShallowWater,
    State,
    coriolis_coefficients,
)
from simulators.shallow_water.diagnostics import error_norms, invariants
from simulators.shallow_water.galewsky import JetParameters, galewsky_jet
from simulators.shallow_water.tracer import advect
from simulators.shallow_water.tracer_cases import (
    carrying_wind,
    cosine_bell,
    moving_vortices,
    vortex_wind,
)
from simulators.shallow_water.williamson import (
    DAY,
    flow_over_mountain,
    mountain_geopotential,
    rossby_haurwitz_wave,
    steady_zonal_flow,
)
from simulators.sphere import (
    Diffusion,
    RungeKutta4,
    SemiImplicit,
    SphericalHarmonics,
    gauss_grid_for,
    integrate,
)

REFERENCE = Path(__file__).parents[2] / "shared/reference/sphere"
# of depth and vorticity, by our truncation
GME = {
    "williamson5_day15.h5": {42: (1.371e-3, 0.1734), 85: (7.211e-4, 6.749e-2)},
    "williamson6_day10.h5": {42: (9.015e-3, 0.2127), 85: (2.893e-3, 9.384e-2)},
}
JET_ERROR = {42: 5.3e-6, 85: 1.7e-8}
# del^4 [m4/s], extremes of vorticity [1e-5/s] and depth [m] of the second model, day 6
BREAKING_JET = {
    42: (5e15, "11.48 / -9.84, 8798 / 10236 m"),
    85: (5e14, "13.25 / -10.78, 8632 / 10250 m"),
}

Row = tuple[str, str, str, str]


def main() -> None:
    """Prints a line or a table row per figure as soon as it is known."""
    parser = parser_of(str(__doc__))
    known = sorted(JET_ERROR)
    parser.add_argument(
        "--truncations", type=int, nargs="+", choices=known, default=known[:1]
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for truncation in arguments.truncations:
        harmonics = SphericalHarmonics(gauss_grid_for(truncation), truncation)
        for rows in (steady_rows, reference_rows, jet_rows, tracer_rows):
            for row in rows(harmonics):
                print_row(row, markdown=arguments.markdown)


def steady_rows(harmonics: SphericalHarmonics) -> Iterator[Row]:
    """Case 2 to day 5 at three angles."""
    step = RungeKutta4(75_600.0 / harmonics.truncation)
    for angle in (0.0, math.pi / 4, math.pi / 2 - 0.05):
        coriolis = coriolis_coefficients(harmonics, axis_angle=angle)
        model, start = (
            ShallowWater(harmonics, coriolis),
            steady_zonal_flow(harmonics, angle),
        )
        end = last_state(model, start, step, 5)
        error = depth_error(harmonics, end, harmonics.synthesise(start.geopotential))
        drift = mass_drift(model, start, end)
        yield (
            f"T{harmonics.truncation} case 2, axis at {math.degrees(angle):.0f} "
            "degrees, day 5: l2 of depth",
            f"{error:.1e} (mass drift {drift:.0e})",
            "exact; gate 1e-12",
            f"{error / 1e-12:.3f}",
        )


def reference_rows(harmonics: SphericalHarmonics) -> Iterator[Row]:
    """Cases 5 and 6 against the T170 states."""
    truncation = harmonics.truncation
    mountain = mountain_geopotential(harmonics)
    over_mountain = ShallowWater(harmonics, mountain=mountain)
    explicit = RungeKutta4(25_200.0 / truncation)
    leapfrog = SemiImplicit(75_600.0 / truncation)
    start = flow_over_mountain(harmonics)
    wave = rossby_haurwitz_wave(harmonics)
    for name, model, state, scheme, days in (
        ("williamson5_day15.h5", over_mountain, start, explicit, 15),
        ("williamson5_day15.h5", over_mountain, start, leapfrog, 15),
        ("williamson6_day10.h5", ShallowWater(harmonics), wave, explicit, 10),
    ):
        case = f"T{truncation} case {name[10]}, day {days}, {describe(scheme)}"
        if not (REFERENCE / name).exists():
            yield f"{case}: no reference states", "-", "-", "-"
            continue
        end = last_state(model, state, scheme, days)
        before, after = (invariants(model, x).energy for x in (state, end))
        drift = float(after / before - 1)
        depth, vorticity = read_reference(name, truncation)
        errors = (
            depth_error(harmonics, end, depth),
            l2(harmonics, harmonics.synthesise(end.vorticity), vorticity),
        )
        for what, error, peer in zip(
            (f"depth (energy drift {drift:.0e})", "vorticity"),
            errors,
            GME[name][truncation],
            strict=True,
        ):
            yield (
                f"{case}: l2 of {what}",
                f"{error:.2e}",
                f"GME: {peer:.2e}",
                f"{error / peer:.3f}",
            )


def jet_rows(harmonics: SphericalHarmonics) -> Iterator[Row]:
    """The Galewsky jet, unperturbed to day 2 and breaking to day 6."""
    truncation, scheme = (
        harmonics.truncation,
        RungeKutta4(37_800.0 / harmonics.truncation),
    )
    start = galewsky_jet(harmonics, JetParameters(bump_height=0.0))
    end = last_state(ShallowWater(harmonics), start, scheme, 2)
    error = depth_error(harmonics, end, harmonics.synthesise(start.geopotential))
    yield (
        f"T{truncation} unperturbed Galewsky jet, day 2: l2 of depth",
        f"{error:.2e}",
        f"second model: {JET_ERROR[truncation]:.1e}",
        f"{error / JET_ERROR[truncation]:.2f}",
    )
    strength, expected = BREAKING_JET[truncation]
    shortest = EARTH_RADIUS**2 / (truncation * (truncation + 1))
    model = ShallowWater(harmonics, diffusion=Diffusion(shortest**2 / strength))
    end = last_state(model, galewsky_jet(harmonics), scheme, 6)
    vorticity = 1e5 * harmonics.synthesise(end.vorticity)
    depth = harmonics.synthesise(end.geopotential) / GRAVITY
    yield (
        f"T{truncation} Galewsky jet, del^4 {strength:.0e} m4/s, day 6: extremes of "
        "vorticity in 1e-5/s, of depth",
        f"{vorticity.max():.2f} / {vorticity.min():.2f}, "
        f"{depth.min():.0f} / {depth.max():.0f} m",
        f"second model: {expected}",
        "-",
    )


def tracer_rows(harmonics: SphericalHarmonics) -> Iterator[Row]:
    """Cosine bell and moving vortices after one revolution, 12 days."""
    grid, n_steps = harmonics.grid, 20 * harmonics.truncation
    angles = torch.tensor([0.0, 0.05, math.pi / 2 - 0.05, math.pi / 2]).double()
    bell, wind = cosine_bell(grid, angles), carrying_wind(grid, angles)
    start = harmonics.analyse(bell)
    end = advect(harmonics, start, lambda _: wind, 12 * DAY / n_steps, n_steps)
    errors = error_norms(grid, harmonics.synthesise(end), bell).l2
    cut = l2(harmonics, harmonics.synthesise(start[0]), bell[0])
    yield (
        f"T{harmonics.truncation} case 1, cosine bell at four angles, day 12: l2",
        f"{errors.min():.2e} to {errors.max():.2e}",
        f"the bell, truncated: {cut:.2e}",
        f"{errors.max() / cut:.2f}",
    )
    angle = torch.tensor([0.0, math.pi / 4]).double()
    start = harmonics.analyse(moving_vortices(grid, angle, 0.0))
    end = advect(
        harmonics, start, vortex_wind(grid, angle), 12 * DAY / n_steps, n_steps
    )
    exact = moving_vortices(grid, angle, 12 * DAY)
    errors = error_norms(grid, harmonics.synthesise(end), exact).l2
    again = harmonics.synthesise(harmonics.analyse(exact))
    cut = l2(harmonics, again[0], exact[0])
    yield (
        f"T{harmonics.truncation} moving vortices at two angles, day 12: l2",
        f"{errors.min():.2e} to {errors.max():.2e}",
        f"the exact tracer, truncated: {cut:.2e}",
        f"{errors.max() / cut:.2f}",
    )


def last_state(
    model: ShallowWater, start: State, scheme: RungeKutta4 | SemiImplicit, days: float
) -> State:
    """The state after some days."""
    *_, end = integrate(model, start, scheme, days * DAY)
    return end.state


def describe(scheme: RungeKutta4 | SemiImplicit) -> str:
    """Name and step of a scheme."""
    return f"{type(scheme).__name__} {scheme.time_step_s:.0f} s"


def depth_error(harmonics: SphericalHarmonics, end: State, reference: Tensor) -> float:
    """Relative l2 of the geopotential of the fluid on the grid [m2/s2]."""
    return l2(harmonics, harmonics.synthesise(end.geopotential), reference)


def l2(harmonics: SphericalHarmonics, field: Tensor, reference: Tensor) -> float:
    """Relative l2 error of one field."""
    return float(error_norms(harmonics.grid, field, reference).l2)


def mass_drift(model: ShallowWater, start: State, end: State) -> float:
    """Relative change of the mass."""
    before, after = (invariants(model, state).mass for state in (start, end))
    return abs(float(after / before - 1))


def read_reference(name: str, truncation: int) -> tuple[Tensor, Tensor]:
    """Geopotential [m2/s2] and vorticity [1/s] of a T170 run, on a coarser grid."""
    with h5py.File(REFERENCE / name) as file:
        group = file[f"T{truncation}_gauss_grid"]
        return (
            torch.from_numpy(group["geopotential_m2_per_s2"][:]).double(),
            torch.from_numpy(group["vorticity_per_s"][:]).double(),
        )


if __name__ == "__main__":
    main()
