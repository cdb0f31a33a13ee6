"""The steps that simulate: flows that can be drawn again, failures, tuned diffusion."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from data.ensemble_store import open_ensemble
from simulators.random_fields import member_generator
from simulators.shallow_water import GRAVITY, split_fields, stack_fields
from simulators.sphere import Diffusion, change_truncation, integrate
from surrogates.sphere.flow_scores import vorticity_error
from workflows.engine.driving.ensemble import without_failing
from workflows.engine.files.arrays import read_arrays
from workflows.engine.files.artefacts import Manifest
from workflows.engine.files.ensemble_files import store_of
from workflows.shallow_water import fields, steps
from workflows.shallow_water.fields import (
    DAY_S,
    TRUTH_DIFFUSION,
    draw_states,
    harmonics_of,
    model_of,
    read_flows,
    scheme_of,
)
from workflows.shallow_water.learning import read_guard
from workflows.shallow_water.rollouts import read_test

SEED = 3


def no_log(record):
    pass


def test_draws_depend_on_the_number_alone_and_are_equal_at_every_truncation():
    together, alone = draw_states([4, 7, 5], SEED, 42), draw_states([7], SEED, 42)
    torch.testing.assert_close(together[1], alone[0], rtol=1e-5, atol=1e-9)
    coarse = draw_states([7], SEED, 31)
    vorticity = change_truncation(alone, 31)[:, 0]
    torch.testing.assert_close(coarse[:, 0], vorticity, rtol=1e-6, atol=0)


def test_even_numbers_are_jets_and_odd_ones_random_states():
    jets, random = (draw_states(numbers, SEED, 31) for numbers in ([0, 2], [1, 3]))
    # a jet is zonal to the bit, its bump lies in the depth alone
    assert jets[:, 0, :, 1:].abs().max() < 1e-12 * jets[:, 0].abs().max()
    assert random[:, 0, :, 1:].abs().max() > 0.1 * random[:, 0].abs().max()


def test_stored_flows_are_those_of_the_model(run_folder, flow, blocks):
    ids, flows = read_flows(run_folder, flow.truncation, [5])
    first = draw_states([5], SEED, flow.truth_truncation)
    model = model_of(flow.truth_truncation, TRUTH_DIFFUSION)
    (end,) = integrate(
        model,
        split_fields(first),
        replace(scheme_of(31), time_step_s=1800.0),
        6 * DAY_S,
    )
    expected = change_truncation(stack_fields(end.state), flow.truncation)
    assert ids.tolist() == [5]
    # float32, one member instead of four, through the grid and back
    assert vorticity_error(flows[:, -1], expected) < 1e-4
    persistence = vorticity_error(flows[:, 0], expected)
    assert persistence > 0.5


def test_the_store_tells_what_it_holds(run_folder, flow, blocks):
    ensemble = open_ensemble(store_of(run_folder))
    assert dict(ensemble.sizes) == {"member": 12, "time": 13, "lat": 32, "lon": 64}
    assert ensemble.relative_vorticity.attrs["units"] == "s-1"
    assert ensemble.time.values.tolist() == list(range(0, 145, 12))
    assert math.isclose(float(ensemble.lat[0]), -float(ensemble.lat[-1]))


def test_a_selection_says_which_flows_a_block_holds(run_folder, flow, tmp_path):
    chosen = [23, 40, 21, 30]
    told = {
        "chosen": chosen,
        "first_member": 4,
        "flagged_share": 0.5,
        "flagged_chosen": 3,
    }
    first_block, record = (steps.BlockRecord(flow, 8, 4, k, SEED) for k in (0, 1))
    steps.simulate_block(first_block, tmp_path, no_log)
    block = steps.simulate_block(
        record, tmp_path, no_log, selection=Manifest(facts=told)
    )
    assert block.facts["flagged_share"] == 0.5
    _, flows = read_flows(tmp_path, flow.truncation, range(4, 8))
    first = change_truncation(draw_states(chosen, SEED, 31), flow.truncation)
    assert vorticity_error(flows[:, 0], first).max() < 1e-5
    seeds = [member_generator(SEED, number).initial_seed() for number in chosen]
    (entry,) = (store_of(tmp_path) / "manifest").glob("*1.json")
    assert json.loads(entry.read_text())["seeds"] == seeds


def test_an_ensemble_without_a_kind_of_flow_is_refused(run_folder, flow, blocks):
    with pytest.raises(ValueError, match="test members must hold a flow of kind rand"):
        read_test(run_folder, flow, (8, 10), SEED)


class BurstError(ValueError):
    def __init__(self, members):
        super().__init__(f"{len(members)} burst")
        self.members = members


def test_members_that_fail_are_left_out_and_named():
    def halves(rows):
        bad = tuple(place for place, row in enumerate(rows) if row in {1, 4})
        if bad:
            raise BurstError(bad[:1])  # one at a time
        return [row / 2 for row in rows]

    rows, found, causes = without_failing(halves, 6, BurstError)
    assert rows == [0, 2, 3, 5]
    assert found == [0.0, 1.0, 1.5, 2.5]
    assert causes == {1: "1 burst", 4: "1 burst"}
    assert without_failing(halves, 0, BurstError) == ([], None, {})


def test_a_failure_that_names_nobody_is_raised():
    def fail(rows):
        raise BurstError(())

    with pytest.raises(BurstError):
        without_failing(fail, 3, BurstError)


def test_a_flow_that_fails_is_nan_and_the_others_go_on(flow):
    """One member begins with a metre of fluid at its lowest, which a wave takes."""
    states = draw_states([0, 2], SEED, 31)
    drained, harmonics = states.clone(), harmonics_of(31)
    lowest = harmonics.synthesise(states[1, 2]).min()
    drained[1, 2, 0, 0] -= math.sqrt(2) * (lowest - GRAVITY)
    day = replace(flow, days=1)
    flows, causes = steps.solve_flows(day, drained, TRUTH_DIFFUSION)
    alone, none = steps.solve_flows(day, states[:1], TRUTH_DIFFUSION)
    assert list(causes) == [1]
    assert none == {}
    assert causes[1].startswith("T31: not finite, or without fluid somewhere, at step")
    assert flows[1].isnan().all()
    assert vorticity_error(flows[0, -1], alone[0, -1]) < 1e-5


def test_the_tuned_diffusion_has_the_least_error(run_folder, flow, tuning):
    found = tuning.facts["solver_t21"]
    errors = [error for *_, error in found["tried"]]
    assert len(errors) == len(steps.DIFFUSIONS)
    assert found["error"] == min(errors)
    diffusion = steps.tuned(tuning, 21)
    _, flows = read_flows(run_folder, 21, range(2))
    first = change_truncation(draw_states([0, 1], SEED, 31), 21)
    again, _ = steps.solve_flows(flow, first, diffusion)
    error = vorticity_error(again, flows)[:, 10].mean()
    # the tuning runs five days unbroken, this here begins each interval's clock anew
    assert float(error) == pytest.approx(found["error"], rel=0.02)
    worst = max(found["tried"], key=lambda row: row[2])
    assert worst[2] > 1.02 * found["error"]
    assert Diffusion(worst[1], worst[0]) != diffusion


def test_a_solver_that_fails_with_every_diffusion_is_refused(
    run_folder, flow, blocks, monkeypatch
):
    def without_fluid(*arguments):
        states = draw_states(*arguments)
        states[:, 2] = 0
        return states

    monkeypatch.setattr(steps, "draw_states", without_fluid)
    record = steps.TuningRecord(flow, (21,), 2, SEED)
    with pytest.raises(ValueError, match="solver at T21 must follow the first 2"):
        steps.tune_diffusion(record, run_folder, print, blocks=blocks)


def test_a_step_that_is_wrong_for_every_flow_is_no_fault_of_the_flows(
    run_folder, flow, blocks, monkeypatch
):
    monkeypatch.setattr(fields, "LONGEST_STEP_S", 12 * 3600.0)
    monkeypatch.setattr(fields, "FASTEST_WIND", 1.0)  # believed, it allows that step
    record = steps.TuningRecord(flow, (21,), 2, SEED)
    with pytest.raises(ValueError, match="time_step_s must be at most"):
        steps.tune_diffusion(record, run_folder, print, blocks=blocks)


def test_climatology_and_guard_are_those_of_the_training_flows(
    run_folder, flow, summary
):
    _, flows = read_flows(run_folder, 21, range(8))
    arrays = read_arrays(run_folder / summary.artefacts["summary"].path)
    jets = flows[::2].mean((0, 1))
    np.testing.assert_allclose(arrays["climatology"][0], jets, rtol=1e-5, atol=1e-9)
    guard = read_guard(run_folder, summary)
    assert (guard.lowest < guard.highest).all()
    assert summary.facts == {"members": 12, "failed": []}


def test_a_summary_needs_its_quorum(run_folder, flow, blocks):
    lost = [[0, 1, "burst"], [1, 2, "burst"]]
    failing = Manifest(blocks[0].artefacts, {**blocks[0].facts, "failed": lost})
    record = steps.SummaryRecord(21, 8, 8, 0.95, 0.1)
    with pytest.raises(ValueError, match="2 of 12 failed, the first: burst"):
        steps.summarise(record, run_folder, no_log, blocks=[failing, *blocks[1:]])
