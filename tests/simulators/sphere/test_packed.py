"""The packed transform against the plain one."""

import math

import pytest
import torch

from simulators.sphere import SphericalHarmonics, gauss_grid, gauss_grid_for
from simulators.sphere.packed import PARTS, PackedTransform, mirror


def random_coefficients(truncation, *batch):
    generator = torch.Generator().manual_seed(2)
    shape = (*batch, truncation + 1, truncation + 1, 2)
    values = torch.randn(*shape, generator=generator, dtype=torch.float64)
    coefficients = torch.view_as_complex(values).tril()
    coefficients[..., 0].imag.zero_()
    return coefficients


@pytest.mark.parametrize("truncation", [2, 5, 21, 42, 63])
def test_packing_keeps_every_bit(truncation):
    packed = PackedTransform(gauss_grid_for(truncation), truncation)
    coefficients = random_coefficients(truncation, 2, 3)
    rows = packed.pack(coefficients)
    assert rows.shape == (packed.n_rows, 2, 3)
    assert torch.equal(packed.unpack(rows), coefficients)


@pytest.mark.parametrize("truncation", [2, 5, 21, 42, 63])
def test_points_are_those_of_the_plain_transform(truncation):
    """The plain transform of the field turned by half a cell of longitude."""
    grid = gauss_grid_for(truncation)
    packed = PackedTransform(grid, truncation)
    coefficients = random_coefficients(truncation, 3)
    points = mirror(packed.synthesise(packed.pack(coefficients)))
    m = torch.arange(truncation + 1, dtype=torch.float64)
    turned = coefficients * torch.exp(1j * m * math.pi / grid.shape[1])
    field = SphericalHarmonics(grid, truncation).synthesise(turned)
    n_lon, n_lat = packed.shape
    for (shifted, reflected, south), got in zip(PARTS, points, strict=True):
        image = field.roll(-2 * n_lon if shifted else 0, dims=-1)
        image = image.flip(-1) if reflected else image
        # reflecting after a shift by pi is reflecting and then shifting by pi
        image = image.flip(-2) if south else image
        expected = image[..., :n_lat, :n_lon].permute(2, 1, 0)
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("truncation", [2, 5, 21, 42, 63])
def test_round_trip_is_exact(truncation):
    packed = PackedTransform(gauss_grid_for(truncation), truncation)
    rows = packed.pack(random_coefficients(truncation, 3))
    again = packed.analyse(mirror(mirror(packed.synthesise(rows))) / 8)
    torch.testing.assert_close(again, rows / 8, rtol=0, atol=1e-12)


def test_images_are_where_the_points_are():
    grid = gauss_grid_for(21)
    packed, plain = PackedTransform(grid, 21), SphericalHarmonics(grid, 21)

    def field(longitude, latitude):
        x = latitude.cos() * torch.cos(longitude - 0.4)
        return x * (1 + 3 * latitude.sin()) + latitude.sin()

    values = field(grid.longitude, grid.latitude[:, None])
    points = mirror(packed.synthesise(packed.pack(plain.analyse(values))[:, None]))
    cosine, images = packed.images()
    torch.testing.assert_close(cosine, images[0][1].cos())
    for got, (longitude, latitude) in zip(points, images, strict=True):
        expected = field(longitude, latitude)
        torch.testing.assert_close(got[..., 0], expected, rtol=0, atol=1e-13)


def test_grids_that_cannot_be_mirrored_are_refused():
    with pytest.raises(ValueError, match=r"multiples of 4; got 32 x 66"):
        PackedTransform(gauss_grid(32, 66), 10)
    with pytest.raises(ValueError, match=r"multiples of 2 .* got 31 x 64"):
        PackedTransform(gauss_grid(31, 64), 10)
