"""What the tasks of the Hanford workflow do: record in, manifest out, no scheduler.

Paths are below the run folder. Every step can be repeated: it overwrites what an
earlier, killed attempt left, with the same bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data.ensemble_store import (
    Format,
    create_store,
    failed_members,
    open_ensemble,
)
from data.sources.aquifer import Aquifer
from data.sources.aquifer_file import read_aquifer
from data.sources.measurements import Measurements, parse_measurements
from data.statistics import (
    covariance_with_points,
    ensemble_mean,
    ensemble_quantiles,
    ensemble_standard_deviation,
)
from simulators.random_fields import (
    Covariance,
    Kernel,
    covariance_matrix,
    fields_from_coordinates,
    fit_covariance,
    generalised_mean,
    karhunen_loeve,
    krige,
    member_generator,
    sample_members,
)
from simulators.subsurface import FlowSolveError, FlowSolver, Forcing
from surrogates.scores import coverage, rmse
from workflows.engine.driving.ensemble import require_quorum, without_failing
from workflows.engine.files.arrays import write_arrays
from workflows.engine.files.artefacts import Manifest, artefact
from workflows.engine.files.ensemble_files import STORES, store_members, store_of
from workflows.engine.watching.events import Log
from workflows.hanford.fields import (
    AQUIFER,
    FIELDS,
    HEAD,
    LOG_TRANSMISSIVITY,
    flow_problem,
    read_expansion,
    write_expansion,
)

COVARIANCE_WELLS = 3  # wells whose covariance with every cell is kept
MIN_CORRELATION = 0.05  # of the two closest measurements; below, it is white noise
QUANTILES = (0.05, 0.5, 0.95)


@dataclass(frozen=True, slots=True)
class PriorRecord:
    """Which measurements condition the prior, and how far it is expanded.

    The user's own where `measurements` names their table, else a published set.
    """

    measurements: str | None
    n_observations: int
    observation_set: int
    kernel: Kernel
    variance: float | None
    correlation_length_m: float | None
    nugget: float
    variance_share: float


def fit_prior(record: PriorRecord, folder: Path, log: Log) -> Manifest:
    """Fits a covariance to an observation set, conditions on it, expands the result."""
    aquifer = read_aquifer(folder / AQUIFER)
    points = torch.tensor(aquifer.cell_centroids)
    measured = _measurements(record, folder, aquifer)
    observed, values = points[measured.cells], torch.tensor(measured.log_transmissivity)
    model, mean = _covariance(record, observed, values, aquifer.length_scale_m)
    kriging = krige(points, observed, values, model, mean)
    expansion = karhunen_loeve(
        kriging.mean, kriging.covariance, variance_share=record.variance_share
    )
    path = folder / "fields" / "prior.npz"
    write_expansion(path, expansion)
    measurements = folder / "fields" / "measurements.npz"
    write_arrays(measurements, cells=measured.cells, values=values)
    reference = torch.tensor(aquifer.reference_log_transmissivity)
    facts = {
        "measurements": len(values),
        "has_own_measurements": record.measurements is not None,
        "is_length_determined": model.correlation_length
        <= float((observed.amax(0) - observed.amin(0)).norm()),
        "mean": mean,
        "variance": model.variance,
        "correlation_length_m": model.correlation_length * aquifer.length_scale_m,
        "nugget": model.nugget,
        "modes": len(expansion.eigenvalues),
        "captured_share": expansion.captured_share,
        "kriging_rmse": float(rmse(kriging.mean, reference)),
    }
    files = {"prior": path, "measurements": measurements}
    return Manifest({n: artefact(p, folder) for n, p in files.items()}, facts)


def _measurements(record: PriorRecord, folder: Path, aquifer: Aquifer) -> Measurements:
    if record.measurements is not None:
        text = (folder / record.measurements).read_text(encoding="utf-8")
        return parse_measurements(text, aquifer.n_cells)
    cells = aquifer.observation_sets[record.n_observations][record.observation_set]
    return Measurements(cells, aquifer.reference_log_transmissivity[cells])


def _covariance(
    record: PriorRecord, points: Tensor, values: Tensor, length_scale_m: float
) -> tuple[Covariance, float]:
    """The given or else the most likely covariance, and the mean that goes with it.

    Raises:
        ValueError: the values show no correlation in space.
    """
    if record.variance is not None and record.correlation_length_m is not None:
        length = record.correlation_length_m / length_scale_m
        model = Covariance(record.kernel, record.variance, length, record.nugget)
        return model, generalised_mean(points, values, model)
    fitted = fit_covariance(points, values, record.kernel)
    model = fitted.covariance
    between = covariance_matrix(points, points, replace(model, nugget=0.0))
    largest = float((between - between.diagonal().diag()).max())
    if largest < MIN_CORRELATION * (model.variance + model.nugget):
        raise ValueError(
            "the measurements must show some correlation in space to predict between "
            f"them; in the fit to these {len(values)} no two of them correlate by "
            f"more than {largest / (model.variance + model.nugget):.2g}. Use more of "
            "them, or give prior.variance and prior.correlation_length_m."
        )
    return model, fitted.mean


@dataclass(frozen=True, slots=True)
class BlockRecord:
    """One block of members to draw and simulate."""

    members: int
    block_size: int
    block: int
    seed: int
    store_format: Format = "zarr"


def simulate_block(
    record: BlockRecord, folder: Path, log: Log, *, prior: Manifest
) -> Manifest:
    """Draws the members of a block, solves for their heads, writes their shards."""
    aquifer = read_aquifer(folder / AQUIFER)
    store = folder / STORES[record.store_format]
    store.parent.mkdir(exist_ok=True)
    layout = create_store(
        store,
        n_members=record.members,
        block_size=record.block_size,
        variables=FIELDS,
        coordinates={
            name: ("cell", values, {"units": "m"})
            for name, values in zip("xy", _map_coordinates(aquifer).T, strict=True)
        },
        attributes={"title": f"{aquifer.name}: steady heads", "seed": record.seed},
        format=record.store_format,
    )
    members = layout.members(record.block)
    expansion = read_expansion(folder / prior.artefacts["prior"].path)
    draws = sample_members(expansion, record.seed, members)
    fields = fields_from_coordinates(expansion, draws)
    mesh, forcing = flow_problem(aquifer)
    heads, causes = solve_members(FlowSolver(mesh), fields, forcing)
    return store_members(
        store,
        record.block,
        {LOG_TRANSMISSIVITY.name: fields, HEAD.name: heads},
        seeds=[member_generator(record.seed, m).initial_seed() for m in members],
        failed={members[row]: cause for row, cause in causes.items()},
        provenance={"prior": prior.artefacts["prior"].sha256},
        folder=folder,
        log=log,
    )


def solve_members(
    solver: FlowSolver, fields: Tensor, forcing: Forcing
) -> tuple[Tensor, dict[int, str]]:
    """Heads (members, n) [m], NaN for members that fail, and why, by row."""
    heads = torch.full_like(fields, torch.nan)
    rows, found, causes = without_failing(
        lambda rows: solver.solve(fields[rows], forcing), len(fields), FlowSolveError
    )
    if found is not None:
        heads[rows] = found
    return heads, causes


@dataclass(frozen=True, slots=True)
class StatisticsRecord:
    """What the ensemble is summarised for."""

    quorum: float
    seed: int


def summarise(
    record: StatisticsRecord,
    folder: Path,
    log: Log,
    *,
    prior: Manifest,
    blocks: Sequence[Manifest],
) -> Manifest:
    """Mean, deviation, quantiles and covariances over the members of the store.

    Raises:
        ValueError: fewer members than the quorum have a result.
    """
    aquifer = read_aquifer(folder / AQUIFER)
    n_members = sum(int(str(block.facts["members"])) for block in blocks)
    failed = failed_members(store_of(folder))
    require_quorum(failed, n_members, record.quorum)
    ensemble = open_ensemble(store_of(folder))
    mesh, forcing = flow_problem(aquifer)
    kriged = read_expansion(folder / prior.artefacts["prior"].path).mean
    reference = torch.tensor(aquifer.reference_log_transmissivity)
    head_of_reference, head_of_kriged = FlowSolver(mesh).solve(
        torch.stack([reference, kriged]), forcing
    )
    arrays = {"reference_hydraulic_head": head_of_reference.numpy()}
    for variable in (LOG_TRANSMISSIVITY.name, HEAD.name):
        field = ensemble[variable]
        arrays[f"mean_{variable}"] = ensemble_mean(field).to_numpy()
        arrays[f"deviation_{variable}"] = ensemble_standard_deviation(field).to_numpy()
        arrays[f"quantiles_{variable}"] = ensemble_quantiles(
            field, QUANTILES
        ).to_numpy()
    wells = aquifer.well_cells[:: -(-len(aquifer.well_cells) // COVARIANCE_WELLS)]
    arrays["covariance_cells"] = wells
    covariance = covariance_with_points(ensemble[HEAD.name], wells.tolist())
    arrays["covariance_hydraulic_head"] = covariance.to_numpy()
    path = folder / "fields" / "statistics.npz"
    write_arrays(path, **arrays)
    low, _, high = torch.tensor(arrays[f"quantiles_{HEAD.name}"])
    mean_head = torch.tensor(arrays[f"mean_{HEAD.name}"])
    lower, _, upper = arrays[f"quantiles_{HEAD.name}"]
    heads = ensemble[HEAD.name]
    shares = ((heads >= lower) & (heads <= upper)).mean("cell").to_numpy()  # (member,)
    facts = {
        "members": n_members,
        "failed": [
            [member, member_generator(record.seed, member).initial_seed(), cause]
            for member, cause in failed.items()
        ],
        "reference_coverage": float(coverage(head_of_reference, low, high)),
        # neighbouring cells err together: single fields of the model scatter this far
        "lowest_plausible_coverage": float(np.quantile(shares, 0.05)),
        "reference_head_rmse_m": float(rmse(mean_head, head_of_reference)),
        "kriged_head_rmse_m": float(rmse(head_of_kriged, head_of_reference)),
        "head_deviation_median_m": float(np.median(arrays[f"deviation_{HEAD.name}"])),
    }
    return Manifest({"statistics": artefact(path, folder)}, facts)


def _map_coordinates(aquifer: Aquifer) -> NDArray[np.float64]:
    return aquifer.origin_m + aquifer.length_scale_m * aquifer.cell_centroids
