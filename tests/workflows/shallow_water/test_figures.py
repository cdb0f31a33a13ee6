"""Errors in pictures: the curves, their bands and names, and the plane of cost."""

import numpy as np
import pytest

from workflows.shallow_water import cost, models
from workflows.shallow_water.figures import error_against_cost, error_curves


def curve(ax, model):
    (line,) = (line for line in ax.lines if line.get_gid() == model)
    return line


def texts(ax):
    return {text.get_text().strip(): text.get_position() for text in ax.texts}


@pytest.fixture
def points(scores, timings):
    return {kind: cost.points_of(scores, timings, kind, 85) for kind in models.KINDS}


def test_curves_are_means_over_the_members_of_a_kind(arrays):
    jets, random = error_curves(arrays).axes
    np.testing.assert_allclose(
        curve(jets, "sfno").get_ydata(), arrays["error_sfno"][:2].mean(0)
    )
    np.testing.assert_allclose(
        curve(random, "persistence").get_ydata(),
        arrays["error_persistence"][2:].mean(0),
    )
    assert curve(jets, "sfno").get_xdata()[-1] == 6.0
    assert jets.get_title() == "jets (2 test members)"
    assert jets.get_ylim() == random.get_ylim()


def test_bands_lie_within_the_members_and_around_the_mean(arrays):
    _, random = error_curves(arrays).axes
    assert len(random.collections) == len(models.NETWORKS)
    band = random.collections[0].get_paths()[0].vertices[:, 1]
    members = arrays["error_sfno"][2:, -1]
    assert members.mean() < band.max() <= members.max()


def test_solvers_are_named_at_their_ends_apart_from_each_other(arrays):
    arrays["error_solver_t42"] = arrays["error_solver_t63"] * 1.001
    jets, _ = error_curves(arrays).axes
    heights = {name: y for name, (_, y) in texts(jets).items()}
    assert set(heights) == {"T31", "T42", "T63"}
    assert heights["T42"] - heights["T63"] == pytest.approx(0.045)


def test_a_curve_ends_with_a_cross_where_a_member_is_lost(arrays):
    arrays["error_unet"][0, 10:] = np.nan
    arrays["error_sfno"][0, 20:] = 1e9
    jets, random = error_curves(arrays).axes
    (cross,) = (line for line in jets.lines if line.get_marker() == "X")
    assert cross.get_xdata()[0] == arrays["leads_h"][9] / 24
    assert not [line for line in random.lines if line.get_marker() == "X"]
    assert jets.get_ylim()[1] <= 3.0


def test_costs_join_the_solvers_and_leave_the_truth_off_the_line(points):
    jets, random = error_against_cost(points).axes
    (line,) = (line for line in jets.lines if line.get_label() == "numerical solver")
    assert list(line.get_xdata()) == [1e-3, 4e-3, 2e-2]
    assert list(line.get_ydata()) == [0.5, 0.3, 0.1]
    (truth,) = (line for line in jets.lines if line.get_xdata()[0] == 6e-2)
    assert list(truth.get_xdata()) == [6e-2, 6e-2]
    assert set(texts(jets)) == {"T31", "T42", "T63", "T85: the truth"}
    assert jets.get_xscale() == jets.get_yscale() == "log"
    assert jets.get_ylim() == random.get_ylim()


def test_every_network_stands_in_the_legend_with_its_interval(points):
    points["jet"] = [p for p in points["jet"] if p.model != "unet"]
    figure = error_against_cost(points)
    (legend,) = figure.legends
    named = {text.get_text() for text in legend.get_texts()}
    assert named == {
        "numerical solver",
        *models.BASELINES.values(),
        *models.NETWORKS.values(),
    }
    bars = {c.get_label(): c for c in figure.axes[1].containers}
    ((_, low), (_, high)) = bars["SFNO"].lines[2][0].get_segments()[0]
    assert (low, high) == pytest.approx((0.4 * 5 / 5.5, 0.4 * 5 / 4.5))
