"""The PI-GAN on a one-dimensional problem with two random inputs, beside Monte Carlo.

    python -m benchmarks.pigan_one_dimension [--markdown] [--seeds 3]

-(1/10) (k u')' = f on [-1, 1], u(-1) = u(1) = 0, ln k = 0.2 sin(1.5 π (x + 1)) + g,
g ~ GP(0, (4/25) exp(-d²)), f ~ GP(1/2, (9/400) exp(-25 d²)). Settings after
arXiv:1811.02033. 1,000 snapshots; 100 cells. Forward: 13 sensors of k, 21 of f, none of
u. Inverse: one of k, 21 of f, 21 of u; also with u read at other times than k and f,
each group with snapshots of its own. The generator assumes half of the variance of ln k
and 0.7 of its length, four thirds of the variance of f and 0.85 of its length, constant
means. Scores are relative L2 errors of mean and standard deviation over the cells
against 10,000 members; "start" is the Gaussian fit to the readings of k and f, and the
members of "simulation" are as many as the snapshots. 90 % intervals, Student's t.
"""

import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.rows import parser_of, print_row
from benchmarks.surrogate_accuracy import unlogged, with_interval
from simulators.random_fields import Covariance, covariance_matrix, karhunen_loeve
from simulators.random_fields.covariance import cholesky_factor
from simulators.subsurface import (
    FlowMesh,
    FlowSolver,
    Forcing,
    outer_faces,
    structured_mesh,
)
from surrogates.pigan.build import readings_of
from surrogates.pigan.generators import KarhunenLoeveGenerator
from surrogates.pigan.heads import HEAD, LOG_TRANSMISSIVITY, SOURCE, SolverHead
from surrogates.pigan.model import Pigan
from surrogates.pigan.sensors import Fields, SensorData, SensorGroup, Snapshots
from surrogates.pigan.start import snapshot_expansion, start_from_readings
from surrogates.pigan.train import GanSettings, train_pigan

N_CELLS, N_SNAPSHOTS, N_REFERENCE = 100, 1000, 10_000
DX = 2 / N_CELLS
X = -1 + DX * (torch.arange(N_CELLS, dtype=torch.float64) + 0.5)
CONDUCTIVITY = Covariance("squared_exponential", 4 / 25, 1 / math.sqrt(2))
SOURCES = Covariance("squared_exponential", 9 / 400, 1 / math.sqrt(50))
ASSUMED = {
    LOG_TRANSMISSIVITY: replace(
        CONDUCTIVITY,
        variance=0.5 * CONDUCTIVITY.variance,
        correlation_length=0.7 * CONDUCTIVITY.correlation_length,
    ),
    # the solver's source is f dx
    SOURCE: replace(
        SOURCES,
        variance=4 / 3 * SOURCES.variance * DX**2,
        correlation_length=0.85 * SOURCES.correlation_length,
    ),
}
ASSUMED_MEAN = {LOG_TRANSMISSIVITY: math.log(0.1), SOURCE: 0.5 * DX}
N_MODES = {LOG_TRANSMISSIVITY: 12, SOURCE: 30}  # hold 99.9 % of the assumed variance
SETTINGS = GanSettings(
    steps=2400, seed=0, n_subdomains=1, batch_size=128, epoch_steps=100
)


def strip(n_cells: int) -> tuple[FlowMesh, Forcing]:
    """Mesh of [-1, 1] with u = 0 at both ends."""
    faces = outer_faces((1, n_cells), ["west", "east"])
    mesh = structured_mesh((1, n_cells), (1.0, 2 / n_cells), head_faces=faces)
    return mesh, Forcing(head=torch.zeros(len(faces), dtype=torch.float64))


def solve(log_k: Tensor, f: Tensor) -> dict[str, Tensor]:
    """Fields ln T = ln(k/10), f dx and u of ln k and f, each (..., cells)."""
    n_cells = log_k.shape[-1]
    log_t, source = log_k - math.log(10), f * 2 / n_cells
    mesh, forcing = strip(n_cells)
    head = FlowSolver(mesh).solve(log_t, replace(forcing, source=source))
    return {LOG_TRANSMISSIVITY: log_t, SOURCE: source, HEAD: head}


def simulate(n: int, seed: int) -> dict[str, Tensor]:
    """Members of the true law, each field (n, cells)."""
    generator = torch.Generator().manual_seed(seed)
    points = X[:, None]

    def draw(model: Covariance) -> Tensor:
        root = cholesky_factor(covariance_matrix(points, points, model))
        noise = torch.randn(n, N_CELLS, generator=generator, dtype=torch.float64)
        return noise @ root.mT

    log_k = 0.2 * torch.sin(1.5 * math.pi * (X + 1)) + draw(CONDUCTIVITY)
    return solve(log_k, 0.5 + draw(SOURCES))


def sensors(**numbers: int) -> SensorGroup:
    """So many sensors of each field, evenly over [-1, 1]; one alone in the middle."""
    return SensorGroup(
        {
            name: ((torch.arange(n) + 0.5) * N_CELLS / n).long()
            for name, n in numbers.items()
        }
    )


@dataclass(frozen=True, slots=True, eq=False)
class Problem:
    """Groups of sensors, and whether training starts from the Gaussian fit."""

    groups: Sequence[SensorGroup]
    is_fitted: bool = True


FORWARD = [sensors(**{LOG_TRANSMISSIVITY: 13, SOURCE: 21})]
INPUTS = {LOG_TRANSMISSIVITY: 1, SOURCE: 21}
PROBLEMS = {
    "forward": Problem(FORWARD),
    "forward, unfitted": Problem(FORWARD, is_fitted=False),
    "inverse": Problem([sensors(**INPUTS, **{HEAD: 21})]),
    "inverse, two groups": Problem([sensors(**INPUTS), sensors(**{HEAD: 21})]),
}


def sensor_data(problem: Problem, seed: int) -> SensorData:
    """Snapshots of each group, of members of its own."""
    parts = []
    for number, group in enumerate(problem.groups):
        readings = group.read(simulate(2 * N_SNAPSHOTS, seed + 1000 * number))
        training, held_out = readings[:N_SNAPSHOTS], readings[N_SNAPSHOTS:]
        parts.append((Snapshots(group, training), Snapshots(group, held_out)))
    return SensorData(X[:, None], [a for a, _ in parts], [b for _, b in parts])


def start(problem: Problem, data: SensorData, seed: int) -> Pigan:
    """The generator of k and f before training."""
    expansions, fitted = {}, {}
    for name, model in ASSUMED.items():
        covariance = covariance_matrix(X[:, None], X[:, None], model)
        mean = torch.full_like(X, ASSUMED_MEAN[name])
        if problem.is_fitted:
            fitted[name] = readings_of(data, name)
            expansions[name] = snapshot_expansion(
                mean, covariance, *fitted[name], N_MODES[name]
            )
        else:
            expansions[name] = karhunen_loeve(mean, covariance, n_terms=N_MODES[name])
    generator = KarhunenLoeveGenerator(expansions, width=64, seed=seed)
    for name, (cells, readings) in fitted.items():
        start_from_readings(generator, name, cells, readings)
    return Pigan(generator, SolverHead(*strip(N_CELLS)))


def train(problem: Problem, data: SensorData, settings: GanSettings) -> Pigan:
    """The trained generator."""
    model = start(problem, data, settings.seed)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pigan.pt"
        return train_pigan(model, data, settings, path, "", unlogged)


def errors(fields: Fields, reference: Fields) -> dict[str, float]:
    """Relative L2 errors of mean and deviation of u and k."""
    found = {}
    for label, values, truth in (
        ("u", fields[HEAD], reference[HEAD]),
        ("k", fields[LOG_TRANSMISSIVITY].exp(), reference[LOG_TRANSMISSIVITY].exp()),
    ):
        for moment in (torch.mean, torch.std):
            ours, theirs = (moment(x.double(), 0) for x in (values, truth))
            gap = (ours - theirs).norm() / theirs.norm()
            found[f"{label} {moment.__name__}"] = float(gap)
    return found


def sample(model: Pigan, seed: int) -> dict[str, Tensor]:
    """Members to score."""
    return model.sample(N_REFERENCE, torch.Generator().manual_seed(seed + 10**6))


def main() -> None:
    """Prints a line or a table row per problem and answer."""
    parser = parser_of(str(__doc__))
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    reference = simulate(N_REFERENCE, 10**5)
    for label, problem in PROBLEMS.items():
        answers: dict[str, list[dict[str, float]]] = {}
        for seed in range(options.seeds):
            data = sensor_data(problem, seed)
            began = time.perf_counter()
            trained = train(problem, data, replace(SETTINGS, seed=seed))
            seconds = {"seconds": time.perf_counter() - began}
            for name, fields in (
                ("simulation", simulate(N_SNAPSHOTS, seed + 10**4)),
                ("start", sample(start(problem, data, seed), seed)),
                ("PI-GAN", sample(trained, seed)),
            ):
                more = seconds if name == "PI-GAN" else {}
                answers.setdefault(name, []).append(
                    {**errors(fields, reference), **more}
                )
        for name, rows in answers.items():
            figures = {
                key: with_interval([row[key] for row in rows]) for key in rows[0]
            }
            u, k = (
                ", ".join(f"{n} {v}" for n, v in figures.items() if n.startswith(field))
                for field in "uk"
            )
            took = f"{figures['seconds']} s" if "seconds" in figures else "–"
            print_row((f"{label}: {name}", u, k, took), markdown=options.markdown)


if __name__ == "__main__":
    main()
