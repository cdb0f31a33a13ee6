"""Scores of rollouts: what they must be where the answer is known."""

import numpy as np
import pytest
import torch

from surrogates.sphere.flow_scores import vorticity_error
from workflows.engine.files.arrays import read_arrays
from workflows.shallow_water import evaluation
from workflows.shallow_water.fields import (
    TRUTH_DIFFUSION,
    FlowRecord,
    draw_states,
    harmonics_of,
    read_flows,
)
from workflows.shallow_water.steps import solve_flows

SEED, TEST = 3, (8, 9, 10, 11)


@pytest.fixture(scope="module")
def manifest(run_folder, flow, summary, tuning, networks, correction):
    record = evaluation.EvaluationRecord(flow, TEST, (21,), SEED)
    return evaluation.evaluate(
        record,
        run_folder,
        print,
        summary=summary,
        tuning=tuning,
        networks=networks,
        correction=correction,
    )


@pytest.fixture(scope="module")
def arrays(run_folder, manifest):
    return read_arrays(run_folder / manifest.artefacts["evaluation"].path)


def test_baselines_and_solvers_are_scored_against_the_truth(
    run_folder, flow, arrays, blocks
):
    _, truth = read_flows(run_folder, 21, TEST)
    persistence = vorticity_error(truth[:, :1], truth)[:, 1:]
    np.testing.assert_allclose(arrays["error_persistence"], persistence, rtol=1e-6)
    assert arrays["kind"].tolist() == [0, 1, 0, 1]
    assert arrays["leads_h"].tolist() == list(range(12, 145, 12))


def test_the_truth_itself_would_have_no_error(run_folder, flow, blocks):
    _, truth = read_flows(run_folder, 21, TEST)
    again, _ = solve_flows(flow, draw_states(TEST, SEED, 31), TRUTH_DIFFUSION)
    # float32, through the grid and back
    assert vorticity_error(again, truth).max() < 1e-5


def test_facts_are_means_of_the_arrays(manifest, arrays):
    errors = arrays["error_solver_t21"][arrays["kind"] == 1]
    mean, low, high = manifest.facts["errors"]["solver_t21"]["random"]["5"]
    assert mean == pytest.approx(errors[:, 9].mean())
    assert low <= mean <= high
    ratio = arrays["spectrum_unet"][0, 1:15] / arrays["spectrum_truth"][0, 1:15]
    found = manifest.facts["spectrum_ratio"]["unet"]["jet"]
    np.testing.assert_allclose(found, [ratio.min(), ratio.max()])


def test_a_horizon_is_where_climatology_takes_over(manifest, arrays):
    jets = arrays["kind"] == 0
    for model in ("persistence", "unet", "solver_t21"):
        mean, limit = (
            arrays[f"error_{name}"][jets].mean(0) for name in (model, "climatology")
        )
        beyond = np.flatnonzero(mean > limit)
        expected = 12 * int(beyond[0]) if len(beyond) else 144
        assert manifest.facts["horizon_h"][model]["jet"] == expected


def test_a_network_keeps_mass_and_the_guard_is_counted(manifest, arrays):
    assert manifest.facts["mass_drift"]["unet"] == 0.0
    assert manifest.facts["mass_drift"]["guarded"] < 1e-6
    share = manifest.facts["solver_share"]
    assert share == pytest.approx(arrays["by_solver"].mean())
    # until a stop, which is tested beside the guard, it is the network
    alone, guarded = arrays["error_unet"], arrays["error_guarded"]
    not_yet = arrays["by_solver"].cumsum(1) == 0
    assert 0 < not_yet.sum() < not_yet.size
    np.testing.assert_allclose(guarded[not_yet], alone[not_yet], rtol=1e-4)


def test_maps_are_of_the_days_that_they_name(run_folder, arrays):
    _, truth = read_flows(run_folder, 21, TEST)
    day_5 = harmonics_of(21).synthesise(truth[0, 10, 0])
    np.testing.assert_allclose(arrays["map_truth"][0, 1], day_5, atol=1e-11)
    assert arrays["map_days"].tolist() == [4, 5, 6]


def test_what_is_not_finite_has_no_score():
    errors = torch.full((2, 6), 0.2)
    errors[1, 1] = torch.nan  # day 2 of the second member
    flow = FlowRecord(31, 21, 6, 24)
    generator = torch.Generator().manual_seed(0)
    scores = evaluation._scores(flow, errors, generator, np.array([True, True]))
    assert scores["1"][0] == pytest.approx(0.2)
    assert scores["2"] is None
    assert scores["3"][0] == pytest.approx(0.2)
