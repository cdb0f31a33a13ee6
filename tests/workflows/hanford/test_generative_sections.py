"""What the report says of the generator follows from its scores."""

import matplotlib.pyplot as plt
import pytest

from workflows.engine.artefacts import Manifest, artefact
from workflows.hanford.fields import write_arrays
from workflows.hanford.generative_sections import (
    CALIBRATED,
    COLUMNS,
    RIVALS,
    describe_generator,
    describe_joint_law,
    metrics_of,
)

FULL = dict.fromkeys({key for _, key, _ in COLUMNS}, 0.1)
STATISTICS = {"mean_error": 0.3, "deviation_error": 0.3, "spread_error": 0.2}


def manifest(**spread_of_head):
    """The evaluation of a run in which some rivals have other errors of spread."""
    scores = {
        rival: {
            field: dict(STATISTICS if rival == "interpolation" else FULL)
            for field in ("log_transmissivity", "hydraulic_head")
        }
        for rival in RIVALS
    }
    for rival, value in spread_of_head.items():
        scores[rival]["hydraulic_head"]["spread_error"] = value
    facts = {"scores": scores, "consistency": 0.0, "memorisation_ratio": 1.0}
    return Manifest({}, facts)


def test_a_better_rival_is_named():
    words = describe_joint_law(manifest(pigan=0.08, inversion=0.05), "mixed")
    assert "snapshots inverted one by one did better" in words
    assert "Gaussian fit" not in words


def test_the_sampling_floor_is_no_rival():
    words = describe_joint_law(manifest(pigan=0.08, simulation=0.01), "inverse")
    assert "closer than every classical rival" in words


def test_metrics_stand_beside_the_rivals_that_have_the_score():
    metrics = metrics_of(manifest(pigan=0.08))
    assert metrics["pigan_head_spread_error"].value == 0.08
    assert metrics["pigan_head_spread_error"].baselines["interpolation"] == 0.2
    assert "interpolation" not in metrics["pigan_head_coverage_90"].baselines
    assert "pigan" not in metrics["pigan_head_coverage_90"].baselines


def test_a_rival_with_a_better_mean_is_named_too():
    evaluation = manifest(pigan=0.08)
    evaluation.facts["scores"]["gaussian"]["hydraulic_head"]["mean_error"] = 0.01
    words = describe_joint_law(evaluation, "forward")
    assert "in the mean of head Gaussian fit + kriging + solver did better" in words
    assert "in the spread" not in words
    assert "closer than every" not in words


@pytest.fixture(scope="module")
def section(small_site, generated_arrays, tmp_path_factory):
    """The section of a run whose training stopped and which inverted no snapshots."""
    evaluation = manifest(pigan=0.3, interpolation=0.2)
    del evaluation.facts["scores"]["inversion"]
    bounds = dict.fromkeys(FULL, (0.01, 0.04))
    fields = ("log_transmissivity", "hydraulic_head")
    evaluation.facts["calibration"] = dict.fromkeys(fields, bounds)
    folder = tmp_path_factory.mktemp("run")
    path = folder / "fields" / "generated.npz"
    write_arrays(path, **generated_arrays)
    evaluation.artefacts["generated"] = artefact(path, folder)
    pigan = Manifest({}, {"parameters": 9, "stopped": "the loss must stay finite."})
    yield describe_generator(folder, small_site, "mixed", pigan, evaluation)
    plt.close("all")


def test_table_has_every_answer_and_the_calibrated_bounds(section):
    (table,) = section.tables
    rows = {row[0]: dict(zip(table.header, row, strict=True)) for row in table.rows}
    assert list(rows) == [
        *(label for rival, label in RIVALS.items() if rival != "inversion"),
        CALIBRATED,
    ]
    assert rows[RIVALS["interpolation"]]["rank ratio"] == "–"
    assert rows[RIVALS["interpolation"]]["spread"] == "0.200"
    assert rows[CALIBRATED]["spread"] == "0.040"
    assert rows[CALIBRATED]["rank ratio"] == "0.01 to 0.04"


def test_section_says_why_training_ended_and_who_did_better(section):
    words = " ".join(section.text)
    assert "Training ended early" in words
    assert "the loss must stay finite." in words
    assert f"in the spread of head {RIVALS['gaussian']}" in words
