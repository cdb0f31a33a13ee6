"""Maps: what each panel shows, on which scale."""

import numpy as np
import pytest

from workflows.shallow_water.maps import difference_maps, vorticity_maps

NAMES = ["truth", "solver_t42", "sfno"]


def panels(figure):
    """Axes with a map, without the colour bars."""
    return [ax for ax in figure.axes if ax.get_title(loc="left")]


def limits(axes):
    return {ax.collections[0].get_clim() for ax in axes}


def test_all_maps_share_a_scale_that_is_centred_on_zero(arrays):
    axes = panels(vorticity_maps(arrays, "jet", NAMES))
    assert len(axes) == len(NAMES) * 3
    ((low, high),) = limits(axes)
    assert low == -high
    assert high >= 0.9 * np.quantile(np.abs(arrays["map_truth"][0]), 0.995) / 1e-5


def test_a_row_is_a_model_and_a_column_a_day(arrays):
    axes = panels(vorticity_maps(arrays, "random", NAMES))
    assert axes[0].get_title(loc="left") == "truth, day 4"
    # truth times 1.2
    assert axes[7].get_title(loc="left") == "SFNO, day 5: error 0.20"
    drawn = axes[7].collections[0].get_array().reshape(10, 17)
    expected = arrays["map_sfno"][1, 1] / 1e-5
    np.testing.assert_allclose(drawn[1:-1, :-1], expected)
    np.testing.assert_allclose(drawn[1:-1, -1], expected[:, 0])  # around the globe
    np.testing.assert_allclose(drawn[0], expected[0].mean())  # the pole


@pytest.mark.parametrize(("kind", "south"), [("jet", 0.0), ("random", -90.0)])
def test_jets_show_their_hemisphere(arrays, kind, south):
    for ax in panels(vorticity_maps(arrays, kind, NAMES)):
        assert ax.get_ylim() == (south, 90.0)


def test_contours_of_jets_have_the_published_interval_without_zero(arrays):
    axes = panels(vorticity_maps(arrays, "jet", NAMES))
    levels = axes[0].collections[1].levels
    assert 0.0 not in levels
    assert set(np.diff(levels)) <= {2.0, 4.0}
    assert len(panels(vorticity_maps(arrays, "random", NAMES))[0].collections) == 1


def test_differences_have_one_scale_of_their_own(arrays):
    axes = panels(difference_maps(arrays, "random", ["sfno", "unet"], 5))
    fields, differences = axes[:2] + axes[3:5], [axes[2], axes[5]]
    assert len(limits(fields)) == len(limits(differences)) == 1
    assert limits(fields) != limits(differences)
    assert axes[5].get_title(loc="left") == "U-Net - truth: error 0.30"
    drawn = differences[1].collections[0].get_array().reshape(10, 17)[1:-1, :-1]
    off = (arrays["map_unet"] - arrays["map_truth"])[1, 1] / 1e-5
    np.testing.assert_allclose(drawn, off)


def test_a_model_that_left_the_numbers_is_called_so(arrays):
    arrays["map_sfno"][0, 2] = np.nan
    arrays["map_sfno"][0, 1] *= 1e6
    axes = panels(vorticity_maps(arrays, "jet", NAMES))
    assert axes[8].get_title(loc="left") == "SFNO, day 6: no longer finite"
    ((_, high),) = limits(axes)
    assert high < 20
    for network in difference_maps(arrays, "jet", ["sfno"], 5).axes[:3]:
        assert network.collections[0].get_clim()[1] < 20
