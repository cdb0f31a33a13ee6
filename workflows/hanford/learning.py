"""The steps of the Hanford workflow that learn: ridge, network, their evaluation.

Test members are the last of the ensemble; no fit, choice or training sees them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from data.sources.aquifer import Aquifer
from data.sources.aquifer_file import read_aquifer
from simulators.random_fields import KarhunenLoeve, coordinates_of
from simulators.subsurface import FlowSolver
from surrogates.costs import seconds_per_call
from surrogates.distributed.checkpoint import load_checkpoint
from surrogates.regression.model import (
    HeadNetwork,
    LinearSkip,
    NetworkShape,
    network_constants,
    network_from_state,
    network_state,
)
from surrogates.regression.train import (
    Members,
    predict,
    train_head_network,
)
from surrogates.ridge import Ridge, fit_ridge
from surrogates.scores import rmse, rmse_interval
from surrogates.training import TrainingSettings
from workflows.engine.driving.training import (
    Trained,
    Training,
    failure_of,
    train_in_process,
)
from workflows.engine.files.arrays import read_arrays, write_arrays
from workflows.engine.files.artefacts import Manifest, artefact, digest_of
from workflows.engine.watching.events import Log
from workflows.hanford.fields import (
    AQUIFER,
    flow_problem,
    read_expansion,
    read_fields,
)

RIDGE_COORDINATES = (50, 150, 300, 600, 1200)
N_SHOWN = 100  # held-out members whose error a training curve shows
N_SAMPLES = 3  # test members whose fields are kept for the report
BATCHES = (1, 16, 128)  # members per call when the cost of an answer is measured


@dataclass(frozen=True, slots=True)
class RidgeRecord:
    """A ridge regression on the first `members` members."""

    members: int


def fit_baseline(
    record: RidgeRecord,
    folder: Path,
    log: Log,
    *,
    prior: Manifest,
    blocks: Sequence[Manifest],
) -> Manifest:
    """Fits head on the Karhunen-Loève coordinates of log-transmissivity."""
    expansion = read_expansion(folder / prior.artefacts["prior"].path)
    members = read_fields(folder, range(record.members))
    coordinates = scaled_coordinates(expansion, members.log_transmissivity)
    ridge = fit_ridge(coordinates, members.head.double(), RIDGE_COORDINATES)
    path = folder / "fields" / f"ridge_{record.members}.npz"
    write_arrays(
        path,
        coefficients=ridge.coefficients,
        centre=ridge.centre,
        mean=ridge.mean,
        penalty=np.array(ridge.penalty),
    )
    facts = {"coordinates": ridge.n_coordinates, "penalty": ridge.penalty}
    return Manifest({"ridge": artefact(path, folder)}, facts)


def read_ridge(path: Path) -> Ridge:
    """Reads a fitted ridge regression."""
    arrays = {name: torch.tensor(array) for name, array in read_arrays(path).items()}
    penalty = float(arrays.pop("penalty"))
    return Ridge(**arrays, penalty=penalty)


@dataclass(frozen=True, slots=True)
class NetworkRecord:
    """A network to train on the first `members` members of `ensemble_members`."""

    members: int
    ensemble_members: int
    test_members: int
    steps: int
    batch_size: int
    learning_rate: float
    threads: int
    seed: int


def train_network(
    record: NetworkRecord,
    folder: Path,
    log: Log,
    *,
    prior: Manifest,
    ridge: Manifest,
    blocks: Sequence[Manifest],
) -> Manifest:
    """Trains a network in a process of its own; goes on from an earlier checkpoint."""
    return train_in_process(
        fit_network,
        record,
        folder,
        f"network_{record.members}",
        arguments={
            "prior": prior.artefacts["prior"].path,
            "ridge": ridge.artefacts["ridge"].path,
        },
        data_digest=digest_of([ridge, *blocks]),
        n_threads=record.threads,
    )


def fit_network(
    record: NetworkRecord, training: Training, *, prior: str, ridge: str
) -> Trained:
    """The trained network and its size; what the training process does."""
    run = training.folder
    stored = read_fields(run, range(record.members))
    members = Members(stored.log_transmissivity, stored.head)
    shown = read_fields(run, _test_range(record))
    torch.manual_seed(record.seed)
    expansion, shape = read_expansion(run / prior), NetworkShape()
    fitted = read_ridge(run / ridge)
    skip = linear_skip(expansion.mean, expansion.modes, fitted, members)
    mesh, forcing = flow_problem(read_aquifer(run / AQUIFER))
    constants = network_constants(mesh, skip, shape.n_coarse)
    network = HeadNetwork(mesh, forcing, constants, shape)
    train_head_network(
        network,
        members,
        TrainingSettings(
            record.steps, record.batch_size, record.learning_rate, record.seed
        ),
        training.checkpoint,
        training.data_digest,
        shown=Members(shown.log_transmissivity[:N_SHOWN], shown.head[:N_SHOWN]),
        log=training.log,
    )
    n_parameters = sum(p.numel() for p in network.parameters())
    return network_state(network), {"parameters": n_parameters}


def linear_skip(
    mean_field: Tensor, modes: Tensor, ridge: Ridge, training: Members
) -> LinearSkip:
    """The ridge prediction as a map from cells to cells, x = (Y - mean_field) modes."""
    deviation = training.log_transmissivity - mean_field
    spread = training.head - training.head.mean(0)
    return LinearSkip(
        mean_log_transmissivity=mean_field,
        mean_head=ridge.predict(torch.zeros(ridge.n_coordinates, dtype=torch.float64)),
        matrix=modes[:, : ridge.n_coordinates] @ ridge.coefficients,
        log_transmissivity_scale=float(deviation.square().mean().sqrt()),
        head_scale_m=float(spread.square().mean().sqrt()),
    )


@dataclass(frozen=True, slots=True)
class EvaluationRecord:
    """Which models to score, by their number of training members, and on what."""

    sizes: tuple[int, ...]
    ensemble_members: int
    test_members: int
    seed: int


def evaluate(
    record: EvaluationRecord,
    folder: Path,
    log: Log,
    *,
    prior: Manifest,
    ridges: Sequence[Manifest],
    networks: Sequence[Manifest],
    blocks: Sequence[Manifest],
) -> Manifest:
    """Scores mean, ridge, untrained and trained network on the test members.

    A network whose training stopped itself is left out, with its cause.
    """
    expansion = read_expansion(folder / prior.artefacts["prior"].path)
    test = read_fields(folder, _test_range(record))
    coordinates = scaled_coordinates(expansion, test.log_transmissivity)
    generator = torch.Generator().manual_seed(record.seed)
    scores: dict[str, dict[str, list[float]]] = {}
    kept: dict[str, Tensor] = {}
    network: HeadNetwork | None = None
    for size, fitted, trained in zip(record.sizes, ridges, networks, strict=True):
        ridge = read_ridge(folder / fitted.artefacts["ridge"].path)
        training = read_fields(folder, range(size))
        kept = {
            "mean": training.head.mean(0).expand_as(test.head),
            "ridge": ridge.predict(coordinates).float(),
        }
        if failure_of(trained) is None:
            network = read_network(folder / trained.artefacts["checkpoint"].path)
            kept["untrained"] = predict(_untrained(network), test.log_transmissivity)
            kept["network"] = predict(network, test.log_transmissivity)
        for model, head in kept.items():
            interval = rmse_interval(head, test.head, generator)
            score = [float(rmse(head, test.head)), *interval]
            scores.setdefault(model, {})[str(size)] = score
    path = folder / "fields" / "evaluation.npz"
    shown = [model for model in ("ridge", "network") if model in kept]
    samples = {f"sample_{model}": kept[model][:N_SAMPLES] for model in shown}
    write_arrays(
        path,
        **samples,
        sample_log_transmissivity=test.log_transmissivity[:N_SAMPLES],
        sample_simulator=test.head[:N_SAMPLES],
    )
    costs = _costs(read_aquifer(folder / AQUIFER), network, test.log_transmissivity)
    causes = {
        str(size): cause
        for size, trained in zip(record.sizes, networks, strict=True)
        if (cause := failure_of(trained)) is not None
    }
    facts = {"rmse_m": scores, "failed_networks": causes}
    return Manifest({"evaluation": artefact(path, folder)}, facts, costs)


def read_network(path: Path) -> HeadNetwork:
    """The network of a checkpoint."""
    return network_from_state(load_checkpoint(path)["description"])


def _untrained(network: HeadNetwork) -> HeadNetwork:
    """The same structure before training: what the mesh operator gives by itself."""
    return HeadNetwork(network.mesh, network.forcing, network.constants, network.shape)


def _costs(
    aquifer: Aquifer, network: HeadNetwork | None, fields: Tensor
) -> dict[str, float]:
    """Seconds per answer of solver and network by number of members per call."""
    mesh, forcing = flow_problem(aquifer)
    solver = FlowSolver(mesh)
    costs = {}
    for batch in BATCHES:
        members = fields[torch.arange(batch) % len(fields)]
        in_double = members.double()
        solve = partial(solver.solve, in_double, forcing)
        costs[f"solver_{batch}_s"] = seconds_per_call(solve) / batch
        if network is not None:
            answer = partial(predict, network, members)
            costs[f"network_{batch}_s"] = seconds_per_call(answer) / batch
    return costs


def scaled_coordinates(expansion: KarhunenLoeve, fields: Tensor) -> Tensor:
    """Karhunen-Loève coordinates times the root of their variance, (members, k)."""
    return coordinates_of(expansion, fields.double()) * expansion.eigenvalues.sqrt()


def _test_range(record: "NetworkRecord | EvaluationRecord") -> range:
    return range(record.ensemble_members - record.test_members, record.ensemble_members)
