"""Pictures of a generator: drawn without warnings, with scales that can be compared."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from workflows.hanford import generative_figures as figures

DIAGNOSED = ("critic_loss", "moment_distance", "rank_share")


@pytest.fixture(autouse=True)
def _closed_figures():
    yield
    plt.close("all")


def drawn(figure):
    """The figure's maps or curves by title, after layout and drawing."""
    figure.canvas.draw()
    return {ax.get_title(): ax for ax in figure.axes if ax.get_visible()}


def epochs(numbers, value=1.0):
    """Events of a generator with sensors of head and a network for it."""
    keys = (*DIAGNOSED, "hydraulic_head_spread_error", "consistency")
    told = {"event": "epoch", "training": "PI-GAN on 80 snapshots"}
    return [{**told, "epoch": k, **dict.fromkeys(keys, value / k)} for k in numbers]


def test_curves_are_those_of_the_generator_alone():
    network = {"event": "epoch", "members": 8, "epoch": 1, "held_out_rmse_m": 0.3}
    # killed and continued after the second epoch
    again = epochs([2], value=4.0)
    curves = drawn(figures.gan_curves([network, *epochs([1, 2]), *again, *epochs([3])]))
    (line,) = curves[figures.CURVES["moment_distance"]].lines
    np.testing.assert_array_equal(line.get_xdata(), [1, 2, 3])
    np.testing.assert_allclose(line.get_ydata(), [1, 4 / 2, 1 / 3])


def test_only_what_was_diagnosed_has_a_curve():
    events = [
        {"event": "epoch", "epoch": k, **dict.fromkeys(DIAGNOSED, 1.0)} for k in (1, 2)
    ]
    curves = drawn(figures.gan_curves(events))
    assert curves.keys() == {figures.CURVES[key] for key in DIAGNOSED}


def test_a_flat_curve_does_not_lie_on_the_edge():
    events = [{**event, "consistency": 0.44} for event in epochs([1, 2])]
    ax = drawn(figures.gan_curves(events))[figures.CURVES["consistency"]]
    low, high = ax.get_ylim()
    assert low == 0
    assert high > 1.01 * 0.44


@pytest.mark.parametrize("name", figures.FIELDS)
def test_moments_share_a_scale_and_differences_are_symmetric(
    small_site, generated_arrays, name
):
    figure = figures.moment_maps(small_site, generated_arrays, name)
    figure.canvas.draw()
    maps = [ax for ax in figure.axes if ax.get_title()]
    for row in (maps[:3], maps[3:]):
        simulated, generated, difference = (ax.collections[0] for ax in row)
        assert simulated.get_clim() == generated.get_clim()
        low, high = difference.get_clim()
        assert low == -high
        dots = row[2].collections[1].get_offsets()
        assert len(dots) == len(generated_arrays[f"sensors_{name}"])


@pytest.mark.parametrize(
    ("draw", "n_maps"), [(figures.generated_pairs, 6), (figures.correlation_slice, 6)]
)
def test_maps_of_pairs_and_correlations_are_drawn(
    small_site, generated_arrays, draw, n_maps
):
    figure = draw(small_site, generated_arrays)
    figure.canvas.draw()
    maps = [ax for ax in figure.axes if ax.get_title()]
    assert len(maps) == n_maps
    assert all(ax.get_xlabel() == "east, km" for ax in maps)


def test_profile_separates_cells_with_and_without_sensor(generated_arrays):
    ax = drawn(figures.spread_profile(generated_arrays))[""]
    _, unread, read = ax.lines
    assert len(read.get_xdata()) == len(generated_arrays["sensors_hydraulic_head"])
    n_cells = len(generated_arrays["spread_hydraulic_head_simulated"])
    assert len(unread.get_xdata()) + len(read.get_xdata()) == n_cells
