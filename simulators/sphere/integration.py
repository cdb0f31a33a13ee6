"""Runs a model on the sphere from a state or a snapshot to later snapshots.

A snapshot holds all that the rest of the run depends on, so that a run continued from
one gives the bits of the unbroken run. On a CPU, members run in chunks: larger ones
leave the cache, smaller ones waste the matrix products.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from simulators.sphere.model import SphereModel, StartError, check_time_step
from simulators.sphere.noise import NoiseState, NoiseStepper, join_noise
from simulators.sphere.stepping import Added, RungeKutta4, Scheme

MEMBERS_PER_CHUNK = 16
FEWEST_MEMBERS_PER_CHUNK = 4
POINTS_PER_CHUNK = 2**19  # 16 members at T85, fewer at finer truncations
STEPS_BETWEEN_CHECKS = 16

State = TypeVar("State")
Levels = tuple[Tensor, ...]  # rows of one time level, or of two


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot(Generic[State]):
    """A state with what a restart needs; `Snapshot(0.0, state)` begins a run."""

    time_s: float
    state: State
    previous: State | None = None  # the filtered level a step before, of a leapfrog
    time_step_s: float | None = None  # between the two levels
    noise: NoiseState | None = None


class IntegrationError(RuntimeError):
    """A member became non-finite, or of no physical state.

    Attributes:
        members: their numbers in the flattened batch.
        step: the first bad step of this call of `integrate`, from 1.
        last_good: snapshot of these members a step before, without noise.
    """

    def __init__(
        self,
        message: str,
        members: tuple[int, ...],
        step: int,
        last_good: Snapshot[Any],  # an exception cannot be generic
    ) -> None:
        super().__init__(message)
        self.members, self.step, self.last_good = members, step, last_good


def integrate(
    model: SphereModel[State],
    start: State | Snapshot[State],
    scheme: Scheme,
    duration_s: float,
    output_interval_s: float | None = None,
) -> Iterator[Snapshot[State]]:
    """Snapshots at each output interval after the start, the last at its end.

    The step is shortened to divide the interval. States are checked every 16 steps and
    at each output; the step that an error names is exact. Differentiable; steps are
    then recomputed in the backward pass.

    Args:
        model: the equation with its states.
        start: with members as leading dimensions; a snapshot continues its run.
        scheme: with the longest step to take.
        duration_s: [s].
        output_interval_s: a whole part of the duration; default all of it.

    Raises:
        StartError: at the first iteration, if a member is not sound, or the step is
            unstable for the initial state (the largest safe one is named).
        ValueError: at the first iteration, if the interval does not divide the
            duration, or a snapshot was made with another step.
        IntegrationError: at the first state that is not sound.
    """
    if not isinstance(start, Snapshot):
        start = Snapshot(0.0, start)
    interval = duration_s if output_interval_s is None else output_interval_s
    n_outputs = _whole_ratio(duration_s, interval)
    scheme, n_steps = fit_steps(scheme, interval)
    levels, batch = _pack_levels(model, start, scheme)
    chunks = _split(model, levels, start.noise, scheme)
    _check_members(chunks)
    check_time_step(model, start.state, scheme)
    for output in range(n_outputs):
        time_s = start.time_s + output * interval
        for chunk in chunks:
            chunk.run(n_steps, output * n_steps, time_s)
        yield _snapshot(chunks, time_s + interval, batch)


def fit_steps(scheme: Scheme, interval_s: float) -> tuple[Scheme, int]:
    """The scheme with a step that divides an interval, and how many steps it takes."""
    n_steps = math.ceil(interval_s / scheme.time_step_s * (1 - 1e-12))
    return replace(scheme, time_step_s=interval_s / n_steps), n_steps


def pack_members(model: SphereModel[State], state: State) -> Tensor:
    """Rows (n_rows, n_fields, members) of a state; leading dimensions become one."""
    rows = model.pack(state)
    return rows.reshape(*rows.shape[:2], -1)


@dataclass(slots=True, eq=False)
class _Chunk(Generic[State]):
    """Members that run together."""

    model: SphereModel[State]
    scheme: Scheme
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
            if self.bad_members():
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
            transform = model.transform
            coefficients = self.noise.coefficients(transform.truncation)
            rows = transform.pack(
                coefficients.to(transform.device, transform.dtype.to_complex())
            )
            still = [torch.zeros_like(rows)] * (model.n_fields - 1)
            noise = torch.stack((rows, *still), dim=1)

        def added(offset_s: float) -> Tensor | None:
            if model.forcing is None:
                return noise
            forcing = pack_members(model, model.forcing(time_s + offset_s))
            return forcing if noise is None else forcing + noise

        return added

    def bad_members(self) -> list[int]:
        """Members of the chunk that are not sound."""
        is_sound = self.model.is_sound(self.levels[-1].detach())
        return [int(i) for i in (~is_sound).nonzero()]

    def _fail(
        self, levels: Levels, noise: NoiseState | None, step: int, time_s: float
    ) -> None:
        """Repeat the steps since the last check up to the first bad one; raise."""
        dt = self.scheme.time_step_s
        self.noise = None if noise is None else NoiseStepper(noise, dt)
        while True:
            self.levels = self._step(levels, time_s)
            if bad := self.bad_members():
                break
            levels, step, time_s = self.levels, step + 1, time_s + dt
        good = tuple(x[..., bad] for x in levels)
        part = _Chunk(self.model, self.scheme, good, None, 0)
        last_good = _snapshot([part], time_s, torch.Size([len(bad)]))
        members = tuple(self.first_member + i for i in bad)
        raise IntegrationError(
            f"every member must stay {self.model.requirement}; members "
            f"{list(members)} did not at step {step + 1}, {time_s + dt:g} s. Their "
            f"last good state is that of {last_good.time_s:g} s. Shorten the "
            f"step of {dt:g} s, or add diffusion.",
            members,
            step + 1,
            last_good,
        )


def _split(
    model: SphereModel[State], levels: Levels, noise: NoiseState | None, scheme: Scheme
) -> list[_Chunk[State]]:
    """Chunks of the members of all levels."""
    n_members = levels[0].shape[-1]
    if noise is not None:
        noise.check(model.transform.truncation, n_members)
    size = _chunk_size(model) if levels[0].device.type == "cpu" else n_members
    chunks = []
    for i in range(0, n_members, size):
        members, stepper = slice(i, i + size), None
        if noise is not None:
            stepper = NoiseStepper(noise.members(members), scheme.time_step_s)
        rows = tuple(x[..., members].contiguous() for x in levels)
        chunks.append(_Chunk(model, scheme, rows, stepper, i))
    return chunks


def _chunk_size(model: SphereModel[State]) -> int:
    n_fitting = POINTS_PER_CHUNK // math.prod(model.transform.grid.shape)
    return min(MEMBERS_PER_CHUNK, max(FEWEST_MEMBERS_PER_CHUNK, n_fitting))


def _check_members(chunks: list[_Chunk[State]]) -> None:
    bad = [c.first_member + i for c in chunks for i in c.bad_members()]
    if bad:
        raise StartError(
            f"every member must be {chunks[0].model.requirement}; got members "
            f"{bad[:10]} that are not. Leave them out."
        )


def _pack_levels(
    model: SphereModel[State], start: Snapshot[State], scheme: Scheme
) -> tuple[Levels, torch.Size]:
    """Rows of the levels that a scheme starts from, and their leading dimensions."""
    packed = model.pack(start.state)
    now, batch = packed.reshape(*packed.shape[:2], -1), packed.shape[2:]
    if start.previous is None or isinstance(scheme, RungeKutta4):
        return (now,), batch
    if start.time_step_s != scheme.time_step_s:
        raise ValueError(
            "a leapfrog continues with the step of its snapshot, "
            f"{start.time_step_s} s; got {scheme.time_step_s} s. Begin again with "
            "Snapshot(time_s, state) to change it."
        )
    return (pack_members(model, start.previous), now), batch


def _snapshot(
    chunks: list[_Chunk[State]], time_s: float, batch: torch.Size
) -> Snapshot[State]:
    model, scheme = chunks[0].model, chunks[0].scheme
    levels = zip(*(chunk.levels for chunk in chunks), strict=True)
    rows = [torch.cat(x, dim=-1) for x in levels]
    *before, now = [model.unpack(x.reshape(*x.shape[:2], *batch)) for x in rows]
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
