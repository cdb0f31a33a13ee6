"""A problem where a member is costly: how a new well draws down two protected areas.

A square unconfined aquifer of 4 km with 256 x 256 cells, head fixed on its border. A
well pumps 500 m3/d for 100 days at a place (x, y) of the inner square; ln T and ln S
are shifted by Gaussian amounts. ln T has one fixed random texture. A member is 20 steps
of backward Euler; its answer are the mean drawdowns [m] of two areas, 640 m wide, in
one quarter of the site. The steps here are those of `benchmarks.steering`.

Drawdown reaches sqrt(2.25 T t / S) (Cooper and Jacob 1946), 0.9 km for the specific
yield of 0.08 here and 8 km for a confined S of 1e-3. So a few wells matter: a twentieth
of them holds over half of the mean square of the answer, and choosing may pay.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from data.durable_files import write_durably
from simulators.subsurface import (
    FlowSolver,
    Forcing,
    StressPeriod,
    outer_faces,
    solve_transient,
    structured_mesh,
    well_source,
)
from surrogates.acquisition import disagreement, draw_by_score
from surrogates.deep_ensemble import DeepEnsemble
from surrogates.distributed.checkpoint import load_checkpoint, save_checkpoint
from workflows.engine.driving.tasks import Task
from workflows.engine.files.artefacts import Manifest, artefact
from workflows.engine.watching.events import Log

N, LENGTH = 256, 4000.0  # cells per side, m
AREAS = ((0.25, 0.3), (0.4, 0.25))  # centres, of the side
HALF_WIDTH = 20  # cells
RATE, DAYS, STEPS = -500.0, 100.0, 20
LOG_T, LOG_S, SHIFT = math.log(300.0), math.log(0.08), 0.5
N_INPUTS, N_CANDIDATES, N_NETWORKS = 4, 4000, 5
TEST = "inputs/test.npz"


def draw_inputs(n: int, generator: torch.Generator) -> Tensor:
    """Inputs (n, 4): x and y in [-1, 1], standardised shifts of ln T and ln S."""
    places = 2 * torch.rand(n, 2, generator=generator) - 1
    return torch.cat([places, torch.randn(n, 2, generator=generator)], 1)


def drawdowns(inputs: Tensor) -> Tensor:
    """Mean drawdown [m] of the areas after pumping, (n, 4) float32."""
    return torch.stack([_drawdown(member) for member in inputs.double()]).float()


def _drawdown(member: Tensor) -> Tensor:
    solver, texture, areas = _aquifer()
    x, y = ((0.1 + 0.8 * (member[:2] + 1) / 2) * N).long().tolist()
    log_t = LOG_T + texture + SHIFT * member[2]
    storage = torch.full_like(texture, (LENGTH / N) ** 2)
    storage = storage * torch.exp(LOG_S + SHIFT * member[3])
    mesh = solver.mesh
    rates = torch.tensor([RATE], dtype=torch.float64)
    forcing = Forcing(
        head=torch.zeros(len(mesh.head_cell), dtype=torch.float64),
        source=well_source(mesh, [y * N + x], rates),
    )
    period = StressPeriod(forcing, DAYS / STEPS, STEPS)
    heads = solve_transient(solver, log_t, storage, torch.zeros_like(log_t), [period])
    return -heads[-1] @ areas


@lru_cache
def _aquifer() -> tuple[FlowSolver, Tensor, Tensor]:
    """Solver, texture of ln T (cells,), and the averages over the areas (cells, 4)."""
    sides = ["west", "east", "south", "north"]
    size = LENGTH / N
    mesh = structured_mesh((N, N), (size, size), head_faces=outer_faces((N, N), sides))
    noise = torch.randn(N, N, generator=torch.Generator().manual_seed(0)).double()
    waves = torch.fft.fftfreq(N, dtype=torch.float64)
    square = waves[:, None] ** 2 + waves**2
    smooth = torch.fft.ifft2(torch.fft.fft2(noise) * torch.exp(-square * 800)).real
    texture = 0.7 * (smooth - smooth.mean()) / smooth.std()
    areas = torch.zeros(N, N, len(AREAS), dtype=torch.float64)
    for k, (x, y) in enumerate(AREAS):
        i, j = int(y * N), int(x * N)
        rows, columns = (slice(c - HALF_WIDTH, c + HALF_WIDTH + 1) for c in (i, j))
        areas[rows, columns, k] = 1 / (2 * HALF_WIDTH + 1) ** 2
    return FlowSolver(mesh), texture.flatten(), areas.reshape(-1, len(AREAS))


@dataclass(frozen=True, slots=True)
class BatchRecord:
    """One task of the batch of a round."""

    round: int
    task: int
    members: int  # of the batch
    tasks: int
    seed: int
    exponent: float


def simulate_batch(
    record: BatchRecord,
    folder: Path,
    log: Log,
    *,
    surrogate: Sequence[Manifest] = (),
) -> Manifest:
    """Simulates a share of the batch that the surrogate, or chance, chooses."""
    generator = torch.Generator().manual_seed(1000 * record.seed + record.round)
    if surrogate:
        candidates = draw_inputs(N_CANDIDATES, generator)
        model = read_surrogate(folder / surrogate[0].artefacts["surrogate"].path)
        with torch.no_grad():
            scores = disagreement(model(candidates), model.scale)
        chosen = draw_by_score(scores, record.members, record.exponent, generator)
        inputs = candidates[chosen]
    else:
        inputs = draw_inputs(record.members, generator)
    share = inputs[record.task :: record.tasks]
    path = folder / "fields" / f"batch-{record.round}-{record.task}.npz"
    write_members(path, share, drawdowns(share))
    return Manifest({"members": artefact(path, folder)}, {"members": len(share)})


@dataclass(frozen=True, slots=True)
class LearnRecord:
    """One training on all batches so far."""

    round: int
    seed: int
    steps: int


def learn(
    record: LearnRecord, folder: Path, log: Log, *, batches: Sequence[Manifest]
) -> Manifest:
    """Trains a deep ensemble and states its error on the test members."""
    parts = [read_members(folder / b.artefacts["members"].path) for b in batches]
    inputs, outputs = (torch.cat(items) for items in zip(*parts, strict=True))
    model = DeepEnsemble(N_NETWORKS, N_INPUTS, len(AREAS), seed=record.seed)
    model.fit(inputs, outputs, record.steps)
    path = folder / "checkpoints" / f"surrogate-{record.round}.pt"
    path.parent.mkdir(exist_ok=True)
    save_checkpoint(path, {"state": model.state_dict()})
    test_inputs, truth = read_members(folder / TEST)
    with torch.no_grad():
        gap = model.mean(test_inputs) - truth
    error = float((gap / truth.std(0)).square().mean().sqrt())
    return Manifest({"surrogate": artefact(path, folder)}, {"error": error})


simulate_task = Task(simulate_batch, role="sim", version="1")
learn_task = Task(learn, role="train", version="1")


def read_surrogate(path: Path) -> DeepEnsemble:
    """The deep ensemble of a checkpoint."""
    model = DeepEnsemble(N_NETWORKS, N_INPUTS, len(AREAS))
    model.load_state_dict(load_checkpoint(path)["state"])
    return model


def write_members(path: Path, inputs: Tensor, outputs: Tensor) -> None:
    """Inputs and answers as one file."""
    import io

    path.parent.mkdir(exist_ok=True)
    buffer = io.BytesIO()
    np.savez(buffer, inputs=inputs.numpy(), outputs=outputs.numpy())
    write_durably(path, [buffer.getvalue()])


def read_members(path: Path) -> tuple[Tensor, Tensor]:
    """Inputs (n, 4) and answers (n, 4)."""
    with np.load(path) as arrays:
        return torch.from_numpy(arrays["inputs"]), torch.from_numpy(arrays["outputs"])
