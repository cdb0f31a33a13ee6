"""Classical answers to what a generator learns from sensor snapshots.

Interpolated statistics: mean, deviation and spread of the readings, each kriged to all
cells. Inverted snapshots: for each snapshot one draw of ln T given its readings, by
conditioning on ln T and randomised maximum likelihood for the heads; no learning across
snapshots. (Gaussian fit + kriging + solver is where `surrogates.pigan` starts.)
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from simulators.random_fields import Kriging, fit_covariance, karhunen_loeve, krige
from simulators.subsurface import FlowSolver, Forcing
from simulators.subsurface.inversion import HEAD_ERROR_M, invert_heads
from surrogates.generative_metrics import robust_spread


@dataclass(frozen=True, slots=True, eq=False)
class FieldStatistics:
    """Mean, standard deviation and robust spread of a field, (cells,) each."""

    mean: Tensor
    deviation: Tensor
    spread: Tensor


def interpolate_statistics(
    points: Tensor, cells: Tensor, readings: Tensor
) -> FieldStatistics:
    """Statistics of readings, kriged to all cells.

    Each is kriged with the covariance that is most likely for it. Kriged deviations and
    spreads below zero are set to zero.

    Args:
        points: coordinates (n, d).
        cells: where the field is read (sensors,).
        readings: (snapshots, sensors), varying at every one of four sensors or more.
    """
    x = readings.double()

    def everywhere(values: Tensor) -> Tensor:
        fitted = fit_covariance(points[cells], values)
        kriged = krige(points, points[cells], values, fitted.covariance, fitted.mean)
        return kriged.mean

    return FieldStatistics(
        mean=everywhere(x.mean(0)),
        deviation=everywhere(x.std(0)).clamp(min=0),
        spread=everywhere(robust_spread(x)).clamp(min=0),
    )


@dataclass(frozen=True, slots=True, eq=False)
class SnapshotReadings:
    """What the sensors of one site read at the same instants.

    Attributes:
        cells: where ln T is read (sensors,); may be none.
        log_transmissivity: (snapshots, sensors).
        wells: where head is read (wells,).
        head: [m], (snapshots, wells).
    """

    cells: Tensor
    log_transmissivity: Tensor
    wells: Tensor
    head: Tensor


def invert_snapshots(
    solver: FlowSolver,
    forcing: Forcing,
    prior: Kriging,
    readings: SnapshotReadings,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """One draw of ln T given each snapshot, and its head [m], (snapshots, n) each.

    A draw Y of the prior is conditioned on the readings y of ln T in cells s by
    Y + C_s C_ss⁻¹ (y - Y_s). It is then the prior mean of an inversion of the heads, to
    which their error is added. About half a second for 323 wells and 1475 cells.

    Args:
        solver: of the mesh.
        forcing: heads and flows.
        prior: mean and covariance of ln T.
        readings: of ln T and head.
        generator: CPU generator of the draws.
    """
    cells = readings.cells
    gain = torch.zeros(len(prior.mean), len(cells), dtype=torch.float64)
    covariance = prior.covariance
    if len(cells):
        across = covariance[:, cells]
        gain = torch.linalg.solve(across[cells], across.mT).mT  # C_s C_ss⁻¹
        covariance = covariance - gain @ across.mT
        covariance = (covariance + covariance.mT) / 2
    free, left = (karhunen_loeve(prior.mean, c) for c in (prior.covariance, covariance))
    draw = free.modes * free.eigenvalues.sqrt()
    factor = left.modes * left.eigenvalues.sqrt()
    found = []
    for y, d in zip(readings.log_transmissivity, readings.head, strict=True):
        noise = torch.randn(draw.shape[1], generator=generator, dtype=torch.float64)
        field = prior.mean + draw @ noise
        field = field + gain @ (y.double() - field[cells])
        error = torch.randn(len(d), generator=generator, dtype=torch.float64)
        heads = d.double() + HEAD_ERROR_M * error
        found.append(
            invert_heads(solver, forcing, field, factor, readings.wells, heads)
        )
    return (
        torch.stack([item.log_transmissivity for item in found]),
        torch.stack([item.head for item in found]),
    )
