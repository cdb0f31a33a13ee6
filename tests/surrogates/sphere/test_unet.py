import pytest
import torch

from simulators.sphere import gauss_grid
from surrogates.sphere import SphericalUNet
from surrogates.sphere.unet import _Convolutions, pad_sphere


def test_padding_continues_a_smooth_scalar_across_poles_and_longitude_zero():
    grid = gauss_grid(16, 32)
    step_lon = grid.longitude[1]
    # one more row on each side, at latitudes beyond the pole, and one more column
    beyond = torch.pi - grid.latitude[:1]
    latitude = torch.cat((beyond, grid.latitude, -beyond))[:, None]
    longitude = torch.cat((-step_lon[None], grid.longitude, grid.longitude[:1]))

    def scalar(latitude, longitude):
        x = latitude.cos() * longitude.cos()
        y = latitude.cos() * longitude.sin()
        return x + 2 * y**3 - x * latitude.sin()

    inner = scalar(grid.latitude[:, None], grid.longitude)
    torch.testing.assert_close(
        pad_sphere(inner), scalar(latitude, longitude), rtol=0, atol=1e-13
    )


def test_convolutions_have_the_gradients_of_their_values():
    layer = _Convolutions(1, 2, torch.Generator().manual_seed(0)).double()
    generator = torch.Generator().manual_seed(1)
    field = torch.randn(1, 1, 4, 6, generator=generator, dtype=torch.float64)
    assert torch.autograd.gradcheck(layer, field.requires_grad_())


def test_an_output_at_a_pole_sees_across_it_and_not_the_other_one():
    grid = gauss_grid(32, 16)
    network = SphericalUNet(grid, 1, 1, 4, 1, torch.Generator().manual_seed(0))
    field = torch.zeros(1, 1, *grid.shape, requires_grad=True)
    network(field)[0, 0, 0, 0].backward()
    assert field.grad[0, 0, 0, 8].abs() > 0
    assert field.grad[0, 0, 16:].abs().max() == 0


@pytest.mark.parametrize("shape", [(12, 32), (16, 24)])
def test_grids_that_cannot_be_halved_are_refused(shape):
    generator = torch.Generator().manual_seed(0)
    with pytest.raises(ValueError, match="multiples of 8 and longitudes"):
        SphericalUNet(gauss_grid(*shape), 1, 1, 4, 3, generator)
