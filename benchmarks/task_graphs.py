"""The task graphs of Task Bench (arXiv:1908.05790) and what one of their tasks does.

A graph is a grid of points by steps; a task depends on points of the step before. It
checks that it was given exactly its predecessors, computes, and tells its coordinates.
Computing is hashing, which leaves the interpreter to other threads.
"""

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from workflows.engine.files.artefacts import Manifest
from workflows.engine.watching.events import Log

GRAPHS = ("trivial", "stencil_1d", "fft", "tree", "random", "all_to_all")
RADIUS, SHARE = 3, 0.5  # of "random": how far and how many

_BUFFER = bytes(1 << 18)  # so long that threads seldom meet at the interpreter

Place = tuple[int, int]  # step, point


@dataclass(frozen=True, slots=True)
class TaskRecord:
    """One task of a graph.

    Attributes:
        graph: one of `GRAPHS`.
        width: points of a full step.
        step: from 0.
        point: from 0.
        iterations: how much to compute.
        turn: tells equal graphs of one run apart.
    """

    graph: str
    width: int
    step: int
    point: int
    iterations: int
    turn: int


def points(graph: str, width: int, step: int) -> range:
    """The points of a step; a tree begins with one and doubles."""
    return range(min(width, 1 << step) if graph == "tree" else width)


def predecessors(graph: str, width: int, step: int, point: int) -> list[int]:
    """The points of the step before that a task depends on, in ascending order."""
    if step == 0 or graph == "trivial":
        return []
    before = points(graph, width, step - 1)
    if graph == "tree":
        is_growing = len(points(graph, width, step)) > len(before)
        return [point // 2 if is_growing else point]
    if graph == "all_to_all":
        return list(before)
    if graph == "random":
        draw = random.Random(f"{width} {step} {point}")
        near = range(point - RADIUS, point + RADIUS + 1)
        found = {p for p in near if draw.random() < SHARE} | {point}
    else:
        stages = max(1, (width - 1).bit_length())
        distance = 1 if graph == "stencil_1d" else 1 << ((step - 1) % stages)
        found = {point - distance, point, point + distance}
    return sorted(found & set(before))


def compute(iterations: int) -> None:
    """Keeps one core busy, by an amount of work, not of time."""
    for _ in range(iterations):
        hashlib.sha256(_BUFFER).digest()


def run_point(record: TaskRecord, given: Sequence[Place]) -> Place:
    """Checks the inputs of a task, computes, returns the coordinates of the task.

    Raises:
        ValueError: the inputs are not exactly the predecessors, each once.
    """
    graph, width, step, point = record.graph, record.width, record.step, record.point
    expected = [(step - 1, p) for p in predecessors(graph, width, step, point)]
    if sorted(given) != expected:
        raise ValueError(
            f"task {(step, point)} of {graph} must be given {expected}; got {given}."
        )
    compute(record.iterations)
    return step, point


def point_step(
    record: TaskRecord, folder: Path, log: Log, *, given: Sequence[Manifest] = ()
) -> Manifest:
    """The task as a step of the engine; its facts are its coordinates."""
    places = [(int(str(m.facts["step"])), int(str(m.facts["point"]))) for m in given]
    step, point = run_point(record, places)
    return Manifest(facts={"step": step, "point": point})


def point_app(record: TaskRecord, *given: Place) -> Place:
    """The task as a plain Parsl app."""
    return run_point(record, given)
