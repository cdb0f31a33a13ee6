"""Covariance models against the Bessel form, the nugget's rule, bad input."""

import numpy as np
import pytest
import torch
from scipy.special import gamma, kv

from simulators.random_fields import Covariance, covariance_matrix
from simulators.random_fields.covariance import cholesky_factor

F64 = torch.float64


def line(*x):
    return torch.tensor(x, dtype=F64)[:, None]


@pytest.mark.parametrize(
    ("kernel", "order"), [("matern12", 0.5), ("matern32", 1.5), ("matern52", 2.5)]
)
def test_matern_kernels_equal_the_bessel_form(kernel, order):
    r = np.array([0.01, 0.1, 0.3, 1.0, 4.0])
    a = np.sqrt(2 * order) * r / 0.3
    expected = 2.5 * 2 ** (1 - order) / gamma(order) * a**order * kv(order, a)
    got = covariance_matrix(line(0.0), line(*r), Covariance(kernel, 2.5, 0.3))
    np.testing.assert_allclose(got[0].numpy(), expected, rtol=1e-12)


def test_squared_exponential_is_a_gaussian_of_standard_deviation_l():
    model = Covariance("squared_exponential", 2.0, 0.5)
    got = covariance_matrix(line(0.0), line(0.0, 0.5, 1.0), model)
    expected = 2.0 * torch.exp(-torch.tensor([[0.0, 0.5, 2.0]], dtype=F64))
    torch.testing.assert_close(got, expected, rtol=1e-15, atol=0)


def test_distance_is_euclidean_in_the_plane():
    a, b = torch.zeros(1, 2, dtype=F64), torch.tensor([[3.0, 4.0]], dtype=F64)
    got = covariance_matrix(a, b, Covariance("matern12", 1.0, 5.0))
    assert float(got) == pytest.approx(np.exp(-1), rel=1e-15)


def test_nugget_is_on_the_diagonal_of_one_set_and_nowhere_else():
    points = torch.rand(30, 2, generator=torch.Generator().manual_seed(1), dtype=F64)
    smooth = covariance_matrix(points, points, Covariance("matern32", 1.0, 0.2))
    rough = covariance_matrix(points, points, Covariance("matern32", 1.0, 0.2, 0.5))
    expected = 0.5 * torch.eye(30, dtype=F64)
    torch.testing.assert_close(rough - smooth, expected, rtol=0, atol=1e-15)


def test_nugget_counts_where_a_subset_meets_its_set():
    points = torch.rand(9, 2, generator=torch.Generator().manual_seed(2), dtype=F64)
    model = Covariance("matern52", 1.0, 0.2, nugget=0.5)
    whole = covariance_matrix(points, points, model)
    part = covariance_matrix(points[[7, 2]], points, model)
    torch.testing.assert_close(part, whole[[7, 2]], rtol=0, atol=0)


def test_single_precision_points_give_a_double_precision_matrix():
    points = torch.rand(5, 2, generator=torch.Generator().manual_seed(3))
    got = covariance_matrix(points, points, Covariance("matern52", 1.0, 0.2))
    assert got.dtype == F64
    assert torch.equal(got.diagonal(), torch.ones(5, dtype=F64))


def test_cholesky_adds_no_jitter_to_a_positive_definite_matrix():
    matrix = torch.tensor([[4.0, 1.0], [1.0, 3.0]], dtype=F64)
    factor = cholesky_factor(matrix)
    assert torch.equal(factor, torch.linalg.cholesky(matrix))


def test_cholesky_of_a_singular_covariance_is_off_by_the_stated_jitter():
    x = torch.linspace(0, 1, 60, dtype=F64)[:, None]
    matrix = covariance_matrix(x, x, Covariance("squared_exponential", 3.0, 1.0))
    factor = cholesky_factor(matrix)
    off = float((factor @ factor.mT - matrix).abs().max())
    assert 0 < off <= 3.0 * 1.01e-8


def test_indefinite_matrix_is_refused_with_the_fix():
    with pytest.raises(ValueError, match=r"positive definite.*leading minor 2 of 2"):
        cholesky_factor(torch.tensor([[1.0, 2.0], [2.0, 1.0]], dtype=F64))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("gaussian", 1.0, 1.0), "kernel must be one of matern12, .*'gaussian'"),
        (("matern52", 0.0, 1.0), "variance must be positive"),
        (("matern52", float("nan"), 1.0), "variance must be positive.*nan"),
        (("matern52", 1.0, -2.0), "correlation_length must be positive.*-2"),
        (("matern52", 1.0, float("inf")), "correlation_length must be positive"),
        (("matern52", 1.0, 1.0, -0.1), "nugget must be >= 0.*-0.1"),
    ],
)
def test_impossible_model_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Covariance(*arguments)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (torch.zeros(3), torch.zeros(3, 1), r"points_a must have shape .*\(3,\)"),
        (torch.zeros(3, 1), torch.zeros(0, 1), r"points_b must have shape"),
        (torch.zeros(3, 1), torch.zeros(3, 2), "same number of coordinates; got 1 and"),
        (torch.zeros(2, 1), torch.tensor([[0.0], [float("nan")]]), "nan.* in row 1"),
    ],
)
def test_bad_points_are_refused(a, b, message):
    with pytest.raises(ValueError, match=message):
        covariance_matrix(a, b, Covariance("matern52", 1.0, 1.0))
