"""The steps that learn the joint law of ln T and head from sensors: the PI-GAN.

Its classical rival is here too: snapshots inverted one by one.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from pydantic import TypeAdapter
from torch import Tensor

from simulators.subsurface import FlowSolver
from surrogates.pigan.build import PiganShape, build_pigan, readings_of
from surrogates.pigan.model import Pigan, pigan_state
from surrogates.pigan.train import (
    GanSettings,
    last_good,
    train_pigan,
)
from surrogates.sensor_baselines import SnapshotReadings, invert_snapshots
from surrogates.training import StoppedTrainingError
from workflows.engine.driving.training import Trained, Training, train_in_process
from workflows.engine.files.arrays import write_arrays
from workflows.engine.files.artefacts import Manifest, artefact, digest_of
from workflows.engine.watching.events import Log
from workflows.hanford.fields import flow_problem
from workflows.hanford.sensing import VARIABLES, Site, SiteRecord, read_site


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
    return train_in_process(
        fit_generator,
        record,
        folder,
        "pigan",
        arguments={"prior": asdict(prior)},
        data_digest=digest_of([prior, *blocks]),
        n_threads=record.threads,
    )


def fit_generator(
    record: PiganRecord, training: Training, *, prior: dict[str, object]
) -> Trained:
    """The trained generator and its facts; what the training process does."""
    known = TypeAdapter(Manifest).validate_python(prior)
    site = read_site(record.site, training.folder, known)
    model, stopped = train(
        site, record, training.checkpoint, training.data_digest, training.log
    )
    n_parameters = sum(p.numel() for p in model.parameters())
    return pigan_state(model), {"parameters": n_parameters, "stopped": stopped}


def train(
    site: Site, record: PiganRecord, checkpoint: Path, data_digest: str, log: Log
) -> tuple[Pigan, str | None]:
    """The trained generator, and why training stopped early if it did.

    Raises:
        StoppedTrainingError: training diverged, or the generator collapsed, before the
            first checkpoint.
    """
    model = new_model(site, record)
    try:
        trained = train_pigan(
            model, site.data, record.settings, checkpoint, data_digest, log
        )
    except StoppedTrainingError as error:
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
