"""What the report says of the generator follows from its scores."""

import numpy as np
import pytest

from simulators.subsurface import synthetic_aquifer
from workflows.engine.artefacts import Manifest
from workflows.hanford import generative_figures as figures
from workflows.hanford.generative_sections import (
    COLUMNS,
    RIVALS,
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


@pytest.fixture(scope="module")
def aquifer():
    return synthetic_aquifer()


def test_curves_are_those_of_the_generator_alone():
    network = {"epoch": 1, "held_out_rmse_m": 0.3}
    ours = [
        {"epoch": k, "critic_loss": 0.1, "moment_distance": 1 / k, "rank_share": 1.0}
        for k in (1, 2, 2, 3)  # killed and continued after the second
    ]
    figure = figures.gan_curves([network, *ours])
    drawn = {ax.get_title(): ax for ax in figure.axes if ax.get_visible()}
    assert drawn.keys() == {
        figures.CURVES[key] for key in ("critic_loss", "moment_distance", "rank_share")
    }
    (line,) = drawn[figures.CURVES["moment_distance"]].lines
    np.testing.assert_allclose(line.get_ydata(), [1, 1 / 2, 1 / 3])


def test_difference_maps_are_symmetric_about_zero(aquifer):
    generator = np.random.default_rng(0)
    arrays = {
        f"{moment}_hydraulic_head_{source}": generator.random(aquifer.n_cells)
        for moment in ("mean", "spread")
        for source in ("simulated", "generated")
    }
    arrays["sensors_hydraulic_head"] = aquifer.well_cells
    figure = figures.moment_maps(aquifer, arrays, "hydraulic_head")
    maps = {ax.get_title(): ax.collections[0] for ax in figure.axes if ax.collections}
    low, high = maps["mean: PI-GAN - simulation, m"].get_clim()
    assert low == -high
    shared = {c.get_clim() for title, c in maps.items() if "spread of head" in title}
    assert len(shared) == 1
