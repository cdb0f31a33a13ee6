"""Spectra and drifts in pictures."""

import numpy as np
import pytest

from workflows.shallow_water.scales import energy_spectra, invariant_drift


def labelled(ax, name):
    (line,) = (line for line in ax.lines if line.get_label() == name)
    return line


def test_spectra_begin_at_degree_one_and_stand_beside_a_slope_of_three(arrays):
    jets, _, ratios, _ = energy_spectra(arrays, 42).axes
    truth = labelled(jets, "truth")
    assert truth.get_xdata()[0] == 1
    np.testing.assert_allclose(truth.get_ydata(), arrays["spectrum_truth"][0, 1:])
    guide = labelled(jets, "slope l⁻³")
    slope = np.polyfit(np.log(guide.get_xdata()), np.log(guide.get_ydata()), 1)[0]
    assert slope == pytest.approx(-3.0)
    assert jets.get_xscale() == jets.get_yscale() == "log"
    network = ratios.lines[1]  # the solver is drawn first
    np.testing.assert_allclose(network.get_ydata(), 1.2)


def test_two_thirds_of_the_truncation_are_marked_with_the_tolerance(arrays):
    axes = energy_spectra(arrays, 42).axes
    marks = [line for ax in axes for line in ax.lines if line.get_linestyle() == ":"]
    assert [list(line.get_xdata()) for line in marks] == [[28.0, 28.0]] * 4
    assert axes[0].texts[0].get_text().strip() == "⅔ T = 28"
    corners = axes[2].collections[0].get_paths()[0].vertices
    assert (corners.min(0)[1], corners.max(0)[1]) == pytest.approx((0.8, 1.2))
    assert corners.max(0)[0] == 28.0


def test_a_diverged_spectrum_leaves_the_axis_to_the_truth(arrays):
    arrays["spectrum_unet"] *= 1e30
    assert energy_spectra(arrays, 42).axes[0].get_ylim()[1] < 1e3


def test_drifts_are_means_with_the_range_of_members(arrays):
    arrays["energy_drift_sfno"][0, -1] = 3e-4
    energy = invariant_drift(arrays).axes[0]
    line = labelled(energy, "SFNO")
    assert line.get_ydata()[-1] == pytest.approx((3e-4 - 3e-4) / 2)
    tops = [band.get_paths()[0].vertices[:, 1].max() for band in energy.collections]
    assert max(tops) == pytest.approx(3e-4)


@pytest.mark.parametrize(("factor", "scale"), [(1.0, "linear"), (100.0, "symlog")])
def test_small_drifts_stay_visible_beside_large_ones(arrays, factor, scale):
    arrays["energy_drift_unet"] *= factor
    axes = invariant_drift(arrays).axes
    assert [ax.get_yscale() for ax in axes] == [scale, scale, "linear", "linear"]
    assert axes[0].get_ylim() == axes[1].get_ylim()


def test_a_model_that_is_no_longer_finite_breaks_no_figure(arrays):
    arrays["energy_drift_unet"][:, 5:] = np.nan
    arrays["spectrum_unet"][:] = np.nan
    energy_spectra(arrays, 42)
    assert np.isfinite(invariant_drift(arrays).axes[0].get_ylim()).all()
