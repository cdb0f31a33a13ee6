"""Spectra, truncations and conservative regridding."""

import pytest
import torch

from simulators.sphere import (
    SphericalHarmonics,
    change_truncation,
    equiangular_grid,
    gauss_grid,
    gauss_grid_for,
    power_spectrum,
    regrid_conservatively,
)


def random_field(*shape):
    generator = torch.Generator().manual_seed(3)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def test_power_spectrum_sums_to_the_mean_square():
    grid = gauss_grid_for(21)
    harmonics = SphericalHarmonics(grid, 21)
    coefficients = harmonics.analyse(random_field(2, 32, 64))
    spectrum = power_spectrum(coefficients)
    mean_square = grid.area_mean(harmonics.synthesise(coefficients) ** 2)
    assert spectrum.shape == (2, 22)
    torch.testing.assert_close(spectrum.sum(-1), mean_square, rtol=1e-13, atol=0)


def test_a_finer_truncation_is_the_same_field():
    coarse = SphericalHarmonics(gauss_grid_for(21), 21)
    fine = SphericalHarmonics(gauss_grid_for(21), 31)
    coefficients = coarse.analyse(random_field(32, 64))
    padded = change_truncation(coefficients, 31)
    torch.testing.assert_close(
        fine.synthesise(padded), coarse.synthesise(coefficients), rtol=0, atol=1e-12
    )
    assert torch.equal(change_truncation(padded, 21), coefficients)
    with pytest.raises(ValueError, match="got -1"):
        change_truncation(coefficients, -1)


@pytest.mark.parametrize(
    "target", [equiangular_grid(18, 36), gauss_grid(48, 100), gauss_grid(7, 3)]
)
def test_regridding_preserves_constants_and_the_mean(target):
    source = gauss_grid(32, 64)
    field = random_field(2, 32, 64)
    result = regrid_conservatively(field, source, target)
    assert result.shape == (2, *target.shape)
    mean = source.area_mean(field)
    torch.testing.assert_close(target.area_mean(result), mean, rtol=0, atol=1e-15)
    constant = regrid_conservatively(torch.full_like(field, 7.0), source, target)
    torch.testing.assert_close(
        constant, torch.full_like(result, 7.0), rtol=1e-15, atol=0
    )
    assert result.min() >= field.min()
    assert result.max() <= field.max()


def test_regridding_keeps_places():
    source, target = gauss_grid(64, 128), equiangular_grid(24, 48)

    def field(grid):
        x = grid.latitude.cos()[:, None] * torch.cos(grid.longitude - 0.3)
        return x + grid.latitude.sin()[:, None]

    error = regrid_conservatively(field(source), source, target) - field(target)
    assert error.abs().max() < 0.03
    with pytest.raises(ValueError, match=r"source grid \(64, 128\)"):
        regrid_conservatively(field(target), source, target)
