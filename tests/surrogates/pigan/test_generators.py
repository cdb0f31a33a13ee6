import pytest
import torch

from simulators.random_fields import karhunen_loeve
from surrogates.pigan.generators import (
    MESH_LATENT,
    KarhunenLoeveGenerator,
    MeshGenerator,
    perceptron,
)

NAMES = ("log_transmissivity", "source")


@pytest.fixture
def generator(expansion, covariance, points):
    torch.manual_seed(5)
    source = karhunen_loeve(2 - points[:, 1], 9 * covariance, n_terms=5)
    both = dict(zip(NAMES, (expansion, source), strict=True))
    return KarhunenLoeveGenerator(both, width=8)


def linear_map(generator):
    """Fields of z = 0, and what each latent variable adds (latent, cells), by name."""
    n = generator.n_latent
    with torch.no_grad():
        generator.curved[-1].weight.zero_()  # leaves what is linear in z
        fields = generator(torch.cat([torch.zeros(1, n), torch.eye(n)]))
    return {name: (field[0], field[1:] - field[0]) for name, field in fields.items()}


def test_the_law_before_training_is_that_of_the_expansions(generator):
    for name, (mean, rows) in linear_map(generator).items():
        expansion = generator.expansions[name]
        modes = expansion.modes * expansion.eigenvalues.sqrt()
        torch.testing.assert_close(mean, expansion.mean.float())
        expected = (modes @ modes.mT).float()
        # float32: differences of fields of size 10
        torch.testing.assert_close(rows.mT @ rows, expected, rtol=0, atol=5e-5)


def test_the_perceptron_hardly_matters_before_training(generator):
    z = torch.randn(64, generator.n_latent, generator=torch.Generator().manual_seed(1))
    assert generator.curved(z).abs().max() < 0.01
    assert generator.curved(z).abs().max() > 0


def test_fields_before_training_are_independent_of_each_other(generator):
    parts = linear_map(generator)
    cross = parts[NAMES[0]][1].mT @ parts[NAMES[1]][1]  # (cells, cells)
    assert cross.abs().max() == 0


def test_the_blocks_of_the_fields_follow_each_other(generator):
    assert [generator.block(name) for name in NAMES] == [slice(0, 12), slice(12, 17)]
    assert generator.n_latent == 17
    z = torch.zeros(1, 17)
    moved = z.clone()
    moved[:, generator.block(NAMES[1])] = 1
    with torch.no_grad():
        generator.curved[-1].weight.zero_()
        before, after = generator(z), generator(moved)
    assert torch.equal(before[NAMES[0]], after[NAMES[0]])
    assert not torch.equal(before[NAMES[1]], after[NAMES[1]])


def test_coordinates_of_two_fields_can_learn_to_depend_on_each_other(generator):
    with torch.no_grad():
        generator.linear.weight[generator.block(NAMES[1])] = 0.5
    parts = linear_map(generator)
    assert (parts[NAMES[0]][1].mT @ parts[NAMES[1]][1]).abs().max() > 0.1


@pytest.fixture
def mesh_generator(expansion):
    torch.manual_seed(6)
    means = {NAMES[0]: expansion.mean, NAMES[1]: torch.full((120,), -3.0)}
    return MeshGenerator(means, {NAMES[0]: 0.7, NAMES[1]: 20.0})


def mesh_fields(mesh_generator):
    z = torch.randn(4000, MESH_LATENT, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        return mesh_generator(z)


def test_a_mesh_generator_starts_near_its_means(mesh_generator):
    fields = mesh_fields(mesh_generator)
    for name, deviation in mesh_generator.deviations.items():
        gap = (fields[name].mean(0) - mesh_generator.means[name]) / deviation
        # the mean of SiLU units is a third of their size and weighted at random
        assert gap.square().mean().sqrt() < 0.5, name


def test_a_mesh_generator_starts_with_its_deviations(mesh_generator):
    fields = mesh_fields(mesh_generator)
    for name, deviation in mesh_generator.deviations.items():
        ratio = float(fields[name].std(0).mean()) / deviation
        assert ratio == pytest.approx(1, abs=0.2), name


def test_fields_of_a_mesh_generator_scale_with_their_deviations(mesh_generator):
    fields = mesh_fields(mesh_generator)
    first, second = (
        float(fields[name].std(0).mean()) / deviation
        for name, deviation in mesh_generator.deviations.items()
    )
    # the same network makes both: equal up to the scatter of 120 cells' weights
    assert first == pytest.approx(second, rel=0.05)


def test_the_last_layer_of_a_perceptron_has_the_deviation_asked_for():
    torch.manual_seed(0)
    last = perceptron((3, 50, 200), torch.Generator(), last_deviation=0.2)[-1]
    assert float(last.weight.detach().std()) == pytest.approx(0.2, rel=0.05)
    assert last.bias.detach().abs().max() == 0


@pytest.mark.parametrize("kind", ["generator", "mesh_generator"])
def test_gradients_reach_all_parameters(kind, request):
    model = request.getfixturevalue(kind)
    z = torch.randn(8, model.n_latent, generator=torch.Generator().manual_seed(3))
    sum(field.square().sum() for field in model(z).values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert (parameter.grad != 0).float().mean() > 0.9, name
