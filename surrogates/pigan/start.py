"""Where training starts: the Gaussian law that fits the readings of transmissivity.

Under a prior N(m, C) of ln T, the mean of the readings is kriged to all cells. The
coordinates c of the prior's modes start as N(0, Σ) with

    Σ = s² I + A⁺ (S - s² A Aᵀ) A⁺ᵀ,     s² = tr S / tr A Aᵀ,

where A (sensors, modes) takes coordinates to sensors and S is the covariance of the
readings: at the sensors the law is that of the snapshots, and what the sensors do not
see keeps the prior's shape, with as much of its variance as the sensors have kept. This
is also the classical answer, Gaussian fit + kriging, without learning from the heads.
"""

import torch
from torch import Tensor

from simulators.random_fields import KarhunenLoeve, karhunen_loeve
from surrogates.pigan.generators import KarhunenLoeveGenerator

RELATIVE_CUTOFF = 0.03  # smaller singular values of A are noise, and would amplify it


def snapshot_expansion(
    mean: Tensor, covariance: Tensor, cells: Tensor, readings: Tensor, n_terms: int
) -> KarhunenLoeve:
    """Modes of the prior about the kriged mean of readings.

    Args:
        mean: prior mean m (n,); its constant if it is unconditional.
        covariance: prior covariance C (n, n).
        cells: where ln T is read (sensors,); may be none.
        readings: (snapshots, sensors).
        n_terms: largest number of modes.
    """
    if len(cells):
        gap = readings.double().mean(0) - mean[cells]
        block = covariance[cells][:, cells]
        # round-off alone: readings of one cell differ from all others'
        jitter = 1e-10 * block.diagonal().mean() * torch.eye(len(cells)).to(block)
        weights = torch.linalg.solve(block + jitter, gap)
        mean = mean + covariance[:, cells] @ weights
    return karhunen_loeve(mean, covariance, n_terms=n_terms)


def start_from_readings(
    generator: KarhunenLoeveGenerator, name: str, cells: Tensor, readings: Tensor
) -> None:
    """Sets the linear part of a generator to the Gaussian fit of one field's readings.

    Args:
        generator: in place; coordinates of other fields start as those of their prior.
        name: of the field.
        cells: where it is read (sensors,).
        readings: (snapshots, sensors).
    """
    expansion = generator.expansions[name]
    at_sensors = (expansion.modes * expansion.eigenvalues.sqrt())[cells]  # A
    prior = at_sensors @ at_sensors.mT
    # the covariance of a single sensor comes without dimensions
    covariance = torch.cov(readings.double().mT).reshape(prior.shape)  # S
    share = float(covariance.trace() / prior.trace())  # s²
    inverse = torch.linalg.pinv(at_sensors, rtol=RELATIVE_CUTOFF)
    identity = torch.eye(len(expansion.eigenvalues), dtype=torch.float64)
    fitted = share * identity + inverse @ (covariance - share * prior) @ inverse.mT
    values, vectors = torch.linalg.eigh(fitted)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.mT
    block = generator.block(name)
    with torch.no_grad():
        generator.scale[block] = share**0.5
        generator.linear.weight[block, block] = (root - share**0.5 * identity).float()
