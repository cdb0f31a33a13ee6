"""The step that scores the generator and its rivals on the test members."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from surrogates.distributed.checkpoint import load_checkpoint
from surrogates.generative_metrics import (
    calibrate,
    consistency,
    memorisation_ratio,
    robust_spread,
    score_fields,
    score_statistics,
)
from surrogates.pigan.build import PiganShape, readings_of
from surrogates.pigan.heads import HEAD
from surrogates.pigan.model import Pigan, pigan_from_state
from surrogates.pigan.sensors import Fields
from surrogates.sensor_baselines import interpolate_statistics
from workflows.engine.driving.training import failure_of
from workflows.engine.files.arrays import read_arrays, write_arrays
from workflows.engine.files.artefacts import Manifest, artefact
from workflows.engine.watching.events import Log
from workflows.hanford.generative import PiganRecord, new_model
from workflows.hanford.sensing import (
    VARIABLES,
    Site,
    fields_of,
    held_out_range,
    read_site,
)

N_PAIRS = 3  # generated pairs kept for the report
N_CALIBRATED = 500  # members of the simulated ensembles that calibrate the scores
N_REPEATS = 40


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
    """Scores the generator and its rivals on the test members.

    The rivals alone if the training of the generator stopped itself.
    """
    site = read_site(record.pigan.site, folder, prior)
    reference = fields_of(folder, held_out_range(record.pigan.site))
    training = fields_of(folder, range(record.pigan.site.snapshots))
    n, seed = record.generated_members, record.pigan.settings.seed
    rivals, facts, generated = dict[str, Fields](), dict[str, object](), None
    if failure_of(pigan) is None:
        model = read_generator(folder / pigan.artefacts["checkpoint"].path)
        rivals["pigan"] = generated = sample(model, n, seed)
        facts["consistency"] = consistency_of(model, generated, reference)
        facts["memorisation_ratio"] = memorisation_of(site, generated)
    rivals["gaussian"] = sample(gaussian_fit(site, record.pigan), n, seed)
    rivals["simulation"] = training
    for manifest in inversions:
        arrays = read_arrays(folder / manifest.artefacts["inversions"].path)
        inverted = {v: torch.tensor(a) for v, a in arrays.items()}
        n_inverted = len(inverted[HEAD])
        # so few members have a sampling error of their own: equals beside them
        rivals["inversion"] = inverted
        if generated is not None:
            rivals["few_generated"] = {v: x[:n_inverted] for v, x in generated.items()}
        rivals["few_simulated"] = {v: x[:n_inverted] for v, x in training.items()}
    scores = {name: score(site, fields, reference) for name, fields in rivals.items()}
    scores["interpolation"] = score_interpolation(site, reference)
    path = folder / "fields" / "generated.npz"
    write_arrays(path, **_report_arrays(site, generated, reference))
    facts |= {
        "scores": scores,
        "members": {name: len(fields[HEAD]) for name, fields in rivals.items()},
        "calibration": _calibration(site, folder, record, reference),
    }
    timings = {k: v for part in inversions for k, v in part.timings.items()}
    return Manifest({"generated": artefact(path, folder)}, facts, timings)


def gaussian_fit(site: Site, record: PiganRecord) -> Pigan:
    """The fit to the readings of ln T, kriging and the solver, untrained.

    Of the inverse problem, which reads no ln T, it is the assumed prior.
    """
    shape = PiganShape(n_terms=record.shape.n_terms)
    return new_model(site, replace(record, shape=shape))


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
) -> dict[str, object]:
    """Scores that simulated ensembles of some members reach against the reference."""
    told = record.pigan.site
    spare = fields_of(folder, range(told.ensemble_members - told.test_members))
    n = min(N_CALIBRATED, len(spare[HEAD]) // 2)
    generator = torch.Generator().manual_seed(told.seed)
    bounds = {
        name: calibrate(
            spare[name], reference[name], site.unseen(name), n, N_REPEATS, generator
        )
        for name in VARIABLES
    }
    return {"members": n, **bounds}


def _report_arrays(
    site: Site, generated: Fields | None, reference: Fields
) -> dict[str, Tensor | np.ndarray]:
    """Maps, pairs and a covariance slice for the report."""
    arrays: dict[str, Tensor | np.ndarray] = {}
    sources = {"simulated": reference}
    if generated is not None:
        sources["generated"] = generated
    for name in VARIABLES:
        for source, fields in sources.items():
            values = fields[name].double()
            arrays[f"mean_{name}_{source}"] = values.mean(0)
            arrays[f"deviation_{name}_{source}"] = values.std(0)
            arrays[f"spread_{name}_{source}"] = robust_spread(values)
        if generated is not None:
            arrays[f"pairs_{name}"] = generated[name][:N_PAIRS]
        arrays[f"sensors_{name}"] = readings_of(site.data, name)[0]
    well = site.aquifer.well_cells[len(site.aquifer.well_cells) // 2]
    for source, fields in sources.items():
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
