"""The aquifer of 12 x 10 cells seen by sensors, and the parts of a PI-GAN for it.

The truth is wider than the expansion that generators start from, so that there is
something to learn; 12 coordinates of ln T, 8 sensors of head and 3 of ln T.
"""

import numpy as np
import pytest
import torch

from simulators.random_fields import (
    Covariance,
    covariance_matrix,
    fields_from_coordinates,
    karhunen_loeve,
)
from simulators.subsurface import FlowSolver
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
from surrogates.pigan.sensors import SensorData, SensorGroup, Snapshots

N_TRAINING, N_HELD_OUT = 300, 200
TRUE_SPREAD = 1.4  # of the coordinates; generators start from 1


@pytest.fixture(scope="session")
def points():
    rows, columns = np.mgrid[:12, :10]
    return torch.tensor(np.stack([rows.ravel(), columns.ravel()], axis=1)).double()


@pytest.fixture(scope="session")
def covariance(points):
    return covariance_matrix(points, points, Covariance("matern52", 0.5, 4.0))


@pytest.fixture(scope="session")
def expansion(points, covariance):
    return karhunen_loeve(1 + 0.05 * points[:, 0], covariance, n_terms=12)


@pytest.fixture(scope="session")
def head_basis(problem, expansion, covariance, points):
    """Bases of a network head by name."""
    head = karhunen_loeve(20 - points[:, 1], covariance, n_terms=40)
    solver = FlowSolver(problem[0])
    return {
        "linearised": linearised_basis(solver, problem[1], expansion, n_modes=10),
        "generic": generic_basis(expansion, head),
    }


@pytest.fixture(scope="session")
def truth(problem, expansion):
    """Fields of simulated members, for training and held out."""
    draw = torch.Generator().manual_seed(11)
    n = N_TRAINING + N_HELD_OUT
    xi = TRUE_SPREAD * torch.randn(n, 12, generator=draw, dtype=torch.float64)
    fields = fields_from_coordinates(expansion, xi)
    head = FlowSolver(problem[0]).solve(fields, problem[1])
    return {LOG_TRANSMISSIVITY: fields, HEAD: head}


@pytest.fixture(scope="session")
def group():
    cells = {HEAD: [13, 17, 44, 48, 75, 81, 102, 108], LOG_TRANSMISSIVITY: [24, 27, 83]}
    return SensorGroup({name: torch.tensor(c) for name, c in cells.items()})


@pytest.fixture(scope="session")
def data_of(truth, points):
    """What groups of sensors read, each in snapshots of its own."""

    def build(*groups):
        training, held_out, share = [], [], N_TRAINING // len(groups)
        for number, group in enumerate(groups):
            readings = group.read(truth)
            own = readings[number * share : (number + 1) * share]
            training.append(Snapshots(group, own))
            held_out.append(Snapshots(group, readings[N_TRAINING:]))
        return SensorData(points, training, held_out)

    return build


@pytest.fixture(scope="session")
def build_pigan(problem, expansion, head_basis):
    """Builds a model from a seed; heads by the solver or by a network."""

    def build(kind, seed=3):
        torch.manual_seed(seed)
        flow = SolverHead(*problem)
        if kind == "mesh":
            mean = {LOG_TRANSMISSIVITY: expansion.mean}
            return Pigan(MeshGenerator(mean, {LOG_TRANSMISSIVITY: 0.7}), flow)
        inputs = KarhunenLoeveGenerator({LOG_TRANSMISSIVITY: expansion}, width=16)
        if kind == "solver":
            return Pigan(inputs, flow)
        return Pigan(inputs, flow, NetworkHead(head_basis[kind], width=16))

    return build
