"""Who reads what at a site, and what a generator may assume about it.

Snapshots are the first training members of the ensemble, read at the sensors only. The
generator knows the kernel of the prior, but neither the measurements that condition the
ensemble (unless told) nor any field.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from data.sources.aquifer import Aquifer
from data.sources.aquifer_file import read_aquifer
from simulators.random_fields import (
    Covariance,
    Kernel,
    Kriging,
    covariance_matrix,
    generalised_mean,
    krige,
)
from surrogates.pigan.build import readings_of
from surrogates.pigan.heads import HEAD, LOG_TRANSMISSIVITY
from surrogates.pigan.limits import require_free_cells
from surrogates.pigan.sensors import Fields, SensorData, SensorGroup, Snapshots
from workflows.engine.files.arrays import read_arrays
from workflows.engine.files.artefacts import Manifest
from workflows.hanford.fields import AQUIFER, read_fields

Problem = Literal["forward", "inverse", "mixed"]
VARIABLES = (LOG_TRANSMISSIVITY, HEAD)


@dataclass(frozen=True, slots=True)
class SiteRecord:
    """Who reads what, and what is assumed about ln T.

    Attributes:
        problem: forward (ln T sensors), inverse (head sensors, measurements known) or
            mixed (both).
        snapshots: training members that the sensors read.
        log_transmissivity_sensors: number of ln T sensors, in unmeasured cells.
        head_sensors: number of wells read, at most.
        knows_measurements: whether the generator is told the measurements.
        kernel: assumed covariance family.
        variance_factor: assumed over fitted variance.
        length_factor: assumed over fitted correlation length.
        ensemble_members: of the store.
        test_members: the last of them.
        seed: of the choice of sensors.
    """

    problem: Problem
    snapshots: int
    log_transmissivity_sensors: int
    head_sensors: int
    knows_measurements: bool
    kernel: Kernel
    variance_factor: float
    length_factor: float
    ensemble_members: int
    test_members: int
    seed: int


@dataclass(frozen=True, slots=True, eq=False)
class Site:
    """What a generator may know of a site: mesh and sensors, and the assumed prior."""

    aquifer: Aquifer
    measured: Tensor
    data: SensorData
    prior: Kriging

    def unseen(self, name: str) -> Tensor:
        """Cells where the field is neither read nor measured."""
        is_free = torch.ones(self.aquifer.n_cells, dtype=torch.bool)
        is_free[self.measured] = False
        is_free[readings_of(self.data, name)[0]] = False
        return is_free.nonzero().flatten()


def choose_sensors(
    aquifer: Aquifer, measured: Tensor, record: SiteRecord
) -> SensorGroup:
    """Sensors of a problem: all in one group, read at the same instants."""
    cells = {}
    if record.problem != "inverse":
        generator = torch.Generator().manual_seed(record.seed)
        order = torch.randperm(aquifer.n_cells, generator=generator)
        free = order[~torch.isin(order, measured)]
        require_free_cells(len(free), record.log_transmissivity_sensors)
        chosen = free[: record.log_transmissivity_sensors]
        cells[LOG_TRANSMISSIVITY] = chosen.sort().values
    if record.problem != "forward":
        wells = torch.tensor(aquifer.well_cells)
        n = min(record.head_sensors, len(wells))
        picks = torch.linspace(0, len(wells) - 1, n).round().long()
        cells[HEAD] = wells[picks]
    return SensorGroup(cells)


def assumed_prior(
    points: Tensor,
    model: Covariance,
    mean: float,
    known: tuple[Tensor, Tensor] | None,
) -> Kriging:
    """Prior of ln T, conditioned on known values (cells, values) if there are any."""
    if known is not None:
        return krige(points, points[known[0]], known[1], model, mean)
    covariance = covariance_matrix(points, points, model)
    return Kriging(torch.full_like(covariance[0], mean), covariance)


def site_of(
    record: SiteRecord,
    aquifer: Aquifer,
    model: Covariance,
    mean: float,
    measured: tuple[Tensor, Tensor],
    members: tuple[Fields, Fields],
) -> Site:
    """What the generator of a problem may know.

    Args:
        record: the problem.
        aquifer: mesh and wells.
        model: covariance of ln T; the record's factors are applied to it.
        mean: of the prior, used where neither sensors nor known values tell.
        measured: cells and values of the measurements.
        members: training and held-out fields, of which the sensors read some.
    """
    points = torch.tensor(aquifer.cell_centroids)
    group = choose_sensors(aquifer, measured[0], record)
    training, held_out = (Snapshots(group, group.read(fields)) for fields in members)
    data = SensorData(points, [training], [held_out])
    model = replace(
        model,
        variance=record.variance_factor * model.variance,
        correlation_length=record.length_factor * model.correlation_length,
    )
    knows = record.knows_measurements or record.problem == "inverse"
    cells, readings = readings_of(data, LOG_TRANSMISSIVITY)
    if len(cells) and not knows:
        mean = generalised_mean(points[cells], readings.double().mean(0), model)
    prior = assumed_prior(points, model, mean, measured if knows else None)
    return Site(aquifer, measured[0], data, prior)


def read_site(record: SiteRecord, folder: Path, prior: Manifest) -> Site:
    """The site of a run, from its files."""
    aquifer = read_aquifer(folder / AQUIFER)
    arrays = read_arrays(folder / prior.artefacts["measurements"].path)
    measured = torch.tensor(arrays["cells"]).long(), torch.tensor(arrays["values"])
    facts: Any = prior.facts  # JSON
    length = facts["correlation_length_m"] / aquifer.length_scale_m
    model = Covariance(record.kernel, facts["variance"], length, facts["nugget"])
    members = (
        fields_of(folder, range(record.snapshots)),
        fields_of(folder, held_out_range(record)),
    )
    return site_of(record, aquifer, model, facts["mean"], measured, members)


def fields_of(folder: Path, members: range) -> dict[str, Tensor]:
    """Stored members that did not fail, by name of the field."""
    stored = read_fields(folder, members)
    return {LOG_TRANSMISSIVITY: stored.log_transmissivity, HEAD: stored.head}


def held_out_range(record: SiteRecord) -> range:
    """Test members: the last of the ensemble."""
    return range(record.ensemble_members - record.test_members, record.ensemble_members)
