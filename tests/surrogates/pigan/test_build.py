from dataclasses import replace

import pytest
import torch

from simulators.random_fields import Kriging, fit_covariance, karhunen_loeve
from surrogates.pigan.build import PiganShape, build_pigan, readings_of
from surrogates.pigan.generators import KarhunenLoeveGenerator, MeshGenerator
from surrogates.pigan.heads import HEAD, LOG_TRANSMISSIVITY
from surrogates.pigan.sensors import SensorGroup

SHAPE = PiganShape(n_terms=12, n_head_modes=6, width=16)
SEED = 2


@pytest.fixture(scope="session")
def prior(points, covariance):
    """An assumed law with a mean of 0, where the truth has 1 to 1.55."""
    return Kriging(torch.zeros(len(points), dtype=torch.float64), covariance)


@pytest.fixture(scope="session")
def build(problem, prior, data_of, group):
    def run(shape=SHAPE, *, data=None, seed=SEED):
        return build_pigan(*problem, prior, data or data_of(group), shape, seed)

    return run


def symmetric_fields(model, n=400):
    """Fields of latent variables in pairs of opposite sign."""
    z = torch.randn(n, model.n_latent, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return {
            name: field.double() for name, field in model(torch.cat([z, -z])).items()
        }


@pytest.mark.parametrize("generator", ["modes", "mesh"])
@pytest.mark.parametrize("physics", ["solver", "residual", "none"])
def test_each_kind_generates_fields_and_can_be_trained(build, physics, generator):
    model = build(replace(SHAPE, physics=physics, generator=generator))
    kind = {"modes": KarhunenLoeveGenerator, "mesh": MeshGenerator}[generator]
    assert type(model.inputs) is kind
    assert (model.network is None) is (physics == "solver")
    z = torch.randn(3, model.n_latent, generator=torch.Generator().manual_seed(0))
    fields = model(z)
    assert {name: field.shape for name, field in fields.items()} == {
        LOG_TRANSMISSIVITY: (3, 120),
        HEAD: (3, 120),
    }
    fields[HEAD].square().mean().backward()
    for name, parameter in model.named_parameters():
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().max() > 0, name


def test_only_a_residual_network_knows_the_linearised_flow(build, problem):
    known = build(replace(SHAPE, physics="residual"))
    mean = known.inputs.expansions[LOG_TRANSMISSIVITY].mean
    exact = known.flow({LOG_TRANSMISSIVITY: mean})
    torch.testing.assert_close(known.network.constants.mean_head, exact)
    assert known.network.skip.shape == (120, 120)
    assert build(replace(SHAPE, physics="none")).network.skip is None


def test_sizes_are_those_of_the_shape(build):
    model = build(PiganShape("residual", n_terms=9, n_head_modes=5, width=7))
    assert model.n_latent == 9
    assert model.network.basis.shape == (5, 120)
    assert model.inputs.curved[0].out_features == 7
    assert model.network.network[0].out_features == 7


def test_a_head_without_physics_or_sensors_is_refused(build, data_of, group):
    cells = group.cells[LOG_TRANSMISSIVITY]
    data = data_of(SensorGroup({LOG_TRANSMISSIVITY: cells}))
    with pytest.raises(
        ValueError, match=r"4 head sensors or more to learn from; got 0\. Use"
    ):
        build(replace(SHAPE, physics="none"), data=data)
    for physics in ("solver", "residual"):  # which need none
        build(replace(SHAPE, physics=physics), data=data)


@pytest.mark.parametrize("physics", ["solver", "residual", "none"])
def test_the_start_has_the_mean_of_the_readings_at_sensors(
    build, data_of, group, physics
):
    cells, readings = readings_of(data_of(group), LOG_TRANSMISSIVITY)
    target = readings.double().mean(0)
    assert target.min() > 0.8  # the prior's mean is 0
    generated = symmetric_fields(build(replace(SHAPE, physics=physics)))
    # what is linear in the latent cancels in pairs; the rest is small at the start
    mean = generated[LOG_TRANSMISSIVITY].mean(0)[cells]
    torch.testing.assert_close(mean, target, rtol=0, atol=0.01)


def test_a_mesh_generator_is_built_about_the_mean_of_the_readings(
    build, data_of, group
):
    cells, readings = readings_of(data_of(group), LOG_TRANSMISSIVITY)
    mean = build(replace(SHAPE, generator="mesh")).inputs.means[LOG_TRANSMISSIVITY]
    torch.testing.assert_close(
        mean[cells], readings.double().mean(0), rtol=0, atol=1e-6
    )


def test_the_start_has_the_covariance_of_the_readings_at_sensors(build, data_of, group):
    cells, readings = readings_of(data_of(group), LOG_TRANSMISSIVITY)
    generated = symmetric_fields(build(), 4000)[LOG_TRANSMISSIVITY][:, cells]
    expected = torch.cov(readings.double().mT)
    # 4000 pairs know it to 2 % of the variance (one standard error)
    tolerance = 0.08 * float(expected.diagonal().max())
    torch.testing.assert_close(
        torch.cov(generated.mT), expected, rtol=0, atol=tolerance
    )


def test_heads_without_physics_start_from_the_mean_of_their_readings(
    build, data_of, group
):
    wells, readings = readings_of(data_of(group), HEAD)
    model = build(replace(SHAPE, physics="none"))
    mean_head = model.network.constants.mean_head
    # kriging on as smooth a covariance as that of heads loses digits
    torch.testing.assert_close(
        mean_head[wells], readings.double().mean(0), rtol=0, atol=1e-3
    )


def test_heads_without_physics_have_modes_of_the_variance_of_their_readings(
    build, data_of, group, points
):
    wells, readings = readings_of(data_of(group), HEAD)
    model = build(replace(SHAPE, physics="none", n_head_modes=120))
    variance = model.network.constants.basis.square().sum(0)
    expected = readings.double().var(0).mean().expand(120)
    torch.testing.assert_close(variance, expected, rtol=1e-5, atol=0)
    fitted = fit_covariance(points[wells], readings.double().median(0).values)
    assert fitted.covariance.correlation_length > 4.0  # smoother than ln T


def test_a_mesh_generator_starts_with_the_deviation_of_the_readings(
    build, data_of, group
):
    _, readings = readings_of(data_of(group), LOG_TRANSMISSIVITY)
    model = build(replace(SHAPE, generator="mesh"))
    expected = float(readings.var(0).mean().sqrt())
    assert model.inputs.deviations[LOG_TRANSMISSIVITY] == pytest.approx(expected)
    fields = symmetric_fields(model)[LOG_TRANSMISSIVITY]
    assert float(fields.std(0).mean()) == pytest.approx(expected, rel=0.15)


@pytest.mark.parametrize("generator", ["modes", "mesh"])
def test_without_sensors_of_transmissivity_the_start_is_the_prior(
    build, data_of, group, prior, generator
):
    data = data_of(SensorGroup({HEAD: group.cells[HEAD]}))
    model = build(replace(SHAPE, generator=generator), data=data)
    if generator == "mesh":
        assert torch.equal(model.inputs.means[LOG_TRANSMISSIVITY], prior.mean)
        deviation = model.inputs.deviations[LOG_TRANSMISSIVITY]
        assert deviation == pytest.approx(0.5**0.5)  # the fixture's variance
        return
    expected = karhunen_loeve(prior.mean, prior.covariance, n_terms=SHAPE.n_terms)
    expansion = model.inputs.expansions[LOG_TRANSMISSIVITY]
    assert torch.equal(expansion.mean, prior.mean)
    assert torch.equal(expansion.modes, expected.modes)
    assert torch.equal(model.inputs.scale.detach(), torch.ones(SHAPE.n_terms))
    assert model.inputs.linear.weight.abs().max() == 0


@pytest.mark.parametrize("physics", ["solver", "residual", "none"])
def test_the_seed_decides_the_weights(build, physics):
    shape = replace(SHAPE, physics=physics)
    first, again = build(shape).state_dict(), build(shape).state_dict()
    other = build(shape, seed=SEED + 1).state_dict()
    for name, weights in first.items():
        assert torch.equal(weights, again[name]), name
    names = {"inputs.curved.0.weight", "network.network.0.weight"} & set(first)
    assert len(names) == 1 + (physics != "solver")
    for name in names:
        assert not torch.equal(first[name], other[name]), name


def test_the_first_group_that_reads_a_field_tells_its_law(data_of, group):
    wells, cells = group.cells[HEAD], group.cells[LOG_TRANSMISSIVITY]
    data = data_of(
        SensorGroup({HEAD: wells}),
        SensorGroup({HEAD: wells[:2], LOG_TRANSMISSIVITY: cells}),
        SensorGroup({LOG_TRANSMISSIVITY: cells[:1]}),
    )
    where, readings = readings_of(data, LOG_TRANSMISSIVITY)
    assert torch.equal(where, cells)
    assert torch.equal(readings, data.training[1].readings[:, 2:])
    where, readings = readings_of(data, HEAD)
    assert torch.equal(where, wells)
    assert torch.equal(readings, data.training[0].readings)
    where, readings = readings_of(data, "source")
    assert len(where) == 0
    assert readings.numel() == 0
