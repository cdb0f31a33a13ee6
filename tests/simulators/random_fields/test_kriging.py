"""Kriging against exact bridges, the fit against scipy, theory and published sets."""

import math

import pytest
import torch
from scipy.stats import multivariate_normal

from simulators.random_fields import (
    Covariance,
    covariance_matrix,
    fit_covariance,
    generalised_mean,
    karhunen_loeve,
    krige,
    log_likelihood,
    sample_members,
)
from simulators.random_fields.karhunen_loeve import fields_from_coordinates

F64 = torch.float64
TRUTH = Covariance("matern52", 2.0, 0.1, nugget=0.3)
TRUE_MEAN = 7.0


def points_in_square(n, seed):
    return torch.rand(n, 2, generator=torch.Generator().manual_seed(seed), dtype=F64)


@pytest.fixture(scope="module")
def simulated():
    """One field of TRUTH at 300 points of the unit square."""
    points = points_in_square(300, seed=11)
    factor = torch.linalg.cholesky(covariance_matrix(points, points, TRUTH))
    noise = torch.randn(300, generator=torch.Generator().manual_seed(12), dtype=F64)
    return points, TRUE_MEAN + factor @ noise


def test_exponential_kriging_is_the_ornstein_uhlenbeck_bridge():
    # Markov: between two observations only these two count
    observed = torch.tensor([-0.9, 0.0, 1.0, 1.7], dtype=F64)
    y = torch.tensor([5.0, 1.0, 2.0, -4.0], dtype=F64)
    x = torch.linspace(0.05, 0.95, 19, dtype=F64)
    model = Covariance("matern12", 2.0, 0.4)
    kriging = krige(x[:, None], observed[:, None], y, model, mean=0.5)
    a, b = x / 0.4, (1 - x) / 0.4
    mean = 0.5 + (b.sinh() * 0.5 + a.sinh() * 1.5) / math.sinh(1 / 0.4)
    variance = 2 * (1 - (-2 * a).exp()) * (1 - (-2 * b).exp()) / -math.expm1(-2 / 0.4)
    torch.testing.assert_close(kriging.mean, mean, rtol=1e-12, atol=1e-12)
    got = kriging.covariance.diagonal()
    torch.testing.assert_close(got, variance, rtol=1e-12, atol=1e-12)


def test_kriging_equals_conditioning_the_joint_precision_matrix():
    # the conditional covariance is the inverse of the free block of the joint precision
    points, model = points_in_square(40, seed=1), Covariance("matern32", 1.5, 0.3, 0.2)
    y = torch.randn(15, generator=torch.Generator().manual_seed(2), dtype=F64)
    precision = torch.linalg.inv(covariance_matrix(points, points, model))
    covariance = torch.linalg.inv(precision[15:, 15:])
    mean = 3.0 - covariance @ precision[15:, :15] @ (y - 3.0)
    kriging = krige(points[15:], points[:15], y, model, mean=3.0)
    torch.testing.assert_close(kriging.mean, mean, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(kriging.covariance, covariance, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("nugget", [0.0, 0.5])
@pytest.mark.parametrize("kernel", ["matern12", "matern52", "squared_exponential"])
def test_kriging_honours_observed_values_with_zero_variance(kernel, nugget):
    points = points_in_square(80, seed=3)
    y = torch.randn(30, generator=torch.Generator().manual_seed(4), dtype=F64)
    model = Covariance(kernel, 1.0, 0.2, nugget)
    kriging = krige(points, points[:30], y, model, mean=0.3)
    assert torch.equal(kriging.mean[:30], y)
    assert torch.count_nonzero(kriging.covariance[:30]) == 0
    assert torch.count_nonzero(kriging.covariance[:, :30]) == 0
    assert float(kriging.covariance.diagonal()[30:].min()) > nugget


def test_observed_values_hold_before_round_off_is_removed():
    # a point one part in 1e9 away is another location, and the smooth part is pinned
    points = points_in_square(20, seed=5)
    y = torch.randn(20, generator=torch.Generator().manual_seed(6), dtype=F64)
    near = krige(points + 1e-9, points, y, Covariance("matern52", 1.0, 0.2), mean=0.0)
    torch.testing.assert_close(near.mean, y, rtol=0, atol=1e-6)
    assert float(near.covariance.abs().max()) < 1e-12


def test_far_from_data_kriging_returns_the_prior_with_its_nugget():
    observed, far = points_in_square(10, seed=7), points_in_square(5, seed=8) + 100
    model = Covariance("matern52", 2.0, 0.2, nugget=0.5)
    kriging = krige(far, observed, torch.ones(10, dtype=F64), model, mean=-1.0)
    torch.testing.assert_close(kriging.mean, -torch.ones(5, dtype=F64))
    torch.testing.assert_close(kriging.covariance, covariance_matrix(far, far, model))


@pytest.mark.parametrize("kernel", ["matern52", "squared_exponential"])
def test_posterior_is_symmetric_and_semidefinite_even_for_crowded_data(kernel):
    points = points_in_square(200, seed=9)
    y = torch.randn(120, generator=torch.Generator().manual_seed(10), dtype=F64)
    model = Covariance(kernel, 2.0, 0.5)
    posterior = krige(points, points[:120], y, model, mean=0.0).covariance
    assert torch.equal(posterior, posterior.mT)
    # eps times the norm of the prior, 2 x 200, is 9e-14
    assert float(torch.linalg.eigvalsh(posterior)[0]) > -1e-13


def test_gradients_flow_to_the_observed_values():
    points, model = points_in_square(12, seed=13), Covariance("matern32", 1.0, 0.3, 0.1)
    y = torch.randn(6, generator=torch.Generator().manual_seed(14), dtype=F64)
    assert torch.autograd.gradcheck(
        lambda v: krige(points, points[:6], v, model, 0.2).mean, y.requires_grad_()
    )


def test_members_of_the_conditional_field_have_the_kriging_moments():
    points = points_in_square(90, seed=15)
    y = torch.randn(25, generator=torch.Generator().manual_seed(16), dtype=F64)
    kriging = krige(points, points[:25], y, Covariance("matern52", 1.0, 0.2), mean=0.0)
    expansion = karhunen_loeve(kriging.mean, kriging.covariance)
    n = 4000
    xi = sample_members(expansion, seed=1, members=range(n))
    fields = fields_from_coordinates(expansion, xi)
    torch.testing.assert_close(fields[:, :25], y.expand(n, 25), rtol=0, atol=1e-10)
    free, variance = fields[:, 25:], kriging.covariance.diagonal()[25:]
    z_mean = (free.mean(0) - kriging.mean[25:]) / (variance / n).sqrt()
    z_variance = (free.var(0) / variance - 1) / math.sqrt(2 / (n - 1))
    # 65 correlated cells each: one of 130 normal scores is beyond 4.5 once in 1100 runs
    assert float(z_mean.abs().max()) < 4.5
    assert float(z_variance.abs().max()) < 4.5


def test_log_likelihood_equals_scipy(simulated):
    points, values = simulated[0][:50], simulated[1][:50]
    covariance = covariance_matrix(points, points, TRUTH).numpy()
    oracle = multivariate_normal([6.5] * 50, covariance).logpdf(values.numpy())
    got = log_likelihood(points, values, TRUTH, 6.5)
    assert got == pytest.approx(oracle, rel=1e-11)


def standard_errors(points, model):
    """Of (ln s2, ln l, ln nugget): inverse Fisher information 1/2 tr(C' C'), whitened.

    The standard result for Gaussian likelihoods, here with central differences.
    """
    inverse = torch.linalg.inv(covariance_matrix(points, points, model))
    slopes = []
    for axis in range(3):
        up, down = (shifted(model, axis, step) for step in (1e-4, -1e-4))
        rise = covariance_matrix(points, points, up)
        slopes.append((rise - covariance_matrix(points, points, down)) / 2e-4)
    whitened = [inverse @ slope for slope in slopes]
    information = torch.tensor(
        [[0.5 * (a * b.T).sum() for a in whitened] for b in whitened]
    )
    return torch.linalg.inv(information).diagonal().sqrt().tolist()


def shifted(model, axis, step):
    """The model with ln s2, ln l or ln nugget changed by `step`."""
    values = [model.variance, model.correlation_length, model.nugget]
    values[axis] *= math.exp(step)
    return Covariance(model.kernel, *values)


def test_fit_recovers_a_simulated_field_within_three_standard_errors(simulated):
    fit = fit_covariance(*simulated)
    got, truth = fit.covariance, TRUTH
    misfits = (
        math.log(got.variance / truth.variance),
        math.log(got.correlation_length / truth.correlation_length),
        math.log(got.nugget / truth.nugget),
    )
    errors = standard_errors(simulated[0], truth)
    assert all(error < 0.5 for error in errors), "the field must be informative"
    for misfit, error in zip(misfits, errors, strict=True):
        assert abs(misfit) < 3 * error
    assert fit.log_likelihood == log_likelihood(*simulated, got, fit.mean)
    assert fit.log_likelihood > log_likelihood(*simulated, truth, TRUE_MEAN)
    inverse = torch.linalg.inv(covariance_matrix(simulated[0], simulated[0], truth))
    assert abs(fit.mean - TRUE_MEAN) < 3 / math.sqrt(float(inverse.sum()))


@pytest.mark.parametrize("kernel", ["matern12", "matern32", "matern52"])
def test_gradient_of_the_log_likelihood_vanishes_at_the_fit(simulated, kernel):
    points, values = simulated
    fit = fit_covariance(points, values, kernel)
    step = 1e-4

    def slope(up, down, mean_up=0.0):
        rise = log_likelihood(points, values, up, fit.mean + mean_up)
        return (rise - log_likelihood(points, values, down, fit.mean - mean_up)) / (
            2 * step
        )

    here = fit.covariance
    slopes = [
        slope(shifted(here, axis, step), shifted(here, axis, -step))
        for axis in range(3)
    ]
    slopes.append(slope(here, here, mean_up=step))
    # one standard error away a slope is of order one and more
    assert max(map(abs, slopes)) < 5e-3, slopes


def test_fit_follows_units_of_field_and_coordinates(simulated):
    points, values = simulated[0][:100], simulated[1][:100]
    fit = fit_covariance(points, values)
    other = fit_covariance(60000 * points, 1e-5 * values)
    got, expected = other.covariance, fit.covariance
    scaled = 6e4 * expected.correlation_length
    assert got.correlation_length == pytest.approx(scaled, rel=1e-3)
    assert got.variance == pytest.approx(1e-10 * expected.variance, rel=1e-3)
    assert other.mean == pytest.approx(1e-5 * fit.mean, rel=1e-4)


def test_fit_of_white_noise_finds_no_correlation_between_points(simulated):
    noise = torch.randn(300, generator=torch.Generator().manual_seed(17), dtype=F64)
    got = fit_covariance(simulated[0], noise).covariance
    # 300 values: the standard error of a variance is sqrt(2/300) = 0.08
    assert got.variance + got.nugget == pytest.approx(1.0, abs=0.25)
    apart = covariance_matrix(torch.zeros(1, 1), torch.full((1, 1), 0.1), got)
    assert float(apart) < 0.25


def test_hanford_fits_lie_in_the_published_ranges(hanford):
    # hanford/README.md section 6; its ranges are those of the first five sets
    for cells in hanford.sets[100][:5]:
        fit = fit_covariance(hanford.points[cells], hanford.values[cells])
        assert 2.45 < fit.covariance.variance < 3.35
        assert 0.0345 < fit.covariance.correlation_length < 0.0475
        assert fit.covariance.nugget < 0.325


@pytest.mark.parametrize(("n", "published"), [(50, 1.25), (100, 1.03)])
def test_hanford_kriging_error_equals_the_published_anchor(hanford, n, published):
    # hanford/README.md section 8, row kriging: mean over the ten published sets
    errors = []
    for cells in hanford.sets[n]:
        x, y = hanford.points[cells], hanford.values[cells]
        fit = fit_covariance(x, y)
        kriging = krige(hanford.points, x, y, fit.covariance, fit.mean)
        errors.append(float((kriging.mean - hanford.values).square().mean().sqrt()))
    assert sum(errors) / len(errors) == pytest.approx(published, abs=0.02)


@pytest.mark.parametrize("shift", [0.0, float("nan"), float("inf")])
def test_duplicate_and_non_finite_observations_are_refused(simulated, shift):
    points, values = simulated[0][:10].clone(), simulated[1][:10].clone()
    if shift == 0.0:
        points[7], message = points[2], r"distinct; got .* at indices 2 and 7 \(1 such"
    else:
        values[4], message = shift, f"finite; got {shift} at index 4"
    with pytest.raises(ValueError, match=message):
        krige(simulated[0], points, values, TRUTH, 0.0)
    with pytest.raises(ValueError, match=message):
        fit_covariance(points, values)
    with pytest.raises(ValueError, match=message):
        log_likelihood(points, values, TRUTH, 0.0)


def test_kriging_refuses_wrong_shapes_and_an_infinite_mean(simulated):
    points, values = simulated[0][:10], simulated[1][:9]
    with pytest.raises(ValueError, match=r"shape \(10,\), one per point; got \(9,\)"):
        krige(points, points, values, TRUTH, 0.0)
    with pytest.raises(ValueError, match="mean must be finite; got inf"):
        krige(points, points[:9], values, TRUTH, float("inf"))
    with pytest.raises(ValueError, match="same number of coordinates"):
        krige(points[:, :1], points[:9], values, TRUTH, 0.0)


def test_fit_refuses_too_few_or_constant_values(simulated):
    points, values = simulated
    with pytest.raises(ValueError, match="4 or more values that differ; got 3"):
        fit_covariance(points[:3], values[:3])
    with pytest.raises(ValueError, match=r"got 9 from 2\.0 to 2\.0"):
        fit_covariance(points[:9], torch.full((9,), 2.0, dtype=F64))


def test_generalised_mean_is_where_the_likelihood_is_largest():
    generator = torch.Generator().manual_seed(4)
    points = torch.rand(30, 2, generator=generator, dtype=torch.float64)
    values = torch.randn(30, generator=generator, dtype=torch.float64)
    model = Covariance("matern32", variance=1.3, correlation_length=0.4, nugget=0.1)
    mean = generalised_mean(points, values, model)
    best = log_likelihood(points, values, model, mean)
    # the log-likelihood is an exact parabola in the mean
    above, below = (
        log_likelihood(points, values, model, mean + d) for d in (0.1, -0.1)
    )
    assert above < best > below
    assert above == pytest.approx(below, rel=1e-10)
