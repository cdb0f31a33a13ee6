"""The steps that learn the joint law of ln T and head from sensors: the PI-GAN.

Snapshots are the first training members of the ensemble, read at the sensors only. The
generator knows the kernel of the prior, but neither the measurements that condition the
ensemble (unless told) nor any field. Test members are the reference of every score.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import TypeAdapter
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
from simulators.subsurface import FlowSolver
from surrogates.distributed.checkpoint import (
    load_checkpoint,
    save_checkpoint,
    sole_writer,
)
from surrogates.distributed.launcher import launch
from surrogates.generative_metrics import (
    calibrate,
    consistency,
    memorisation_ratio,
    robust_spread,
    score_fields,
    score_statistics,
)
from surrogates.pigan.build import PiganShape, build_pigan, readings_of
from surrogates.pigan.heads import HEAD, LOG_TRANSMISSIVITY
from surrogates.pigan.model import Pigan, pigan_from_state, pigan_state
from surrogates.pigan.sensors import Fields, SensorData, SensorGroup, Snapshots
from surrogates.pigan.train import (
    GanSettings,
    ModeCollapseError,
    last_good,
    train_pigan,
)
from surrogates.sensor_baselines import (
    SnapshotReadings,
    interpolate_statistics,
    invert_snapshots,
)
from surrogates.training import DivergenceError
from workflows.engine.artefacts import Manifest, artefact, digest_of
from workflows.engine.events import Log, event_log
from workflows.hanford.fields import (
    AQUIFER,
    STORE,
    flow_problem,
    read_arrays,
    read_fields,
    write_arrays,
)

Problem = Literal["forward", "inverse", "mixed"]
VARIABLES = (LOG_TRANSMISSIVITY, HEAD)
N_PAIRS = 3  # generated pairs kept for the report
N_CALIBRATED = 500  # members of the simulated ensembles that calibrate the scores
N_REPEATS = 40


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
    facts: Mapping[str, Any] = prior.facts
    length = facts["correlation_length_m"] / aquifer.length_scale_m
    model = Covariance(record.kernel, facts["variance"], length, facts["nugget"])
    members = (
        fields_of(folder, range(record.snapshots)),
        fields_of(folder, _test_range(record)),
    )
    return site_of(record, aquifer, model, facts["mean"], measured, members)


def fields_of(folder: Path, members: range) -> dict[str, Tensor]:
    """Stored members that did not fail, by name of the field."""
    stored = read_fields(folder / STORE, members)
    return {LOG_TRANSMISSIVITY: stored.log_transmissivity, HEAD: stored.head}


@dataclass(frozen=True, slots=True)
class PiganRecord:
    """One generator to train."""

    site: SiteRecord
    shape: PiganShape
    settings: GanSettings
    threads: int


def train_generator(
    record: PiganRecord,
    folder: Path,
    log: Log,
    *,
    prior: Manifest,
    blocks: Sequence[Manifest],
) -> Manifest:
    """Trains the generator in a process of its own; goes on from its checkpoint.

    A training that diverges or collapses ends with the last good weights, and says so.
    """
    path = folder / "checkpoints" / "pigan.pt"
    path.parent.mkdir(exist_ok=True)
    began = time.perf_counter()
    facts = launch(
        "workflows.hanford.generative:train_rank",
        {
            "folder": str(folder),
            "result": str(path),
            "data_digest": digest_of([prior, *blocks]),
            "record": asdict(record),
            "prior": asdict(prior),
        },
        n_threads=record.threads,
        folder=folder / "checkpoints",
    )
    timings = {"pigan_training_s": time.perf_counter() - began}
    return Manifest({"pigan": artefact(path, folder)}, facts, timings)


def train_rank(
    *,
    folder: str,
    result: str,
    data_digest: str,
    record: dict[str, object],
    prior: dict[str, object],
) -> dict[str, object]:
    """What the training process does."""
    run = Path(folder)
    told = TypeAdapter(PiganRecord).validate_python(record)
    site = read_site(told.site, run, TypeAdapter(Manifest).validate_python(prior))
    # apart from the result: an altered result is made again from intact state
    checkpoint = Path(result).with_suffix(".training.pt")
    with sole_writer(checkpoint):
        model, stopped = train(site, told, checkpoint, data_digest, event_log(run))
        state = {"data_digest": data_digest, "description": pigan_state(model)}
        save_checkpoint(Path(result), state)
    n_parameters = sum(p.numel() for p in model.parameters())
    return {"parameters": n_parameters, "stopped": stopped}


def train(
    site: Site, record: PiganRecord, checkpoint: Path, data_digest: str, log: Log
) -> tuple[Pigan, str | None]:
    """The trained generator, and why training stopped early if it did.

    Raises:
        DivergenceError: training diverged before its first checkpoint.
        ModeCollapseError: the generator collapsed before its first checkpoint.
    """
    model = new_model(site, record)
    try:
        trained = train_pigan(
            model, site.data, record.settings, checkpoint, data_digest, log
        )
    except (DivergenceError, ModeCollapseError) as error:
        if not checkpoint.exists():
            raise
        log({"event": "training stopped", "cause": str(error)})
        return last_good(model, checkpoint), str(error)
    return trained, None


def new_model(site: Site, record: PiganRecord) -> Pigan:
    """The generator before training: with ln T sensors, the Gaussian fit to them."""
    mesh, forcing = flow_problem(site.aquifer)
    seed = record.settings.seed
    return build_pigan(mesh, forcing, site.prior, site.data, record.shape, seed)


@dataclass(frozen=True, slots=True)
class InversionRecord:
    """How many snapshots to invert one by one."""

    site: SiteRecord
    n_snapshots: int


def invert(
    record: InversionRecord,
    folder: Path,
    log: Log,
    *,
    prior: Manifest,
    blocks: Sequence[Manifest],
) -> Manifest:
    """Draws ln T given each snapshot by itself: the classical rival."""
    site = read_site(record.site, folder, prior)
    began = time.perf_counter()
    fields = inverted_fields(site, record.n_snapshots, record.site.seed)
    timings = {"inversion_s": (time.perf_counter() - began) / record.n_snapshots}
    path = folder / "fields" / "inversions.npz"
    write_arrays(path, **{name: field.float() for name, field in fields.items()})
    return Manifest({"inversions": artefact(path, folder)}, {}, timings)


def inverted_fields(site: Site, n: int, seed: int) -> dict[str, Tensor]:
    """One draw of the fields (n, cells) given each of the first n snapshots."""
    mesh, forcing = flow_problem(site.aquifer)
    (cells, log_t), (wells, head) = (readings_of(site.data, v) for v in VARIABLES)
    if not len(cells):
        log_t = torch.empty(len(head), 0)
    readings = SnapshotReadings(cells, log_t[:n], wells, head[:n])
    generator = torch.Generator().manual_seed(seed)
    solver = FlowSolver(mesh)
    found = invert_snapshots(solver, forcing, site.prior, readings, generator)
    return dict(zip(VARIABLES, found, strict=True))


@dataclass(frozen=True, slots=True)
class PiganEvaluationRecord:
    """What to compare, on how many generated members."""

    pigan: PiganRecord
    generated_members: int


def evaluate_generator(
    record: PiganEvaluationRecord,
    folder: Path,
    log: Log,
    *,
    prior: Manifest,
    blocks: Sequence[Manifest],
    pigan: Manifest,
    inversions: Sequence[Manifest],
) -> Manifest:
    """Scores the generator and its rivals on the test members."""
    site = read_site(record.pigan.site, folder, prior)
    reference = fields_of(folder, _test_range(record.pigan.site))
    training = fields_of(folder, range(record.pigan.site.snapshots))
    model = read_generator(folder / pigan.artefacts["pigan"].path)
    n, seed = record.generated_members, record.pigan.settings.seed
    generated = sample(model, n, seed)
    rivals = {
        "pigan": generated,
        "gaussian": sample(new_model(site, record.pigan), n, seed),
        "simulation": training,
    }
    for manifest in inversions:
        arrays = read_arrays(folder / manifest.artefacts["inversions"].path)
        rivals["inversion"] = {v: torch.tensor(a) for v, a in arrays.items()}
    scores = {name: score(site, fields, reference) for name, fields in rivals.items()}
    scores["interpolation"] = score_interpolation(site, reference)
    path = folder / "fields" / "generated.npz"
    write_arrays(path, **_report_arrays(site, generated, reference))
    facts = {
        "scores": scores,
        "calibration": _calibration(site, folder, record, reference),
        "consistency": consistency_of(model, generated, reference),
        "memorisation_ratio": memorisation_of(site, generated),
    }
    timings = {k: v for part in inversions for k, v in part.timings.items()}
    return Manifest({"generated": artefact(path, folder)}, facts, timings)


def read_generator(path: Path) -> Pigan:
    """The generator of a checkpoint."""
    return pigan_from_state(load_checkpoint(path)["description"])


def sample(model: Pigan, n: int, seed: int) -> dict[str, Tensor]:
    """Generated fields (n, cells), from another stream than that of training."""
    return model.sample(n, torch.Generator().manual_seed(seed + 2**31))


def score(site: Site, fields: Fields, reference: Fields) -> dict[str, dict[str, float]]:
    """Scores of an ensemble against the reference, by name of the field."""
    return {
        name: score_fields(fields[name], reference[name], site.unseen(name))
        for name in VARIABLES
    }


def score_interpolation(site: Site, reference: Fields) -> dict[str, dict[str, float]]:
    """Scores of kriged statistics of the readings, of the fields that are read."""
    scores = {}
    for name in VARIABLES:
        cells, readings = readings_of(site.data, name)
        if len(cells):
            found = interpolate_statistics(site.data.points, cells, readings)
            scores[name] = score_statistics(
                found.mean, found.deviation, found.spread, reference[name]
            )
    return scores


def consistency_of(model: Pigan, generated: Fields, reference: Fields) -> float:
    """By how much generated heads miss their own flow equations; 0 with the solver."""
    solved = model.flow(generated)
    return consistency(generated[HEAD], solved, robust_spread(reference[HEAD]))


def memorisation_of(site: Site, generated: Fields) -> float:
    """Whether generated readings repeat snapshots; about 1 if they do not."""
    training, held_out = site.data.training[0], site.data.held_out[0]
    squash = training.scale.squash
    return memorisation_ratio(
        squash(training.group.read(generated))[: len(held_out.readings)],
        squash(training.readings),
        squash(held_out.readings),
    )


def _calibration(
    site: Site, folder: Path, record: PiganEvaluationRecord, reference: Fields
) -> dict[str, dict[str, tuple[float, float]]]:
    """Scores that simulated ensembles reach against the reference."""
    told = record.pigan.site
    spare = fields_of(folder, range(told.ensemble_members - told.test_members))
    n = min(N_CALIBRATED, len(spare[HEAD]) // 2)
    generator = torch.Generator().manual_seed(told.seed)
    return {
        name: calibrate(
            spare[name], reference[name], site.unseen(name), n, N_REPEATS, generator
        )
        for name in VARIABLES
    }


def _report_arrays(
    site: Site, generated: Fields, reference: Fields
) -> dict[str, Tensor | np.ndarray]:
    """Maps, pairs and a covariance slice for the report."""
    arrays: dict[str, Tensor | np.ndarray] = {}
    for name in VARIABLES:
        for source, fields in (("simulated", reference), ("generated", generated)):
            values = fields[name].double()
            arrays[f"mean_{name}_{source}"] = values.mean(0)
            arrays[f"deviation_{name}_{source}"] = values.std(0)
            arrays[f"spread_{name}_{source}"] = robust_spread(values)
        arrays[f"pairs_{name}"] = generated[name][:N_PAIRS]
        arrays[f"sensors_{name}"] = readings_of(site.data, name)[0]
    well = site.aquifer.well_cells[len(site.aquifer.well_cells) // 2]
    for source, fields in (("simulated", reference), ("generated", generated)):
        for name in VARIABLES:
            arrays[f"correlation_{name}_{source}"] = _correlation_with(
                fields[HEAD][:, well], fields[name]
            )
    arrays["correlation_cell"] = np.array(well)
    return arrays


def _correlation_with(series: Tensor, fields: Tensor) -> Tensor:
    """Correlation (cells,) of every cell with a series (members,); 0 if constant."""
    x, y = series.double(), fields.double()
    x, y = x - x.mean(), y - y.mean(0)
    norm = x.norm() * y.norm(dim=0)
    return torch.where(
        norm > 0, x @ y / norm.clamp(min=torch.finfo(norm.dtype).tiny), 0
    )


def _test_range(record: SiteRecord) -> range:
    return range(record.ensemble_members - record.test_members, record.ensemble_members)
