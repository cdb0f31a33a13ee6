"""What the report says of networks and solvers follows from the numbers, both ways."""

import pytest

from workflows.shallow_water import cost, lead, models

STEERING = {
    "mode": "flagged",
    "rounds": [{"members": 16, "flagged_chosen": 9, "flagged_share": 0.2}] * 2,
    "reason": "all rounds were done.",
}
NONE = {"mode": "none", "rounds": [], "reason": "not asked for."}


@pytest.fixture
def points_of(scores, timings):
    def _points_of(kind="jet", **changed):
        timed = {f"{model}_member_day_s": s for model, s in changed.items()}
        return cost.points_of(scores, timings | timed, kind, 85)

    return _points_of


def test_failed_members_are_counted():
    ensemble = {"members": 128, "failed": [[3, 77, "why"]]}
    words = lead.describe_ensemble(ensemble, 42, 85, 6)
    assert words.startswith("127 of 128 flows")
    assert "1 failed and are left out" in words


def test_rivals_that_do_better_are_named_by_day(scores):
    scores["persistence"]["jet"]["1"] = [0.01, 0.01, 0.01]
    words = lead.describe_best(scores, "jet", 42)
    assert "On jets the best network, U-Net" in words
    assert "0.07, 0.21 and 0.35 on days 1, 3 and 5" in words
    assert "On day 1 persistence, solver T42 and solver T63 do better." in words
    assert "On days 3 and 5 solver T42 and solver T63 do better." in words
    assert "T31" not in words


def test_a_network_that_beats_all_is_said_to(scores):
    for day in scores["sfno"]["random"]:
        scores["sfno"]["random"][day] = [1e-3, 1e-3, 1e-3]
    words = lead.describe_best(scores, "random", 42)
    assert "the best network, SFNO" in words
    assert words.endswith("On days 1, 3 and 5 it beats them all.")


@pytest.mark.parametrize("lost", [None, [None, None, None]])
def test_lost_networks_are_no_best_ones(scores, lost):
    scores["unet"]["jet"] = dict.fromkeys(scores["unet"]["jet"], lost)
    assert "SFNO" in lead.describe_best(scores, "jet", 42)
    del scores["sfno"]
    assert lead.describe_best(scores, "jet", 42) == "On jets no network stays finite."


@pytest.mark.parametrize(
    ("error", "share", "winner"),
    [
        (0.2, "67%", "solver T63"),
        (0.06, "20%", "network-corrected solver"),
    ],
)
def test_the_corrections_are_compared_with_the_finer_solver(
    scores, error, share, winner
):
    for kind in ("jet", "random"):
        scores["hybrid"][kind]["5"] = [error] * 3
    told = lead.describe_correction(scores, 42, 5)
    assert told.startswith("Of the error of the solver T42 on day 5 this is left: on j")
    words = (
        f"50% linearly corrected solver, {share} network-corrected solver and "
        f"33% solver T63, so {winner} has the least"
    )
    assert told.count(words) == 2


def test_no_correction_needs_no_words(scores):
    del scores["hybrid"], scores["linear"]
    assert lead.describe_correction(scores, 42, 5) == ""
    assert lead.share_of(scores, "hybrid", "solver_t42", "jet", 5) is None


def test_the_guard_and_the_steering_are_told_if_they_were_there():
    words = lead.describe_guard(0.25, STEERING)
    assert "25% of the intervals" in words
    assert "In 2 rounds of steering 32 members (18 of them as the guard had" in words
    drawn = lead.describe_guard(0.0, {**STEERING, "mode": "random"})
    assert "32 members chosen at random" in drawn
    assert lead.describe_guard(None, NONE) == ""


def test_the_simulator_is_said_to_win_where_it_wins(points_of):
    words = lead.describe_winners({"jet": points_of(), "random": points_of("random")})
    # T42 has 0.3 in 4 ms
    carried, corrected = models.label("linear_advection"), models.label("linear")
    assert f"On jets the simulator beats SFNO, {carried} and guarded network" in words
    told = f"; no solver is as accurate as U-Net, {corrected} and network-corrected"
    assert told in words
    slow = points_of(solver_t31=1.0, solver_t42=1.0, solver_t63=1.0, solver_t85=1.0)
    words = lead.describe_winners({"jet": slow})
    assert "beats" not in words
    assert f"no solver is as accurate as SFNO, U-Net, {carried}, {corrected}, " in words


def test_the_truth_itself_beats_a_network_that_is_slower(points_of):
    (slow,) = (p for p in points_of(hybrid=0.07) if p.model == "hybrid")
    names = [p.model for p in cost.rivals_that_beat(slow, points_of())]
    assert names == ["solver_t63", "solver_t85"]


def test_the_rivalry_names_coarser_and_finer_winners(points_of):
    words = cost.describe_rivalry(points_of(unet=1.5e-3, hybrid=3e-2), 42)
    sfno, unet, _, _, hybrid, _ = words.split("; ")
    assert sfno == (
        "SFNO (0.40 in 6 ms) loses to the solver T42 of the same truncation "
        "(0.30 in 4 ms)"
    )
    assert unet == (
        "U-Net (0.35 in 1.5 ms) wins: the cheapest rival with no more error, the "
        "solver T42 of the same truncation (0.30 in 4 ms), takes 2.7 times as long"
    )
    assert "loses to the finer solver T63 (0.10 in 20 ms)" in hybrid
    fine = cost.describe_rivalry(points_of(), 63)
    assert fine.startswith("SFNO (0.40 in 6 ms) loses to the coarser solver T42")


def test_a_baseline_that_takes_time_is_a_rival(points_of, scores):
    scores["advection"]["jet"]["5"] = [0.38, 0.37, 0.39]
    seconds = {f"solver_t{t}": 1.0 for t in (31, 42, 63, 85)}
    words = cost.describe_rivalry(points_of(advection=1.2e-2, **seconds), 42)
    assert words.startswith(
        "SFNO (0.40 in 6 ms) wins: the cheapest rival with no more error, carried "
        "vorticity (0.38 in 12 ms), takes 2.0 times as long"
    )


def test_without_a_timed_solver_nothing_is_claimed_of_one(points_of):
    alone = [p for p in points_of() if p.model == "sfno"]
    words = cost.describe_rivalry(alone, 42)
    assert words.endswith("wins: nothing else that was timed has as small an error")


def test_a_model_without_an_error_is_no_point(points_of, scores):
    scores["unet"]["jet"]["5"] = None
    assert "unet" not in {p.model for p in points_of()}
    assert "unet" in {p.model for p in points_of("random")}


def test_a_cheap_network_that_climatology_beats_does_not_win(points_of, scores):
    scores["unet"]["jet"]["5"] = [1.2, 1.1, 1.3]
    points = points_of(unet=1e-5)
    words = lead.describe_winners({"jet": points})
    assert "; U-Net is no better than persistence and climatology; no solver" in words
    rivalry = cost.describe_rivalry(points, 42)
    assert "U-Net (1.20 in 0.01 ms) loses to persistence (0.80)" in rivalry
