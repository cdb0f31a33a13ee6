import math

import pytest
import torch

from simulators.sphere import SphericalHarmonics, gauss_grid
from surrogates.sphere import SphericalFourierOperator
from surrogates.sphere.sfno import SpectralConvolution

GRID = gauss_grid(16, 32)
HARMONICS = SphericalHarmonics(GRID, 7, radius=1.0)


def layer(harmonics=HARMONICS, in_channels=2, out_channels=3):
    generator = torch.Generator().manual_seed(0)
    return SpectralConvolution(harmonics, in_channels, out_channels, generator).double()


def fields(grid=GRID, n_channels=2, batch=3):
    generator = torch.Generator().manual_seed(1)
    shape = (batch, n_channels, *grid.shape)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def filtered(field, operation):
    return HARMONICS.synthesise(operation(HARMONICS.analyse(field)))


def turned(coefficients, angle):
    order = torch.arange(coefficients.shape[-1])
    return coefficients * torch.exp(-1j * order.double() * angle)


@pytest.mark.parametrize("angle", [0.3, 2.0])
def test_convolution_commutes_with_any_turn_about_the_polar_axis(angle):
    convolve, field = layer(), filtered(fields(), lambda c: c)
    after = filtered(convolve(field), lambda c: turned(c, angle))
    before = convolve(filtered(field, lambda c: turned(c, angle)))
    torch.testing.assert_close(before, after, rtol=0, atol=1e-12)


def test_convolution_commutes_with_filters_of_the_degree():
    convolve, field = layer(), fields()
    smoothing = torch.exp(-0.1 * torch.arange(8.0).double() ** 2)[:, None]
    for operation in (HARMONICS.laplacian, lambda c: c * smoothing):
        after = filtered(convolve(field), operation)
        before = convolve(filtered(field, operation))
        torch.testing.assert_close(before, after, rtol=1e-12, atol=1e-12)


def test_real_weights_commute_with_exchanging_the_axes():
    convolve = layer()
    with torch.no_grad():
        convolve.weight[..., 1] = 0
    latitude, longitude = GRID.latitude[:, None], GRID.longitude
    x = latitude.cos() * longitude.cos()
    y = latitude.cos() * longitude.sin()
    z = latitude.sin() * torch.ones_like(longitude)

    # x → y → z → x is a rotation by a third of a turn about (1, 1, 1)
    def field(x, y, z):
        return torch.stack((x**3 * y - z + 1, y * z**2 + x * y))[None]

    output, rotated = convolve(field(x, y, z)), convolve(field(y, z, x))
    # values at rotated points come from a least-squares fit of monomials of degree ≤ 4
    powers = [
        (i, j, k)
        for i in range(5)
        for j in range(5 - i)
        for k in range(2)
        if i + j + k <= 4
    ]

    def monomials(x, y, z):
        columns = [x**i * y**j * z**k for i, j, k in powers]
        return torch.stack(columns, dim=-1).reshape(-1, len(powers))

    values = output[0].flatten(1).T
    weights = torch.linalg.lstsq(monomials(x, y, z), values).solution
    expected = (monomials(y, z, x) @ weights).T.reshape(output.shape)
    torch.testing.assert_close(rotated, expected, rtol=0, atol=1e-11)


def test_imaginary_weights_shift_a_zonal_wave_by_a_quarter():
    convolve = layer(in_channels=1, out_channels=1)
    with torch.no_grad():
        convolve.weight.copy_(torch.tensor([0.0, 1.0]).expand_as(convolve.weight))
    amplitude = GRID.latitude.cos()[:, None] ** 2
    wave = amplitude * torch.cos(2 * GRID.longitude)
    shifted = amplitude * torch.cos(2 * GRID.longitude + math.pi / 2)
    torch.testing.assert_close(
        convolve(wave[None, None])[0, 0], shifted, rtol=0, atol=1e-13
    )


def test_convolution_keeps_white_variance():
    wide = layer(in_channels=32, out_channels=16)
    field = filtered(fields(n_channels=32), lambda c: c)
    ratio = wide(field).square().mean() / field.square().mean()
    assert 0.7 < ratio < 1.3


def test_convolution_has_the_gradients_of_its_values():
    harmonics = SphericalHarmonics(gauss_grid(4, 8), 2)
    convolve = layer(harmonics)
    field = fields(harmonics.grid, batch=1).requires_grad_()

    def output(field, weight):
        return torch.func.functional_call(convolve, {"weight": weight}, field)

    assert torch.autograd.gradcheck(output, (field, convolve.weight))


def test_outputs_of_one_network_agree_between_grids():
    # a smooth field: what the nonlinearity aliases is below the tolerance
    outputs = []
    for grid in (gauss_grid(32, 64), gauss_grid(64, 128)):
        harmonics = SphericalHarmonics(grid, 7)
        generator = torch.Generator().manual_seed(0)
        network = SphericalFourierOperator(harmonics, 1, 1, 4, 2, generator).double()
        field = grid.latitude.cos()[:, None] ** 2 * torch.cos(2 * grid.longitude)
        outputs.append(harmonics.analyse(network(field[None, None])))
    torch.testing.assert_close(outputs[0], outputs[1], rtol=0, atol=1e-6)


def test_operator_refuses_another_dtype_than_the_transforms():
    generator = torch.Generator().manual_seed(0)
    network = SphericalFourierOperator(HARMONICS, 2, 1, 4, 1, generator)
    with pytest.raises(TypeError, match="float64"):
        network(fields().float())
