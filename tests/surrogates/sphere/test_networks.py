"""What both networks on the sphere must do."""

import pytest
import torch

from simulators.sphere import SphericalHarmonics, equiangular_grid, gauss_grid
from surrogates.sphere import (
    SphericalFourierOperator,
    SphericalUNet,
)

GRID = gauss_grid(16, 32)


def operator(grid, seed=0, dtype=torch.float32, width=12):
    generator = torch.Generator().manual_seed(seed)
    harmonics = SphericalHarmonics(grid, 5, dtype=dtype)
    return SphericalFourierOperator(harmonics, 3, 2, width, 2, generator).to(dtype)


def unet(grid, seed=0, dtype=torch.float32, width=8):
    generator = torch.Generator().manual_seed(seed)
    return SphericalUNet(grid, 3, 2, width, 2, generator).to(dtype)


NETWORKS = pytest.mark.parametrize("build", [operator, unet])


def fields(grid, n_channels=3, dtype=torch.float32, seed=0, batch=2):
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, n_channels, *grid.shape)
    return torch.randn(shape, generator=generator, dtype=dtype)


@NETWORKS
@pytest.mark.parametrize(
    "grid", [GRID, gauss_grid(24, 48), equiangular_grid(12, 24)], ids=str
)
def test_networks_keep_the_grid_and_the_scale(build, grid):
    output = build(grid)(fields(grid))
    assert output.shape == (2, 2, *grid.shape)
    assert output.dtype == torch.float32
    assert 0.1 < output.std() < 10


@NETWORKS
def test_networks_overfit_one_batch(build):
    network, inputs = build(GRID, width=16), fields(GRID)
    harmonics = SphericalHarmonics(GRID, 5, dtype=torch.float32)
    smooth = harmonics.synthesise(harmonics.analyse(inputs))
    target = 2 * (smooth / smooth.std())[:, :2].roll(3, dims=-1)  # of order one
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(100):
        optimizer.zero_grad()
        loss = GRID.area_mean((network(inputs) - target) ** 2).mean()
        loss.backward()
        optimizer.step()
    variance = GRID.area_mean(target**2).mean()
    assert loss < 0.05 * variance


@NETWORKS
@pytest.mark.parametrize("shift", [4, 12, -8])
def test_zonal_shifts_of_the_input_shift_the_output(build, shift):
    network, inputs = build(GRID, dtype=torch.float64), fields(GRID).double()
    shifted = network(inputs.roll(shift, dims=-1))
    expected = network(inputs).roll(shift, dims=-1)
    torch.testing.assert_close(shifted, expected, rtol=0, atol=1e-12)


@NETWORKS
def test_networks_tell_north_from_south(build):
    network, inputs = build(GRID, dtype=torch.float64), fields(GRID).double()
    mirrored = network(inputs.flip(-2)).flip(-2)
    assert (mirrored - network(inputs)).abs().max() > 1e-2


@NETWORKS
def test_a_batch_equals_its_members(build):
    network, inputs = build(GRID, dtype=torch.float64), fields(GRID).double()
    alone = torch.cat([network(member[None]) for member in inputs])
    torch.testing.assert_close(network(inputs), alone, rtol=0, atol=1e-13)


@NETWORKS
def test_weights_come_from_the_generator_alone(build):
    before = torch.get_rng_state()
    first, second, other = (build(GRID, seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert all(
        not torch.equal(first[name], other[name])
        for name in first
        if "bias" not in name
    )


@NETWORKS
def test_weights_load_into_a_network_on_another_grid(build):
    target = build(gauss_grid(24, 48), seed=3)
    target.load_state_dict(build(GRID).state_dict())
    assert target(fields(gauss_grid(24, 48))).isfinite().all()


@NETWORKS
def test_networks_refuse_fields_off_their_grid(build):
    with pytest.raises(ValueError, match="16 x 32"):
        build(GRID)(fields(gauss_grid(16, 34)))
    with pytest.raises(ValueError, match=r"batch, channels"):
        build(GRID)(fields(GRID)[0])
