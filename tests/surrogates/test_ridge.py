import pytest
import torch

from surrogates.ridge import PENALTIES, fit_ridge, ridge_path


def draws(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def test_a_linear_map_is_recovered():
    x, b = draws(60, 8), draws(8, 20, seed=1)
    ridge = fit_ridge(x, 3.0 + x @ b, [8])
    assert ridge.penalty == PENALTIES[0]
    unseen = draws(10, 8, seed=2)
    error = ridge.predict(unseen) - (3.0 + unseen @ b)
    assert error.abs().max() < 1e-2  # the smallest penalty, 0.01, shrinks by 0.01/60


@pytest.mark.parametrize("n_members", [40, 12])  # more and fewer than coordinates
def test_coefficients_solve_the_penalised_normal_equations(n_members):
    x, h = draws(n_members, 20), draws(n_members, 5, seed=1)
    for ridge in ridge_path(x, h, [0.1, 30.0]):
        centred = x - x.mean(0)
        matrix = centred.mT @ centred + ridge.penalty * torch.eye(20).double()
        expected = torch.linalg.solve(matrix, centred.mT @ (h - h.mean(0)))
        torch.testing.assert_close(ridge.coefficients, expected, rtol=1e-9, atol=1e-12)


def test_noise_is_shrunk_towards_the_mean():
    x, noise = draws(50, 30), draws(50, 4, seed=1)
    ridge = fit_ridge(x, noise, [5, 30])
    centred = x - x.mean(0)
    unpenalised = torch.linalg.lstsq(centred, noise - noise.mean(0)).solution
    assert ridge.coefficients.norm() < 0.5 * unpenalised.norm()


def test_useless_coordinates_are_left_out():
    x = draws(80, 60)
    ridge = fit_ridge(x, x[:, :3] @ draws(3, 10, seed=1), [3, 60])
    assert ridge.n_coordinates == 3


def test_too_few_members_are_refused():
    with pytest.raises(ValueError, match=r"at least 5 members.*got 4 and 4"):
        fit_ridge(draws(4, 2), draws(4, 3), [2])
