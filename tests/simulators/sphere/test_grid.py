"""Quadrature of the grids, and truncations that alias."""

import math

import pytest
import torch

from simulators.sphere import (
    check_dealiasing,
    equiangular_grid,
    gauss_grid,
    gauss_grid_for,
)


@pytest.mark.parametrize("grid", [gauss_grid(32, 64), equiangular_grid(32, 64)])
def test_quadrature_is_exact_up_to_its_degree(grid):
    mu = grid.latitude.sin()
    for degree in range(grid.exact_degree + 1):
        mean = (grid.weights * mu**degree).sum()
        exact = 0 if degree % 2 else 1 / (degree + 1)
        assert abs(mean - exact) < 1e-14
    beyond = (grid.weights * mu ** (grid.exact_degree + 1)).sum()
    assert abs(beyond - 1 / (grid.exact_degree + 2)) > 1e-20


@pytest.mark.parametrize("grid", [gauss_grid(32, 64), equiangular_grid(32, 64)])
def test_points_run_north_to_south_and_from_zero_east(grid):
    assert (grid.latitude.diff() < 0).all()
    assert torch.equal(grid.latitude, -grid.latitude.flip(0))
    assert grid.longitude[0] == 0
    assert abs(grid.longitude[-1] - 2 * math.pi * 63 / 64) < 1e-14
    assert abs(grid.weights.sum() - 1) < 1e-15


def test_area_mean_keeps_members_apart_and_accumulates_in_float64():
    grid = gauss_grid(32, 64)
    field = torch.stack([torch.full((32, 64), value) for value in (1.0, 1e8 + 8)])
    mean = grid.area_mean(field)
    assert mean.dtype == torch.float64
    torch.testing.assert_close(mean, field[:, 0, 0].double(), rtol=1e-14, atol=0)


def test_usual_truncations_get_their_usual_grid():
    shapes = {t: gauss_grid_for(t).shape for t in (21, 42, 63, 85, 170, 50)}
    assert shapes == {
        21: (32, 64),
        42: (64, 128),
        63: (96, 192),
        85: (128, 256),
        170: (256, 512),
        50: (76, 152),
    }
    for truncation in range(1, 60):
        check_dealiasing(gauss_grid_for(truncation), truncation)


def test_a_truncation_that_aliases_is_refused():
    check_dealiasing(gauss_grid(64, 128), 42)
    with pytest.raises(ValueError, match=r"got T = 43 on a grid of 64 x 128.*T <= 42"):
        check_dealiasing(gauss_grid(64, 128), 43)
    with pytest.raises(ValueError, match=r"Use T <= 21"):
        check_dealiasing(equiangular_grid(64, 128), 42)
    with pytest.raises(ValueError, match="got 0 x 4"):
        gauss_grid(0, 4)
    with pytest.raises(ValueError, match="got 0"):
        gauss_grid_for(0)
