"""A small aquifer of 12 x 10 cells with heads on two sides, and members of it."""

import numpy as np
import pytest
import torch

from simulators.random_fields import Covariance, covariance_matrix
from simulators.subsurface import FlowSolver, Forcing, outer_faces, structured_mesh
from surrogates.regression.model import LinearSkip
from surrogates.regression.train import Members
from surrogates.ridge import fit_ridge

SHAPE = (12, 10)


@pytest.fixture(scope="session")
def problem():
    sides = outer_faces(SHAPE, ["west", "east"])
    mesh = structured_mesh(SHAPE, (1.0, 1.0), head_faces=sides)
    head = torch.where(sides[:, 2] == 3, 20.0, 10.0).double()
    return mesh, Forcing(head=head)


@pytest.fixture(scope="session")
def members(problem):
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    points = torch.tensor(np.stack([rows.ravel(), columns.ravel()], axis=1)).double()
    kernel = Covariance("matern52", variance=1.5, correlation_length=4.0)
    factor = torch.linalg.cholesky(
        covariance_matrix(points, points, kernel) + 1e-10 * torch.eye(len(points))
    )
    draws = torch.randn(
        96, len(points), generator=torch.Generator().manual_seed(3), dtype=torch.float64
    )
    fields = draws @ factor.mT
    return Members(fields, FlowSolver(problem[0]).solve(fields, problem[1]))


@pytest.fixture(scope="session")
def skip(members):
    mean = members.log_transmissivity.mean(0)
    ridge = fit_ridge(members.log_transmissivity - mean, members.head, [120])
    return LinearSkip(
        mean_log_transmissivity=mean,
        mean_head=ridge.predict(torch.zeros(len(mean), dtype=torch.float64)),
        matrix=ridge.coefficients,
        log_transmissivity_scale=1.2,
        head_scale_m=float(
            (members.head - members.head.mean(0)).square().mean().sqrt()
        ),
    )
