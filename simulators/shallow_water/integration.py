"""Runs the shallow-water model from a state or a snapshot to later snapshots.

A snapshot holds all that the rest of the run depends on, so that a run continued from
one gives the bits of the unbroken run. On a CPU, members run in chunks: larger ones
leave the cache, smaller ones waste the matrix products.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from simulators.shallow_water.equations import ShallowWater
from simulators.shallow_water.noise import NoiseState, NoiseStepper, join_noise
from simulators.shallow_water.stability import check_time_step
from simulators.shallow_water.state import State
from simulators.shallow_water.stepping import Added, RungeKutta4, SemiImplicit

MEMBERS_PER_CHUNK = 16
FEWEST_MEMBERS_PER_CHUNK = 4
POINTS_PER_CHUNK = 2**19  # 16 members at T85, fewer at finer truncations
STEPS_BETWEEN_CHECKS = 16

Levels = tuple[Tensor, ...]  # rows of one time level, or of two


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """A state with what a restart needs; `Snapshot(0.0, state)` begins a run."""

    time_s: float
    state: State
    previous: State | None = None  # the filtered level a step before, of a leapfrog
    time_step_s: float | None = None  # between the two levels
    noise: NoiseState | None = None


class IntegrationError(RuntimeError):
    """A member became non-finite or lost its fluid.

    Attributes:
        members: their numbers in the flattened batch.
        step: the first bad step of this call of `integrate`, from 1.
        last_good: snapshot of these members a step before, without noise.
    """

    def __init__(
        self, message: str, members: tuple[int, ...], step: int, last_good: Snapshot
    ) -> None:
        super().__init__(message)
        self.members, self.step, self.last_good = members, step, last_good


def integrate(
    model: ShallowWater,
    start: State | Snapshot,
    scheme: RungeKutta4 | SemiImplicit,
    duration_s: float,
    output_interval_s: float | None = None,
) -> Iterator[Snapshot]:
    """Snapshots at each output interval after the start, the last at its end.

    The step is shortened to divide the interval. Finiteness and depth are checked
    every 16 steps and at each output; the step that an error names is exact.
    Differentiable; steps are then recomputed in the backward pass.

    Args:
        model: the sphere.
        start: with members as leading dimensions; a snapshot continues its run.
        scheme: with the longest step to take.
        duration_s: [s].
        output_interval_s: a whole part of the duration; default all of it.

    Raises:
        ValueError: at the first iteration, if the step is unstable for the initial
            winds and depths (the largest safe one is named), the interval does not
            divide the duration, or a snapshot was made with another step.
        IntegrationError: at the first non-finite state or negative depth.
    """
    if isinstance(start, State):
        start = Snapshot(0.0, start)
    interval = duration_s if output_interval_s is None else output_interval_s
    n_outputs = _whole_ratio(duration_s, interval)
    n_steps = math.ceil(interval / scheme.time_step_s * (1 - 1e-12))
    scheme = replace(scheme, time_step_s=interval / n_steps)
    check_time_step(model, start.state, scheme)
    chunks = _split(model, start, scheme)
    batch = start.state.vorticity.shape[:-2]
    for output in range(n_outputs):
        time_s = start.time_s + output * interval
        for chunk in chunks:
            chunk.run(n_steps, output * n_steps, time_s)
        yield _snapshot(chunks, time_s + interval, batch)


@dataclass(slots=True, eq=False)
class _Chunk:
    """Members that run together."""

    model: ShallowWater
    scheme: RungeKutta4 | SemiImplicit
    levels: Levels
    noise: NoiseStepper | None
    first_member: int

    def run(self, n_steps: int, steps_before: int, time_s: float) -> None:
        """Advance by some steps, checked in blocks."""
        dt = self.scheme.time_step_s
        for begin in range(0, n_steps, STEPS_BETWEEN_CHECKS):
            levels = self.levels
            noise = None if self.noise is None else self.noise.state()
            for step in range(begin, min(begin + STEPS_BETWEEN_CHECKS, n_steps)):
                self.levels = self._step(self.levels, time_s + step * dt)
            if self._bad_members(self.levels):
                self._fail(levels, noise, steps_before + begin, time_s + begin * dt)

    def _step(self, levels: Levels, time_s: float) -> Levels:
        added = self._added(time_s)
        if self.noise is not None:
            self.noise.advance()

        def step(*levels: Tensor) -> Levels:
            if isinstance(self.scheme, RungeKutta4):
                return (self.scheme.step(self.model, levels[0], added),)
            if len(levels) == 1:
                return self.scheme.first_step(self.model, levels[0], added)
            return self.scheme.step(self.model, (levels[0], levels[1]), added)

        if not any(x.requires_grad for x in levels):
            return step(*levels)
        result: Levels = checkpoint(
            step, *levels, use_reentrant=False, preserve_rng_state=False
        )
        return result

    def _added(self, time_s: float) -> Added:
        """Forcing and noise of a step, as tendencies of rows."""
        model, noise = self.model, None
        if self.noise is not None:
            coefficients = self.noise.coefficients(model.harmonics.truncation)
            rows = model.transform.pack(coefficients.to(model.coriolis))
            zero = torch.zeros_like(rows)
            noise = torch.stack((rows, zero, zero), dim=1)

        def added(offset_s: float) -> Tensor | None:
            if model.forcing is None:
                return noise
            forcing = model.pack(model.forcing(time_s + offset_s))
            return forcing if noise is None else forcing + noise

        return added

    def _bad_members(self, levels: Levels) -> list[int]:
        """Members of the chunk that are not finite or have no fluid somewhere."""
        rows = levels[-1].detach()
        depth = self.model.geopotential_points(rows).amin(dim=(0, 1, 2))
        is_good = rows.isfinite().all(dim=0).all(dim=0) & (depth > 0)
        return [int(i) for i in (~is_good).nonzero()]

    def _fail(
        self, levels: Levels, noise: NoiseState | None, step: int, time_s: float
    ) -> None:
        """Repeat the steps since the last check up to the first bad one; raise."""
        dt = self.scheme.time_step_s
        self.noise = None if noise is None else NoiseStepper(noise, dt)
        while not (bad := self._bad_members(later := self._step(levels, time_s))):
            levels, step, time_s = later, step + 1, time_s + dt
        good = tuple(x[..., bad] for x in levels)
        part = _Chunk(self.model, self.scheme, good, None, 0)
        last_good = _snapshot([part], time_s, torch.Size([len(bad)]))
        members = tuple(self.first_member + i for i in bad)
        raise IntegrationError(
            "every member must stay finite with a positive depth; members "
            f"{list(members)} did not at step {step + 1}, {time_s + dt:g} s. Their "
            f"last good state is that of {last_good.time_s:g} s. Shorten the "
            f"step of {dt:g} s, or add diffusion.",
            members,
            step + 1,
            last_good,
        )


def _split(
    model: ShallowWater, start: Snapshot, scheme: RungeKutta4 | SemiImplicit
) -> list[_Chunk]:
    """Chunks of the members of a snapshot."""
    levels = _pack_levels(model, start, scheme)
    n_members = levels[0].shape[-1]
    if start.noise is not None:
        start.noise.check(model.harmonics.truncation, n_members)
    size = _chunk_size(model) if levels[0].device.type == "cpu" else n_members
    chunks = []
    for i in range(0, n_members, size):
        members, noise = slice(i, i + size), None
        if start.noise is not None:
            part = start.noise.members(members)
            noise = NoiseStepper(part, scheme.time_step_s)
        rows = tuple(x[..., members].contiguous() for x in levels)
        chunks.append(_Chunk(model, scheme, rows, noise, i))
    return chunks


def _chunk_size(model: ShallowWater) -> int:
    n_fitting = POINTS_PER_CHUNK // math.prod(model.harmonics.grid.shape)
    return min(MEMBERS_PER_CHUNK, max(FEWEST_MEMBERS_PER_CHUNK, n_fitting))


def _pack_levels(
    model: ShallowWater, start: Snapshot, scheme: RungeKutta4 | SemiImplicit
) -> Levels:
    """Rows of the levels that a scheme starts from."""
    now = model.pack(start.state)
    if start.previous is None or isinstance(scheme, RungeKutta4):
        return (now,)
    if start.time_step_s != scheme.time_step_s:
        raise ValueError(
            "a leapfrog continues with the step of its snapshot, "
            f"{start.time_step_s} s; got {scheme.time_step_s} s. Begin again with "
            "Snapshot(time_s, state) to change it."
        )
    return model.pack(start.previous), now


def _snapshot(chunks: list[_Chunk], time_s: float, batch: torch.Size) -> Snapshot:
    model, scheme = chunks[0].model, chunks[0].scheme
    levels = zip(*(chunk.levels for chunk in chunks), strict=True)
    *before, now = [model.unpack(torch.cat(x, dim=-1), batch) for x in levels]
    noises = [c.noise.state() for c in chunks if c.noise is not None]
    return Snapshot(
        time_s,
        now,
        previous=before[0] if before else None,
        time_step_s=scheme.time_step_s,
        noise=join_noise(noises) if noises else None,
    )


def _whole_ratio(duration_s: float, interval_s: float) -> int:
    ratio = duration_s / interval_s if interval_s > 0 else 0.0
    if ratio < 1 or not math.isclose(ratio, round(ratio), rel_tol=1e-9):
        raise ValueError(
            "output_interval_s must be positive and divide duration_s; got "
            f"{interval_s} s of {duration_s} s."
        )
    return round(ratio)
