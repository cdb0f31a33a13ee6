"""The flows that the steps of the shallow-water workflow share: drawn, modelled, read.

Even numbers are perturbed Galewsky jets, odd ones random balanced states. A member's
draws depend on the seed and its number alone, and are equal at every truncation that
holds them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data.ensemble_store import Variable
from simulators.random_fields import member_generator
from simulators.shallow_water import (
    EARTH_RADIUS,
    GRAVITY,
    ShallowWater,
    State,
    stack_fields,
)
from simulators.shallow_water.galewsky import (
    MEAN_DEPTH,
    galewsky_jet,
    sample_jet_parameters,
)
from simulators.shallow_water.random_states import (
    balanced_state,
    peaked_spectrum,
    random_vorticity,
)
from simulators.sphere import (
    Diffusion,
    Propagator,
    SemiImplicit,
    SphericalHarmonics,
    gauss_grid_for,
)
from surrogates.sphere import PotentialVorticityAdvection
from workflows.engine.files.ensemble_files import read_stored

FIELDS = (
    Variable("relative_vorticity", "s-1", "relative vorticity"),
    Variable("divergence", "s-1", "divergence of the wind"),
    Variable("geopotential", "m2 s-2", "gravity times the depth of the fluid"),
)
KINDS = ("jet", "random")  # of even and odd numbers
HOUR_S = 3600.0
DAY_S = 24 * HOUR_S
RANDOM_WIND = 15.0  # root mean square [m/s]
RANDOM_PEAK = 6  # degree with the most energy
MEAN_GEOPOTENTIAL = MEAN_DEPTH * GRAVITY
FASTEST_WIND = 110.0  # [m/s], above what these flows reach; it sets the step
LONGEST_STEP_S = 1800.0
TRUTH_DIFFUSION = Diffusion(28 * HOUR_S)  # del^4


@dataclass(frozen=True, slots=True)
class FlowRecord:
    """Which flows are simulated, and what is kept of them; see `FlowConfig`."""

    truth_truncation: int
    truncation: int
    days: int
    interval_h: int

    @property
    def interval_s(self) -> float:
        """Time between stored states [s]."""
        return self.interval_h * HOUR_S

    @property
    def n_steps(self) -> int:
        """Intervals of a flow."""
        return self.days * 24 // self.interval_h


def harmonics_of(
    truncation: int, dtype: torch.dtype = torch.float32
) -> SphericalHarmonics:
    """The transform of a truncation on its Gauss grid."""
    return SphericalHarmonics(gauss_grid_for(truncation), truncation, dtype=dtype)


def model_of(truncation: int, diffusion: Diffusion) -> ShallowWater:
    """The model at a truncation, float32, without mountain."""
    return ShallowWater(harmonics_of(truncation), diffusion=diffusion)


def scheme_of(truncation: int) -> SemiImplicit:
    """A semi-implicit step that is stable for these flows."""
    wavenumber = math.sqrt(truncation * (truncation + 1))
    stable_s = 1.05 * EARTH_RADIUS / (FASTEST_WIND * wavenumber)
    return SemiImplicit(min(stable_s, LONGEST_STEP_S))


def propagator_of(
    truncation: int, diffusion: Diffusion, interval_s: float
) -> Propagator[ShallowWater]:
    """The model at a truncation over one interval."""
    model = model_of(truncation, diffusion)
    return Propagator(model, scheme_of(truncation), interval_s)


def advection_of(flow: FlowRecord) -> PotentialVorticityAdvection:
    """What a flow does for nothing over one interval: vorticity is carried along."""
    return PotentialVorticityAdvection(
        harmonics_of(flow.truncation), MEAN_GEOPOTENTIAL, flow.interval_s
    )


def draw_states(numbers: Sequence[int], seed: int, truncation: int) -> Tensor:
    """First states (members, 3, l, m) of the flows with these numbers, complex64.

    Args:
        numbers: of the flows.
        seed: of the ensemble.
        truncation: of the coefficients, at least the 21 of the random states.
    """
    harmonics = harmonics_of(truncation, torch.float64)
    n = truncation + 1
    states = torch.zeros(len(numbers), 3, n, n, dtype=torch.complex64)
    of_kind: tuple[list[int], list[int]] = ([], [])
    for row, number in enumerate(numbers):
        of_kind[number % 2].append(row)
    for rows, draw in zip(of_kind, (_jets, _random_states), strict=True):
        if rows:
            generators = [member_generator(seed, numbers[row]) for row in rows]
            drawn = stack_fields(draw(harmonics, generators))
            states[rows] = drawn.to(torch.complex64)
    return states


def _jets(
    harmonics: SphericalHarmonics, generators: Sequence[torch.Generator]
) -> State:
    return galewsky_jet(harmonics, sample_jet_parameters(generators))


def _random_states(
    harmonics: SphericalHarmonics, generators: Sequence[torch.Generator]
) -> State:
    energy = peaked_spectrum(RANDOM_WIND, RANDOM_PEAK, 21)
    vorticity = random_vorticity(harmonics, generators, energy)
    return balanced_state(harmonics, vorticity, MEAN_GEOPOTENTIAL)


def kinds_of(numbers: Sequence[int]) -> NDArray[np.int64]:
    """0 for a jet, 1 for a random state."""
    return np.array(numbers, dtype=np.int64) % 2


def require_kinds(role: str, kinds: NDArray[np.int64]) -> None:
    """Refuse members without a jet or without a random state.

    Raises:
        ValueError: a kind is missing.
    """
    for kind, name in enumerate(KINDS):
        if not (kinds == kind).any():
            raise ValueError(
                f"{role} members must hold a flow of kind {name} that did not fail; "
                f"got none among {len(kinds)}. Simulate more: ensemble.members, "
                "ensemble.test_members."
            )


def read_flows(
    folder: Path, truncation: int, members: Sequence[int]
) -> tuple[NDArray[np.int64], Tensor]:
    """Members of a run that did not fail: ids (n,), flows (n, times, 3, l, m)."""
    ids, fields = read_stored(folder, FIELDS, members)
    harmonics = harmonics_of(truncation)
    flows = [harmonics.analyse(field) for field in fields]
    return ids, torch.stack(flows, dim=-3)
