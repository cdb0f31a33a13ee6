import pytest
import torch

from simulators.random_fields import karhunen_loeve
from surrogates.pigan.generators import KarhunenLoeveGenerator
from surrogates.pigan.start import snapshot_expansion, start_from_readings

NAME = "log_transmissivity"
CELLS = torch.tensor([3, 28, 55, 71, 96, 119])
TOLERANCE = 2e-5  # float32 maps of variances near 1


def readings_of(n_sensors, seed=0, n=80, scale=1.0):
    """Correlated readings with a covariance unlike the prior's."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(n_sensors, n_sensors, generator=generator)
    noise = torch.randn(n, n_sensors, generator=generator)
    return 2.0 + scale * noise @ mix / n_sensors**0.5


def cells_map(generator):
    """What each latent variable adds to the field (latent, cells)."""
    n = generator.n_latent
    with torch.no_grad():
        generator.curved[-1].weight.zero_()
        fields = generator(torch.cat([torch.zeros(1, n), torch.eye(n)]))[NAME]
    return (fields[1:] - fields[0]).double()


def started(expansion, cells, readings):
    torch.manual_seed(1)
    generator = KarhunenLoeveGenerator({NAME: expansion}, width=4)
    start_from_readings(generator, NAME, cells, readings)
    return generator


def test_the_mean_is_kriged_to_the_mean_of_the_readings(covariance, points):
    mean, readings = 1 + 0.05 * points[:, 0], readings_of(6)
    start = snapshot_expansion(mean, covariance, CELLS, readings, n_terms=120)
    target = readings.double().mean(0)
    torch.testing.assert_close(start.mean[CELLS], target, rtol=0, atol=1e-8)
    # simple kriging, written with an inverse
    weights = covariance[:, CELLS] @ covariance[CELLS][:, CELLS].inverse()
    expected = mean + weights @ (target - mean[CELLS])
    torch.testing.assert_close(start.mean, expected, rtol=0, atol=1e-7)


def test_the_modes_are_those_of_the_prior(covariance, points):
    mean = 1 + 0.05 * points[:, 0]
    start = snapshot_expansion(mean, covariance, CELLS, readings_of(6), n_terms=9)
    prior = karhunen_loeve(mean, covariance, n_terms=9)
    torch.testing.assert_close(start.modes, prior.modes)
    torch.testing.assert_close(start.eigenvalues, prior.eigenvalues)


def test_without_sensors_the_expansion_is_the_prior(covariance, points):
    mean, none = 1 + 0.05 * points[:, 0], torch.empty(0, dtype=torch.int64)
    start = snapshot_expansion(mean, covariance, none, torch.empty(0, 0), n_terms=9)
    assert torch.equal(start.mean, mean)


def test_at_the_sensors_the_law_is_that_of_the_readings(covariance, points):
    expansion = karhunen_loeve(points[:, 0], covariance, n_terms=40)
    readings = readings_of(6)
    rows = cells_map(started(expansion, CELLS, readings))[:, CELLS]
    expected = torch.cov(readings.double().mT)
    torch.testing.assert_close(rows.mT @ rows, expected, rtol=0, atol=TOLERANCE)


def test_what_sensors_do_not_see_keeps_the_scaled_prior(covariance, points):
    expansion = karhunen_loeve(points[:, 0], covariance, n_terms=40)
    readings = readings_of(6, scale=0.7)
    rows = cells_map(started(expansion, CELLS, readings))
    modes = expansion.modes * expansion.eigenvalues.sqrt()
    prior, at_sensors = modes @ modes.mT, modes[CELLS]
    share = torch.cov(readings.double().mT).trace() / prior[CELLS, CELLS].sum()
    # cells given the sensors: the Schur complement of either law
    weights = modes @ torch.linalg.pinv(at_sensors)
    hidden = prior - weights @ prior[CELLS]
    law = rows.mT @ rows
    left = law - weights @ law[CELLS][:, CELLS] @ weights.mT
    torch.testing.assert_close(left, share * hidden, rtol=0, atol=TOLERANCE)


def test_one_sensor_scales_the_prior_and_keeps_its_shape(covariance, points):
    expansion = karhunen_loeve(points[:, 0], covariance, n_terms=20)
    cell, readings = torch.tensor([57]), readings_of(1, scale=1.3)
    rows = cells_map(started(expansion, cell, readings))
    modes = expansion.modes * expansion.eigenvalues.sqrt()
    share = float(readings.var()) / float(modes[57].square().sum())
    expected = share * modes @ modes.mT
    torch.testing.assert_close(rows.mT @ rows, expected, rtol=0, atol=TOLERANCE)


def test_more_sensors_than_modes_give_a_law_that_fits_what_modes_can_show(
    covariance, points
):
    expansion = karhunen_loeve(points[:, 0], covariance, n_terms=4)
    readings = readings_of(6)
    rows = cells_map(started(expansion, CELLS, readings))[:, CELLS]
    at_sensors = (expansion.modes * expansion.eigenvalues.sqrt())[CELLS]
    onto = at_sensors @ torch.linalg.pinv(at_sensors)
    expected = onto @ torch.cov(readings.double().mT) @ onto
    torch.testing.assert_close(rows.mT @ rows, expected, rtol=0, atol=TOLERANCE)


def test_readings_of_the_prior_start_close_to_the_prior(covariance, points):
    # crowded sensors see most modes only just, and their readings scatter
    crowded = torch.tensor([44, 45, 46, 54, 55, 56, 64, 65, 66, 74, 75, 76])
    expansion = karhunen_loeve(points[:, 0], covariance, n_terms=80)
    generator = torch.Generator().manual_seed(0)
    xi = torch.randn(300, 120, generator=generator, dtype=torch.float64)
    readings = (xi @ torch.linalg.cholesky(covariance).mT)[:, crowded]
    rows = cells_map(started(expansion, crowded, readings))
    ratio = rows.square().sum(0) / covariance.diagonal()
    # 300 snapshots know a variance to 8 % (one standard error)
    assert ratio.min() > 0.75
    assert ratio.max() < 1.33


def test_other_fields_start_as_their_prior(covariance, points):
    expansion = karhunen_loeve(points[:, 0], covariance, n_terms=6)
    torch.manual_seed(1)
    both = {"source": expansion, NAME: expansion}
    generator = KarhunenLoeveGenerator(both, width=4)
    start_from_readings(generator, NAME, CELLS, readings_of(6))
    own, other = generator.block(NAME), generator.block("source")
    assert torch.equal(generator.scale[other], torch.ones(6))
    weight = generator.linear.weight.detach()
    assert weight[own, own].abs().max() > 0.1
    for block in (weight[other], weight[:, other]):
        assert block.abs().max() == 0


@pytest.mark.parametrize("seed", [0, 1])
def test_coordinates_mix_by_a_symmetric_positive_root(covariance, points, seed):
    expansion = karhunen_loeve(points[:, 0], covariance, n_terms=12)
    generator = started(expansion, CELLS, readings_of(6, seed))
    root = (generator.linear.weight + generator.scale.diag()).detach()
    torch.testing.assert_close(root, root.mT, rtol=0, atol=1e-5)
    assert torch.linalg.eigvalsh(root.double()).min() > 0
