"""What the report says of the generator follows from its scores."""

import matplotlib.pyplot as plt
import pytest

from workflows.engine.files.arrays import write_arrays
from workflows.engine.files.artefacts import Manifest, artefact
from workflows.hanford.config import HanfordConfig, PiganConfig
from workflows.hanford.generative_sections import (
    COLUMNS,
    INTERPOLATION,
    INVERSION,
    describe_generator,
    describe_joint_law,
    metrics_of,
)

RIVALS = ("simulation", "pigan", "gaussian", "interpolation")
INVERTED = ("few_simulated", "few_generated", "inversion")
MIXED = HanfordConfig()
INVERSE = HanfordConfig(problem="inverse")
FULL = dict.fromkeys({key for _, key, _ in COLUMNS}, 0.1)
FULL_BOUNDS = dict.fromkeys(FULL, (0.01, 0.04))
TRAINED = Manifest({}, {"parameters": 9, "stopped": None})
STATISTICS = {"mean_error": 0.3, "deviation_error": 0.3, "spread_error": 0.2}


def manifest(**spread_of_head):
    """The evaluation of a run in which some rivals have other errors of spread."""
    scores = {
        rival: {
            field: dict(STATISTICS if rival == "interpolation" else FULL)
            for field in ("log_transmissivity", "hydraulic_head")
        }
        for rival in (*RIVALS, *INVERTED)
    }
    for rival, value in spread_of_head.items():
        scores[rival]["hydraulic_head"]["spread_error"] = value
    facts = {"scores": scores, "consistency": 0.0, "memorisation_ratio": 1.0}
    return Manifest({}, facts)


def test_a_better_rival_is_named():
    words = describe_joint_law(
        TRAINED, manifest(few_generated=0.08, inversion=0.05), MIXED
    )
    assert "snapshots inverted one by one did better" in words
    assert "Gaussian fit" not in words


def test_the_sampling_floor_is_no_rival():
    words = describe_joint_law(TRAINED, manifest(pigan=0.08, simulation=0.01), INVERSE)
    assert "smaller than those of every classical rival" in words


def test_metrics_stand_beside_the_rivals_that_have_the_score():
    metrics = metrics_of(manifest(pigan=0.08))
    assert metrics["pigan_head_spread_error"].value == 0.08
    assert metrics["pigan_head_spread_error"].baselines["interpolation"] == 0.2
    assert "interpolation" not in metrics["pigan_head_coverage_90"].baselines
    assert "pigan" not in metrics["pigan_head_coverage_90"].baselines


def test_a_rival_with_a_better_mean_is_named_too():
    evaluation = manifest(pigan=0.08)
    evaluation.facts["scores"]["gaussian"]["hydraulic_head"]["mean_error"] = 0.01
    words = describe_joint_law(TRAINED, evaluation, MIXED)
    assert "in the mean of head Gaussian fit + kriging + solver did better" in words
    assert "in the spread" not in words
    assert "smaller than those" not in words


@pytest.fixture(scope="module")
def section(small_site, generated_arrays, tmp_path_factory):
    """The section of a run whose training stopped and which inverted no snapshots."""
    evaluation = manifest(pigan=0.3, interpolation=0.2)
    for name in INVERTED:
        del evaluation.facts["scores"][name]
    fields = ("log_transmissivity", "hydraulic_head")
    evaluation.facts["calibration"] = {
        "members": 7,
        **dict.fromkeys(fields, FULL_BOUNDS),
    }
    folder = tmp_path_factory.mktemp("run")
    path = folder / "fields" / "generated.npz"
    write_arrays(path, **generated_arrays)
    evaluation.artefacts["generated"] = artefact(path, folder)
    pigan = Manifest({}, {"parameters": 9, "stopped": "the loss must stay finite."})
    yield describe_generator(folder, small_site, MIXED, pigan, evaluation)
    plt.close("all")


def test_table_has_every_answer_and_the_calibrated_bounds(section):
    (table,) = section.tables
    rows = {row[0]: dict(zip(table.header, row, strict=True)) for row in table.rows}
    assert len(rows) == len(RIVALS) + 1
    assert rows[INTERPOLATION]["rank ratio"] == "–"
    assert rows[INTERPOLATION]["spread"] == "0.200"
    bounds = rows["7 simulated members: 95 % of ensembles are below"]
    assert bounds["spread"] == "0.040"
    assert bounds["rank ratio"] == "0.01 to 0.04"


def test_section_says_why_training_ended_and_who_did_better(section):
    words = " ".join(section.text)
    assert "Training ended early" in words
    assert "the loss must stay finite." in words
    assert "in the spread of head Gaussian fit + kriging + solver" in words


def test_few_inverted_snapshots_compare_with_as_many_generated_members():
    """All generated members are better, as many as were inverted are not."""
    words = describe_joint_law(
        TRAINED, manifest(pigan=0.05, few_generated=0.12, inversion=0.11), MIXED
    )
    assert f"{INVERSION} did better" in words


@pytest.mark.parametrize(
    ("changes", "phrase"),
    [
        ({}, "Its kernel is that of the prior."),
        ({"length_factor": 2.0}, "2 times the correlation length"),
        ({"generator": "mesh"}, "It assumes no covariance."),
        (
            {"knows_measurements": True},
            "head at the wells and the measurements of ln T",
        ),
    ],
)
def test_words_say_what_the_generator_knew(
    small_site, generated_arrays, tmp_path, changes, phrase
):
    config = HanfordConfig(pigan=PiganConfig(**changes))
    evaluation = manifest()
    bounds = dict.fromkeys(("log_transmissivity", "hydraulic_head"), FULL_BOUNDS)
    evaluation.facts["calibration"] = {"members": 7, **bounds}
    path = tmp_path / "generated.npz"
    write_arrays(path, **generated_arrays)
    evaluation.artefacts["generated"] = artefact(path, tmp_path)
    pigan = Manifest({}, {"parameters": 9, "stopped": None})
    section = describe_generator(tmp_path, small_site, config, pigan, evaluation)
    plt.close("all")
    assert phrase in section.text[0]
