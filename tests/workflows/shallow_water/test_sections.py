"""Sections, tables and metrics of a whole report, from the facts of its tasks."""

import json

import numpy as np
import pytest

from data.ensemble_store import Variable, create_store
from workflows.engine.driving.steering import Steered
from workflows.engine.files.arrays import write_arrays
from workflows.engine.files.artefacts import Manifest, artefact
from workflows.engine.watching.events import close_event_logs, event_log
from workflows.shallow_water import models, sections, tables
from workflows.shallow_water.config import ShallowWaterConfig
from workflows.shallow_water.report import Results, metrics_of, write_results

TRAINED = {"network": "unet", "parameters": 9}
KINDS = ("jet", "random")
ENSEMBLE = {"members": 128, "failed": [[3, 77, "negative depth"]]}
STEERING = {
    "mode": "flagged",
    "rounds": [{"members": 16, "flagged_chosen": 9, "flagged_share": 0.2}],
    "reason": "all rounds were done.",
}
TUNING = {
    "solver_t42": {
        "order": 8,
        "e_folding_time_s": 28800.0,
        "error": 0.2,
        "tried": [[8, 28800.0, 0.2], [4, 28800.0, 0.3]],
    }
}
EPOCH = {"event": "epoch", "epochs": 1, "epoch": 1, "training_loss": 0.2}


@pytest.fixture
def facts(scores):
    networks = ("sfno", "unet", "hybrid")
    ratio = {key: [0.9, 1.3] for key in KINDS}
    return {
        "errors": scores,
        "one_step_skill": {n: {k: [0.9, 0.8, 0.7] for k in KINDS} for n in networks},
        "horizon_h": {"sfno": {"jet": 96.0, "random": 144.0}},
        "mass_drift": {"solver_t42": 1e-16, "sfno": 3e-16, "unet": None},
        "solver_share": 0.25,
        "spectrum_ratio": dict.fromkeys(networks, ratio),
    }


@pytest.fixture
def run(tmp_path, arrays, facts, timings):
    """A run folder whose tasks have ended, and what they found."""
    (tmp_path / "events").mkdir()
    (tmp_path / "fields").mkdir()
    create_store(
        tmp_path / "fields" / "ensemble.zarr",
        n_members=4,
        block_size=4,
        variables=[Variable("vorticity", "s-1", "vorticity")],
        coordinates={"x": ("cell", np.arange(3))},
        attributes={},
    )
    path = tmp_path / "artefacts" / "evaluation.npz"
    write_arrays(path, **arrays)
    record = {
        "workflow": "shallow_water",
        "run_id": "a",
        "seed": 0,
        "continuations": [],
        "program": ["python"],
        "versions": {},
        "git": None,
        "command_line": ["x"],
        "site": "laptop",
        "time": "now",
    }
    (tmp_path / "run.json").write_text(json.dumps(record))
    log = event_log(tmp_path)
    for name in ("unet over advection", "sfno over advection", "unet over solver"):
        log({**EPOCH, "training": name, "one_minus_skill": 0.1})
    yield (
        tmp_path,
        Results(
            Manifest({}, ENSEMBLE),
            Manifest({}, TUNING),
            Manifest({"evaluation": artefact(path, tmp_path)}, facts, timings),
            trainings=[Manifest({}, TRAINED, {"unet_80_training_s": 3.0})],
            selections=[
                Manifest(
                    {},
                    {"chosen": [*range(16)], "flagged_chosen": 9, "flagged_share": 0.2},
                )
            ],
            steered=Steered(Manifest(), 96, (), "96 members were simulated"),
        ),
    )
    close_event_logs(tmp_path)


def test_a_report_is_written_whole(run):
    folder, results = run
    words = write_results(folder, ShallowWaterConfig(), results)
    assert "127 of 128 flows" in words
    assert "On jets the simulator beats SFNO" in words
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["timings"]["unet_80_training_s"] == 3.0
    assert summary["parameters"] == {"unet": 9}
    assert summary["metrics"]["failed_members"]["value"] == 1.0
    assert summary["steering"]["rounds"] == [
        {"members": 16, "flagged_chosen": 9, "flagged_share": 0.2}
    ]
    html = (folder / "report.html").read_text()
    for told in ("negative depth", "loses to the solver T42", "within 20 %"):
        assert told in html
    pictures = {path.stem for path in (folder / "figures").iterdir()}
    assert pictures >= {"vorticity_jet", "difference_random", "errors", "spectra"}
    assert pictures >= {"drift", "cost", "training"}


def test_metrics_stand_beside_what_they_have_to_beat(facts):
    metrics = metrics_of(facts, 42)
    error = metrics["sfno_vorticity_error_day_5_jet"]
    assert error.value == 0.4
    assert error.interval == pytest.approx((0.4 * 5 / 5.5, 0.4 * 5 / 4.5))
    assert error.baselines == {
        "persistence": 0.8,
        "climatology": 0.9,
        "advection": 0.8,
        "solver_t42": 0.3,
        "solver_t63": 0.1,
    }
    share = metrics["hybrid_share_of_coarse_error_day_5_jet"]
    assert share.value == pytest.approx(2 / 3)
    assert share.baselines == {"solver_t42": 1.0, "solver_t63": pytest.approx(1 / 3)}
    assert metrics["unet_one_step_skill_random"].value == 0.9
    assert metrics["largest_mass_drift"].value == 3e-16
    assert metrics["solver_share_of_guarded_intervals"].value == 0.25


def test_numbers_that_are_not_finite_are_left_out(facts):
    facts["errors"]["unet"]["jet"]["5"] = [None, None, None]
    facts["errors"]["hybrid"]["random"]["5"] = None
    facts["one_step_skill"]["sfno"]["jet"] = [None, None, None]
    facts["mass_drift"] = {"unet": None}
    metrics = metrics_of(facts, 42)
    assert "unet_vorticity_error_day_5_jet" not in metrics
    assert "unet_vorticity_error_day_5_random" in metrics
    assert "hybrid_share_of_coarse_error_day_5_random" not in metrics
    assert "linear_share_of_coarse_error_day_5_random" in metrics
    assert "sfno_one_step_skill_jet" not in metrics
    assert "largest_mass_drift" not in metrics


def test_the_score_table_has_every_model_and_day_in_order(scores):
    scores["unet"]["jet"]["6"] = None
    table = tables.score_table(scores, "jet")
    assert list(table.header)[1:] == [f"day {d}" for d in range(1, 7)]
    names = [row[0] for row in table.rows]
    assert names[:6] == [
        "persistence",
        "climatology",
        "carried vorticity",
        "solver T31",
        "solver T42",
        "solver T63",
    ]
    by_name = {row[0]: row for row in table.rows}
    assert by_name["U-Net"][6] == "not finite"
    assert by_name["SFNO"][5] == "0.400 (0.364 to 0.444)"


def test_a_horizon_beyond_the_last_lead_is_a_bound(facts):
    table = tables.horizon_table(facts, 144.0)
    row = next(row for row in table.rows if row[0] == "SFNO")
    assert row[1:] == ["96", "0.90 to 1.30", "≥ 144", "0.90 to 1.30", "3.0e-16"]


def test_the_caption_of_costs_follows_from_the_points(scores, timings):
    points = {k: _points(scores, timings, k) for k in models.KINDS}
    caption = sections.describe_cost(points, 42).figures[0].caption
    assert "Jets: SFNO (0.40 in 6 ms) loses to the solver T42" in caption
    timings |= {f"solver_t{t}_member_day_s": 1.0 for t in (31, 42, 63, 85)}
    points = {k: _points(scores, timings, k) for k in models.KINDS}
    caption = sections.describe_cost(points, 42).figures[0].caption
    assert "loses" not in caption
    assert "Jets: SFNO (0.40 in 6 ms) wins" in caption


def test_trainings_are_named_and_tables_follow_the_facts():
    events = [
        {**EPOCH, "training": "sfno over solver", "one_minus_skill": 0.1},
        {**EPOCH, "training": "sfno over advection", "one_minus_skill": 0.3},
        {"event": "start"},
    ]
    section = sections.describe_training(events, TUNING, STEERING)
    curves = section.figures[0].figure.axes[0].lines
    assert {c.get_label(): c.get_ydata()[0] for c in curves[::2]} == {
        "SFNO": 0.3,
        "network-corrected solver": 0.1,
    }
    tuned, steered = section.tables
    assert list(tuned.rows[0]) == ["solver T42", "∇⁸", "8", "0.200", "2"]
    assert list(steered.rows[0]) == ["1", "16", "9", "20%"]
    none = {"mode": "none", "rounds": [], "reason": ""}
    quiet = sections.describe_training(events, TUNING, none)
    assert [t.rows[0][0] for t in quiet.tables] == ["solver T42"]


def _points(scores, timings, kind):
    return sections.cost.points_of(scores, timings, kind, 85)
