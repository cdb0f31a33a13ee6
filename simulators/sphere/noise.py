"""Red-noise forcing of a model's first field on a ring of total wavenumbers.

    F(t + dt) = r F(t) + sqrt(1 - r^2) xi,   r = exp(-dt/tau)

with xi independent normal in every coefficient of the ring, isotropic and stationary
from the start. A member draws from its own generator and nowhere else.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class RedNoise:
    """Parameters of the forcing.

    Raises:
        ValueError: if a value is out of range.
    """

    amplitude: float  # root mean square of F over sphere and time, [1/s2] for vorticity
    correlation_time_s: float
    wavenumbers: tuple[int, int]  # lowest and highest l, usually near T/4

    def __post_init__(self) -> None:
        lowest, highest = self.wavenumbers
        if not 1 <= lowest <= highest:
            raise ValueError(
                f"wavenumbers must be 1 <= lowest <= highest; got {self.wavenumbers}."
            )
        for name in ("amplitude", "correlation_time_s"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(
                    f"{name} must be positive and finite; got {getattr(self, name)}."
                )


@dataclass(frozen=True, slots=True, eq=False)
class NoiseState:
    """The forcing of all members at one time, and what they will draw next."""

    noise: RedNoise
    values: Tensor  # (members, coefficients of the ring, 2), float64, variance 1
    generator_states: Tensor  # (members, bytes)

    def check(self, truncation: int, n_members: int) -> None:
        """Refuse noise beyond a truncation, or of another number of members."""
        if self.noise.wavenumbers[1] > truncation:
            raise ValueError(
                f"noise has wavenumbers up to {self.noise.wavenumbers[1]}; a model of "
                f"truncation {truncation} has none of them. Lower the ring."
            )
        if len(self.values) != n_members:
            raise ValueError(
                f"noise needs a generator for each of {n_members} members; got "
                f"{len(self.values)}."
            )

    def members(self, chosen: slice) -> "NoiseState":
        """The part of some members."""
        return replace(
            self,
            values=self.values[chosen],
            generator_states=self.generator_states[chosen],
        )


def start_noise(noise: RedNoise, generators: Sequence[torch.Generator]) -> NoiseState:
    """First draw, of the stationary distribution, from a CPU generator per member."""
    n = len(_ring(noise)[0])
    values = torch.stack([_draw(n, generator) for generator in generators])
    states = torch.stack([generator.get_state() for generator in generators])
    return NoiseState(noise, values, states)


def join_noise(parts: Sequence[NoiseState]) -> NoiseState:
    """The members of all parts, one after the other."""
    return replace(
        parts[0],
        values=torch.cat([part.values for part in parts]),
        generator_states=torch.cat([part.generator_states for part in parts]),
    )


class NoiseStepper:
    """Draws the noise of one chunk of members, step by step."""

    def __init__(self, state: NoiseState, time_step_s: float) -> None:
        self._noise, self._values = state.noise, state.values
        self._generators = [torch.Generator() for _ in state.generator_states]
        pairs = zip(self._generators, state.generator_states, strict=True)
        for generator, generator_state in pairs:
            generator.set_state(generator_state.clone())  # an offset is not read
        self._memory = math.exp(-time_step_s / state.noise.correlation_time_s)

    def state(self) -> NoiseState:
        """What a restart needs."""
        states = torch.stack([g.get_state() for g in self._generators])
        return NoiseState(self._noise, self._values, states)

    def coefficients(self, truncation: int) -> Tensor:
        """Tendencies of the first field, (members, T+1, T+1), complex128."""
        l, m = _ring(self._noise)
        power = 2 * self._noise.amplitude**2 / (2 * l[m == 0] + 1).sum()
        scale = torch.where(m == 0, power, power / 2).sqrt()
        values = torch.view_as_complex(self._values) * scale
        n = truncation + 1
        result = values.new_zeros(len(values), n, n)
        result[:, l, m] = torch.where(m == 0, values.real + 0j, values)
        return result

    def advance(self) -> None:
        """One step of the recursion."""
        n = self._values.shape[1]
        drawn = torch.stack([_draw(n, generator) for generator in self._generators])
        fresh = math.sqrt(1 - self._memory**2)
        self._values = self._memory * self._values + fresh * drawn


def _ring(noise: RedNoise) -> tuple[Tensor, Tensor]:
    """Degree l and order m of the coefficients of the ring."""
    lowest, highest = noise.wavenumbers
    l, m = torch.tril_indices(highest + 1, highest + 1)
    inside = l >= lowest
    return l[inside], m[inside]


def _draw(n: int, generator: torch.Generator) -> Tensor:
    return torch.randn(n, 2, generator=generator, dtype=torch.float64)
