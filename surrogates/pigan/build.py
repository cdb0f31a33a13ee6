"""Puts a generator together from an assumed prior and the snapshots of the sensors."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from simulators.random_fields import (
    Covariance,
    KarhunenLoeve,
    Kriging,
    covariance_matrix,
    fit_covariance,
)
from simulators.subsurface import FlowMesh, Forcing
from surrogates.pigan.generators import KarhunenLoeveGenerator, MeshGenerator
from surrogates.pigan.heads import (
    HEAD,
    LOG_TRANSMISSIVITY,
    NetworkHead,
    SolverHead,
    generic_basis,
    linearised_basis,
)
from surrogates.pigan.model import Pigan
from surrogates.pigan.sensors import SensorData
from surrogates.pigan.start import snapshot_expansion, start_from_readings

MIN_HEAD_SENSORS = 4  # for the fit of their covariance
Physics = Literal["solver", "residual", "none"]
GeneratorKind = Literal["modes", "mesh"]


@dataclass(frozen=True, slots=True)
class PiganShape:
    """What kind of generator, and how large.

    Attributes:
        physics: head by the flow solver; by a network about the linearised flow, whose
            residual may be penalised; or by a network that knows nothing of flow.
        generator: ln T in modes of the prior, or straight on the mesh.
        n_terms: modes of ln T, and latent variables.
        n_head_modes: of a network's head.
        width: of the hidden layers.
    """

    physics: Physics = "solver"
    generator: GeneratorKind = "modes"
    n_terms: int = 400
    n_head_modes: int = 200
    width: int = 256


def build_pigan(
    mesh: FlowMesh,
    forcing: Forcing,
    prior: Kriging,
    data: SensorData,
    shape: PiganShape,
    seed: int,
) -> Pigan:
    """A generator that starts from the Gaussian fit to the readings of ln T.

    Args:
        mesh: the flow mesh.
        forcing: heads and flows, the same for all members.
        prior: assumed mean and covariance of ln T, unconditional or given known values.
        data: snapshots; of their groups, the first that reads a field tells its law.
        shape: kind and size.
        seed: of the initial weights.

    Raises:
        ValueError: a network without physics and fewer than 4 head sensors.
    """
    cells, readings = readings_of(data, LOG_TRANSMISSIVITY)
    expansion = snapshot_expansion(
        prior.mean, prior.covariance, cells, readings, shape.n_terms
    )
    inputs: KarhunenLoeveGenerator | MeshGenerator
    if shape.generator == "modes":
        inputs = KarhunenLoeveGenerator(
            {LOG_TRANSMISSIVITY: expansion}, shape.width, seed
        )
        if len(cells):
            start_from_readings(inputs, LOG_TRANSMISSIVITY, cells, readings)
    else:
        variance = readings.var(0) if len(cells) else prior.covariance.diagonal()
        deviations = {LOG_TRANSMISSIVITY: float(variance.mean().sqrt())}
        inputs = MeshGenerator({LOG_TRANSMISSIVITY: expansion.mean}, deviations, seed)
    flow = SolverHead(mesh, forcing)
    return Pigan(inputs, flow, _network(flow, expansion, data, shape, seed))


def readings_of(data: SensorData, name: str) -> tuple[Tensor, Tensor]:
    """Cells (sensors,) and readings (snapshots, sensors) of a field, or none."""
    for part in data.training:
        if name in part.group.cells:
            return part.group.cells[name], part.readings[:, part.group.columns(name)]
    return torch.empty(0, dtype=torch.int64), torch.empty(0, 0)


def _network(
    flow: SolverHead,
    expansion: KarhunenLoeve,
    data: SensorData,
    shape: PiganShape,
    seed: int,
) -> NetworkHead | None:
    if shape.physics == "solver":
        return None
    if shape.physics == "residual":
        basis = linearised_basis(
            flow.solver, flow.forcing, expansion, shape.n_head_modes
        )
        return NetworkHead(basis, shape.width, seed)
    cells, readings = readings_of(data, HEAD)
    if len(cells) < MIN_HEAD_SENSORS:
        raise ValueError(
            f"a head without physics must have {MIN_HEAD_SENSORS} head sensors or more "
            f"to learn from; got {len(cells)}. Use physics=solver, or the mixed or "
            "inverse problem."
        )
    head = _smooth_head(data.points, cells, readings.double(), shape.n_head_modes)
    return NetworkHead(generic_basis(expansion, head), shape.width, seed)


def _smooth_head(
    points: Tensor, cells: Tensor, readings: Tensor, n_terms: int
) -> KarhunenLoeve:
    """Head fields as smooth as their median, with the variance of the readings."""
    median = readings.median(0).values
    fitted = fit_covariance(points[cells], median)
    length = fitted.covariance.correlation_length
    variance = float(readings.var(0).mean())
    covariance = covariance_matrix(
        points, points, Covariance("matern52", variance, length)
    )
    mean = torch.full((len(points),), fitted.mean, dtype=torch.float64)
    return snapshot_expansion(mean, covariance, cells, readings, n_terms)
