import numpy as np
import pytest
import torch

from simulators.random_fields import (
    Covariance,
    Kriging,
    covariance_matrix,
    fields_from_coordinates,
    karhunen_loeve,
)
from simulators.subsurface import FlowSolver
from simulators.subsurface.inversion import HEAD_ERROR_M
from surrogates.generative_metrics import robust_spread
from surrogates.sensor_baselines import (
    SnapshotReadings,
    interpolate_statistics,
    invert_snapshots,
)

WELLS = torch.tensor([13, 17, 44, 48, 75, 81, 102, 108])
CELLS = torch.tensor([24, 27, 83])
SENSORS = torch.arange(1, 120, 3)  # of fields with slow statistics
NONE = torch.empty(0, dtype=torch.int64)
N_SNAPSHOTS = 150


@pytest.fixture(scope="module")
def points():
    rows, columns = np.mgrid[:12, :10]
    return torch.tensor(np.stack([rows.ravel(), columns.ravel()], axis=1)).double()


@pytest.fixture(scope="module")
def prior(points):
    kernel = Covariance("matern52", variance=0.5, correlation_length=4.0)
    return Kriging(1 + 0.05 * points[:, 0], covariance_matrix(points, points, kernel))


def draw_fields(prior, n, seed):
    expansion = karhunen_loeve(prior.mean, prior.covariance)
    generator = torch.Generator().manual_seed(seed)
    size = n, len(expansion.eigenvalues)
    xi = torch.randn(size, generator=generator, dtype=torch.float64)
    return fields_from_coordinates(expansion, xi)


@pytest.fixture(scope="module")
def law(points):
    """Mean and deviation that vary slowly over the cells."""
    x, y = points.T
    return 3 + (x / 5).sin() + 0.1 * y, 0.5 + 0.3 * (y / 4).cos() ** 2


@pytest.fixture(scope="module")
def fields(prior, law):
    mean, deviation = law
    standard = (draw_fields(prior, 1000, seed=1) - prior.mean) / 0.5**0.5
    return mean + deviation * standard


@pytest.fixture(scope="module")
def found(points, fields):
    return interpolate_statistics(points, SENSORS, fields[:, SENSORS].float())


def test_statistics_at_sensors_are_those_of_the_readings(found, fields):
    readings = fields[:, SENSORS].float().double()
    # a fitted nugget is variance of the field, not noise: only round-off is left
    for values, expected in (
        (found.mean, readings.mean(0)),
        (found.deviation, readings.std(0)),
        (found.spread, robust_spread(readings)),
    ):
        at_sensors = values[SENSORS]
        torch.testing.assert_close(at_sensors, expected, rtol=1e-5, atol=0)


def test_statistics_elsewhere_beat_their_mean_over_the_sensors(found, law):
    is_unseen = torch.ones(120, dtype=torch.bool)
    is_unseen[SENSORS] = False
    mean, deviation = law
    for name, values, truth in (
        ("mean", found.mean, mean),
        ("deviation", found.deviation, deviation),
        ("spread", found.spread, 0.994 * deviation),
    ):
        error = (values - truth)[is_unseen].square().mean().sqrt()
        guess = values[SENSORS].mean()
        of_guess = (guess - truth)[is_unseen].square().mean().sqrt()
        assert error < 0.4 * of_guess, f"{name}: {error:.4f} of {of_guess:.4f}"


def test_spread_is_robust_and_deviation_is_not(points, fields):
    readings = fields[:, SENSORS].clone()
    usual = interpolate_statistics(points, SENSORS, readings)
    readings[:2] += 100
    wild = interpolate_statistics(points, SENSORS, readings)
    assert (wild.spread / usual.spread).max() < 1.1
    assert (wild.deviation / usual.deviation).min() > 2


@pytest.fixture(scope="module")
def truth(problem, prior):
    """Draws of the prior itself, and their heads read with the error assumed."""
    fields = draw_fields(prior, N_SNAPSHOTS, seed=2)
    head = FlowSolver(problem[0]).solve(fields, problem[1])
    generator = torch.Generator().manual_seed(3)
    error = torch.randn(head.shape, generator=generator, dtype=torch.float64)
    return fields, head + HEAD_ERROR_M * error


@pytest.fixture(scope="module", params=["heads alone", "heads and ln T"])
def cells(request):
    return NONE if request.param == "heads alone" else CELLS


@pytest.fixture(scope="module")
def invert(problem, prior, truth):
    fields, head = truth

    def run(cells, n=N_SNAPSHOTS, seed=4):
        return invert_snapshots(
            FlowSolver(problem[0]),
            problem[1],
            prior,
            SnapshotReadings(cells, fields[:n, cells], WELLS, head[:n, WELLS]),
            torch.Generator().manual_seed(seed),
        )

    return run


@pytest.fixture(scope="module")
def draws(invert, cells):
    return invert(cells)


def test_draws_honour_readings_of_transmissivity(draws, truth, cells):
    assert draws[0].shape == (N_SNAPSHOTS, 120)
    expected = truth[0][:, cells]
    torch.testing.assert_close(draws[0][:, cells], expected, rtol=0, atol=1e-6)


def test_draws_honour_heads_to_their_error(draws, truth):
    misfit = (draws[1] - truth[1])[:, WELLS].square().mean().sqrt()
    # the error added to each reading remains; without it hardly anything would
    assert 0.8 * HEAD_ERROR_M < misfit < 1.3 * HEAD_ERROR_M


def test_heads_are_those_of_the_drawn_fields(draws, problem):
    expected = FlowSolver(problem[0]).solve(draws[0], problem[1])
    torch.testing.assert_close(draws[1], expected)


def assert_standard(z):
    """Posterior draws over data of the prior are draws of the prior: z ~ N(0, 1)."""
    assert z.abs().max() < 4, f"z up to {z.abs().max():.2f}"
    # rms over 120 cells that hold about six independent values
    assert z.square().mean().sqrt() < 1.7, f"rms z {z.square().mean().sqrt():.2f}"


def test_draws_over_all_snapshots_have_the_mean_of_the_prior(draws, prior):
    gap = draws[0].mean(0) - prior.mean
    z = gap / (prior.covariance.diagonal() / N_SNAPSHOTS).sqrt()
    assert_standard(z)


def test_draws_over_all_snapshots_have_the_variance_of_the_prior(draws, prior):
    variance = prior.covariance.diagonal()
    z = (draws[0].var(0) / variance - 1) * (N_SNAPSHOTS / 2) ** 0.5
    assert_standard(z)


def test_draws_are_as_far_from_the_truth_as_from_each_other(
    draws, truth, invert, cells
):
    n = 50
    first, other, true = draws[0][:n], invert(cells, n, seed=5)[0], truth[0][:n]
    from_truth = (first - true).square().mean()
    from_each_other = (first - other).square().mean()
    # given the data, the truth is one more draw; four other seeds gave 0.87 to 1.13
    assert float(from_truth / from_each_other) == pytest.approx(1, abs=0.25)
    # draws that know nothing of the data are 2 * 0.5 apart
    assert from_truth < 0.8


def test_a_draw_depends_on_its_seed_and_snapshot_alone(invert, cells, draws):
    first, again, other = (invert(cells, 3, seed)[0] for seed in (4, 4, 5))
    assert torch.equal(first, again)
    assert torch.equal(first, draws[0][:3])
    assert not torch.equal(first, other)
