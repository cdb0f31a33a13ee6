"""Transforms against exact harmonics, and against themselves."""

import math

import numpy as np
import pytest
import torch

from simulators.sphere import (
    EARTH_RADIUS,
    SphericalHarmonics,
    equiangular_grid,
    gauss_grid,
    gauss_grid_for,
)
from simulators.sphere.legendre import legendre_functions


def random_coefficients(truncation, *batch, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (*batch, truncation + 1, truncation + 1)
    values = torch.randn(*shape, 2, generator=generator, dtype=torch.float64)
    coefficients = torch.view_as_complex(values).tril()
    coefficients[..., 0].imag.zero_()
    return coefficients


def without_mean(coefficients):
    coefficients[..., 0, 0] = 0
    return coefficients


def table_error(accuracy):
    """An accuracy, or what is left of it where `numpy.longdouble` is float64."""
    is_extended = np.finfo(np.longdouble).eps < np.finfo(np.float64).eps
    return accuracy if is_extended else 50 * accuracy


def y_3_2(grid):
    """P_32 cos(2 lambda), its east and north derivative on the unit sphere."""
    norm = math.sqrt(105 / 16)
    mu, c = grid.latitude.sin()[:, None], grid.latitude.cos()[:, None]
    lam = grid.longitude
    value = norm * mu * c**2 * torch.cos(2 * lam)
    east = norm * mu * c * -2 * torch.sin(2 * lam)
    north = norm * (c**2 - 2 * mu**2) * c * torch.cos(2 * lam)
    return value, east, north


@pytest.mark.parametrize("truncation", [21, 42, 85])
def test_legendre_functions_are_orthonormal(truncation):
    grid = gauss_grid_for(truncation)
    table = legendre_functions(grid.latitude, truncation, truncation)
    products = torch.einsum("lmj,kmj,j->mlk", table, table, 2 * grid.weights)
    l = torch.arange(truncation + 1)
    expected = torch.diag_embed((l >= l[:, None]).double())
    # 1e-15 in extended precision; 4e-13 at T85 where tables are made in float64
    torch.testing.assert_close(products, expected, rtol=0, atol=table_error(1e-14))


@pytest.mark.parametrize(
    "grid", [gauss_grid_for(42), equiangular_grid(86, 90), gauss_grid(44, 86)]
)
def test_round_trip_is_exact(grid):
    harmonics = SphericalHarmonics(grid, 42)
    coefficients = random_coefficients(42, 2, 3)
    again = harmonics.analyse(harmonics.synthesise(coefficients))
    torch.testing.assert_close(again, coefficients, rtol=0, atol=1e-12)


def test_a_constant_has_one_coefficient():
    harmonics = SphericalHarmonics(gauss_grid_for(21), 21)
    field = torch.full((32, 64), 5.0, dtype=torch.float64)
    expected = torch.zeros(22, 22, dtype=torch.complex128)
    expected[0, 0] = math.sqrt(2) * 5
    torch.testing.assert_close(harmonics.analyse(field), expected, rtol=0, atol=1e-13)


def test_one_harmonic_and_its_gradient_are_exact():
    grid = gauss_grid_for(21)
    harmonics = SphericalHarmonics(grid, 21)
    value, east, north = y_3_2(grid)
    coefficients = harmonics.analyse(value)
    expected = torch.zeros_like(coefficients)
    expected[3, 2] = 0.5
    torch.testing.assert_close(coefficients, expected, rtol=0, atol=1e-14)
    for got, exact in zip(harmonics.gradient(expected), (east, north), strict=True):
        torch.testing.assert_close(got * EARTH_RADIUS, exact, rtol=0, atol=1e-13)


def test_wind_of_one_harmonic_is_exact():
    grid = gauss_grid_for(21)
    harmonics = SphericalHarmonics(grid, 21, radius=1.0)
    _, east, north = y_3_2(grid)
    potential = torch.zeros(22, 22, dtype=torch.complex128)
    potential[3, 2] = 0.5
    source, none = harmonics.laplacian(potential), torch.zeros_like(potential)
    for vorticity, divergence, expected in (
        (source, none, (-north, east)),
        (none, source, (east, north)),
    ):
        wind = harmonics.wind(vorticity, divergence)
        torch.testing.assert_close(wind, expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("truncation", [42, 63, 85])
def test_wind_round_trip_is_exact(truncation):
    """In m/s, for winds of 80 to 130 m/s with all waves."""
    harmonics = SphericalHarmonics(gauss_grid_for(truncation), truncation)
    l = torch.arange(truncation + 1, dtype=torch.float64)[:, None]
    source = without_mean(random_coefficients(truncation, 2) * 1e-5 / (1 + l))
    u, v = harmonics.wind(source[0], source[1])
    assert u.abs().max() > 60
    again = harmonics.wind(*harmonics.vorticity_divergence(u, v))
    # 2e-13, 5e-13 and 7e-13: 3 to 8e-15 of the largest wind
    torch.testing.assert_close(again, (u, v), rtol=0, atol=table_error(1e-12))


def test_laplacian_is_inverted_but_for_the_mean():
    harmonics = SphericalHarmonics(gauss_grid_for(21), 21)
    coefficients = without_mean(random_coefficients(21))
    again = harmonics.inverse_laplacian(harmonics.laplacian(coefficients))
    torch.testing.assert_close(again, coefficients, rtol=1e-14, atol=0)
    assert harmonics.inverse_laplacian(random_coefficients(21))[0, 0] == 0


def test_float32_agrees_with_float64():
    grid = gauss_grid_for(42)
    coefficients = random_coefficients(42)
    field = SphericalHarmonics(grid, 42).synthesise(coefficients)
    single = SphericalHarmonics(grid, 42, dtype=torch.float32)
    got = single.analyse(field.float())
    assert got.dtype == torch.complex64
    assert (got - coefficients).abs().max() < 2e-6 * field.abs().max()


def test_gradients_flow_through_all_transforms():
    harmonics = SphericalHarmonics(gauss_grid(6, 8), 2)
    field = torch.randn(
        2, 6, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    ).requires_grad_()

    def transforms(u, v):
        vorticity, divergence = harmonics.vorticity_divergence(u, v)
        wind = harmonics.wind(vorticity, divergence)
        slope = harmonics.gradient(harmonics.analyse(u * v))
        return (*wind, *slope)

    assert torch.autograd.gradcheck(transforms, (field[0], field[1]))


def test_bad_grids_and_fields_are_refused():
    with pytest.raises(ValueError, match=r"must be even; got 33. Use 34"):
        SphericalHarmonics(gauss_grid(33, 64), 21)
    with pytest.raises(ValueError, match=r"got T = 32 on 32 x 64. Use T <= 31"):
        SphericalHarmonics(gauss_grid(32, 64), 32)
    harmonics = SphericalHarmonics(gauss_grid(32, 64), 21)
    with pytest.raises(ValueError, match=r"grid of the transform, 32 x 64; got"):
        harmonics.analyse(torch.zeros(32, 65, dtype=torch.float64))
    with pytest.raises(TypeError, match=r"dtype=torch\.float32"):
        harmonics.analyse(torch.zeros(32, 64))
    with pytest.raises(ValueError, match=r"must be \(..., 22, 22\)"):
        harmonics.synthesise(torch.zeros(23, 23, dtype=torch.complex128))
    with pytest.raises(TypeError, match="complex128"):
        harmonics.synthesise(torch.zeros(22, 22, dtype=torch.complex64))
