"""Karhunen-Loeve expansions against exact eigenvalues and published term counts."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import brentq

from simulators.random_fields import (
    Covariance,
    coordinates_of,
    covariance_matrix,
    fields_from_coordinates,
    karhunen_loeve,
    krige,
    sample_coordinates,
    sample_members,
)

F64 = torch.float64
# subsurface.md section 2: s2 = L = 1, exponential covariance of correlation length l
LEADING = {
    1.0: (0.738811, 0.138004, 0.045088, 0.021329),
    0.2: (0.330921, 0.209776, 0.123906, 0.075965),
    0.1: (0.187083, 0.156046, 0.121154, 0.091324),
}
TERMS = {1.0: (3, 5, 21), 0.2: (11, 21, 102), 0.1: (21, 41, 204)}  # 90 / 95 / 99 %


def cell_centres(n):
    return ((torch.arange(n, dtype=F64) + 0.5) / n)[:, None]


def exponential_line(length, n):
    """All modes of the exponential covariance on n equal cells of [0, 1]."""
    x = cell_centres(n)
    covariance = covariance_matrix(x, x, Covariance("matern12", 1.0, length))
    return karhunen_loeve(
        torch.zeros(n, dtype=F64),
        covariance,
        weights=torch.full((n,), 1 / n, dtype=F64),
    )


def exact_frequencies(length, n):
    """First n roots w of c = w tan(w/2) and w = -c tan(w/2), one per interval pi."""
    c, roots = 1 / length, []
    for k in range(n):
        low, high = k * math.pi + 1e-12, (k + 1) * math.pi - 1e-12
        if k % 2 == 0:
            roots.append(
                brentq(lambda w: w * math.sin(w / 2) - c * math.cos(w / 2), low, high)
            )
        else:
            roots.append(
                brentq(lambda w: w * math.cos(w / 2) + c * math.sin(w / 2), low, high)
            )
    return np.array(roots)


def exact_eigenvalues(length, n):
    return 2 / length / (exact_frequencies(length, n) ** 2 + 1 / length**2)


def n_terms_for(share, eigenvalues, total):
    return int(np.count_nonzero(np.cumsum(eigenvalues) < share * total)) + 1


@pytest.mark.parametrize("length", LEADING)
def test_leading_eigenvalues_of_the_exponential_covariance(length):
    got = exponential_line(length, 1000).eigenvalues[:4].numpy()
    # the table has six digits; midpoint cells add (h/l)^2 of 1e-5 at most
    np.testing.assert_allclose(got, LEADING[length], rtol=3e-5)


@pytest.mark.parametrize("length", LEADING)
def test_eigenvalues_converge_to_the_exact_ones_with_order_two(length):
    exact = exact_eigenvalues(length, 6)
    errors = [
        np.abs(exponential_line(length, n).eigenvalues[:6].numpy() - exact).max()
        for n in (100, 200, 400)
    ]
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert np.all(np.abs(orders - 2) < 0.1), f"expected order 2; observed {orders}"


@pytest.mark.parametrize("length", LEADING)
def test_leading_modes_are_the_exact_cosines_and_sines(length):
    expansion, x = exponential_line(length, 400), cell_centres(400)[:, 0] - 0.5
    even, odd = exact_frequencies(length, 2)
    for k, shape in enumerate((torch.cos(even * x), torch.sin(odd * x))):
        unit = shape / shape.square().mean().sqrt()
        mode = expansion.modes[:, k]
        expected = unit * torch.sign((unit * mode).sum())
        torch.testing.assert_close(mode, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("length", TERMS)
def test_number_of_terms_for_a_share_of_the_exponential_variance(length):
    expansion = exponential_line(length, 1000)
    covariance = (expansion.modes * expansion.eigenvalues) @ expansion.modes.mT
    for share, expected in zip((0.90, 0.95), TERMS[length], strict=False):
        cut = karhunen_loeve(
            expansion.mean, covariance, variance_share=share, weights=expansion.weights
        )
        assert len(cut.eigenvalues) == expected
        assert cut.captured_share >= share
        assert cut.captured_share - float(cut.eigenvalues[-1]) < share


def test_number_of_terms_for_99_percent_nears_the_exact_one():
    # the tail of n cells holds the variance of all higher modes, which shortens the
    # count by O(1/n): 181, 197, 202 of 204 terms on 500, 1000, 2000 cells at l = 0.1
    assert [n_terms_for(0.99, exact_eigenvalues(l, 400), 1) for l in TERMS] == [
        terms[2] for terms in TERMS.values()
    ]
    coarse, fine = (exponential_line(0.1, n).eigenvalues.numpy() for n in (500, 1000))
    shortfall = [204 - n_terms_for(0.99, values, 1) for values in (coarse, fine)]
    assert 0 < 2 * shortfall[1] < shortfall[0] < 25
    nearly = exponential_line(0.2, 1000).eigenvalues.numpy()
    assert n_terms_for(0.99, nearly, 1) in {101, 102}
    assert n_terms_for(0.99, exponential_line(1.0, 1000).eigenvalues.numpy(), 1) == 21


@pytest.fixture(scope="module")
def separable_plane():
    """Expansion of exp(-|dx| - |dy|) on 30 x 30 cells, and that of one axis."""
    line = covariance_matrix(
        cell_centres(30), cell_centres(30), Covariance("matern12", 1.0, 1.0)
    )
    weights = torch.full((900,), 1 / 900, dtype=F64)
    plane = torch.kron(line, line)
    expansion = karhunen_loeve(torch.zeros(900, dtype=F64), plane, weights=weights)
    return expansion, exponential_line(1.0, 30)


def test_separable_covariance_has_products_of_eigenvalues(separable_plane):
    plane, axis = separable_plane
    products = torch.outer(axis.eigenvalues, axis.eigenvalues).flatten()
    expected = products.sort(descending=True).values
    torch.testing.assert_close(plane.eigenvalues, expected, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize(
    ("length", "leading", "terms"),
    [
        (1.0, (0.545841, 0.101959, 0.101959, 0.033312), (13, 33)),
        (0.2, (0.109508, 0.069419, 0.069419, 0.044006), (217, 607)),
        (0.1, (0.035000, 0.029193, 0.029193, 0.024350), (825, 2335)),
    ],
)
def test_products_of_line_eigenvalues_are_the_published_plane_ones(
    length, leading, terms
):
    # subsurface.md section 2, separable covariance on the unit square
    line = exponential_line(length, 1000).eigenvalues
    products = torch.outer(line, line).flatten().sort(descending=True).values.numpy()
    np.testing.assert_allclose(products[:4], leading, rtol=6e-5)
    counts = [n_terms_for(share, products, 1) for share in (0.90, 0.95)]
    # 1000 cells lack the highest modes: 2312 of 2335 terms at l = 0.1, 606 of 607
    # at 0.2, none short at 1
    np.testing.assert_allclose(counts, terms, rtol=0.012)


@pytest.fixture(scope="module")
def plane():
    """A Matern-5/2 field on 60 scattered cells of unequal volume, 98 % of variance."""
    generator = torch.Generator().manual_seed(21)
    points = torch.rand(60, 2, generator=generator, dtype=F64)
    volumes = 0.5 + torch.rand(60, generator=generator, dtype=F64)
    covariance = covariance_matrix(points, points, Covariance("matern52", 2.0, 0.3))
    mean = torch.linspace(-1, 1, 60, dtype=F64)
    expansion = karhunen_loeve(mean, covariance, variance_share=0.98, weights=volumes)
    return expansion, covariance


def test_modes_are_orthonormal_under_the_volumes(plane):
    modes, w = plane[0].modes, plane[0].weights
    gram = modes.mT @ (w[:, None] * modes)
    torch.testing.assert_close(
        gram, torch.eye(len(gram), dtype=F64), rtol=0, atol=1e-13
    )


def test_modes_solve_the_weighted_eigenproblem(plane):
    expansion, covariance = plane
    left = covariance @ (expansion.weights[:, None] * expansion.modes)
    right = expansion.modes * expansion.eigenvalues
    torch.testing.assert_close(left, right, rtol=0, atol=1e-12)


def test_all_modes_together_restore_the_covariance(plane):
    expansion, covariance = plane
    whole = karhunen_loeve(expansion.mean, covariance, weights=expansion.weights)
    restored = (whole.modes * whole.eigenvalues) @ whole.modes.mT
    torch.testing.assert_close(restored, covariance, rtol=0, atol=1e-12)
    assert whole.captured_share == pytest.approx(1.0, abs=1e-13)
    weighted = float((expansion.weights * covariance.diagonal()).sum())
    assert whole.total_variance == pytest.approx(weighted, rel=1e-13)


def test_n_terms_and_variance_share_cut_the_same_expansion(plane):
    expansion, covariance = plane
    k = len(expansion.eigenvalues)
    cut = karhunen_loeve(
        expansion.mean, covariance, n_terms=k, weights=expansion.weights
    )
    assert torch.equal(cut.modes, expansion.modes)
    assert 0.98 <= expansion.captured_share < 1
    one_less = expansion.captured_share - float(
        expansion.eigenvalues[-1] / expansion.total_variance
    )
    assert one_less < 0.98


def test_eigenvalues_below_round_off_are_dropped():
    x = torch.rand(40, 3, generator=torch.Generator().manual_seed(22), dtype=F64)
    expansion = karhunen_loeve(torch.zeros(40, dtype=F64), x @ x.mT)
    assert len(expansion.eigenvalues) == 3
    assert expansion.captured_share == pytest.approx(1.0, abs=1e-12)
    whole = karhunen_loeve(torch.zeros(40, dtype=F64), x @ x.mT, variance_share=1.0)
    assert len(whole.eigenvalues) == 3


def test_sign_of_a_mode_is_fixed_by_its_first_large_component(plane):
    modes = plane[0].modes * plane[0].weights.sqrt()[:, None]
    for mode in modes.T:
        first = int((mode.abs() >= 0.5 * mode.abs().max()).nonzero()[0])
        assert float(mode[first]) > 0


def test_coordinates_of_a_field_in_the_span_are_those_it_was_made_of(plane):
    expansion = plane[0]
    k = len(expansion.eigenvalues)
    xi = torch.randn(2, 5, k, generator=torch.Generator().manual_seed(23), dtype=F64)
    fields = fields_from_coordinates(expansion, xi)
    assert fields.shape == (2, 5, 60)
    # round-off of a field of order one, over the root of the smallest eigenvalue
    torch.testing.assert_close(
        coordinates_of(expansion, fields), xi, rtol=0, atol=1e-12
    )


def test_projection_leaves_a_remainder_orthogonal_to_the_modes(plane):
    expansion = plane[0]
    field = torch.randn(60, generator=torch.Generator().manual_seed(24), dtype=F64)
    inside = fields_from_coordinates(expansion, coordinates_of(expansion, field))
    remainder = (field - inside) * expansion.weights
    assert float(remainder.abs().max()) > 0.1
    assert float((remainder @ expansion.modes).abs().max()) < 1e-12


def test_fields_of_a_batch_equal_their_members(plane):
    expansion = plane[0]
    xi = sample_members(expansion, seed=2, members=range(6))
    batch = fields_from_coordinates(expansion, xi.reshape(2, 3, -1)).reshape(6, 60)
    for one, field in zip(xi, batch, strict=True):
        torch.testing.assert_close(
            fields_from_coordinates(expansion, one), field, rtol=1e-13, atol=1e-13
        )


def test_gradients_flow_between_fields_and_coordinates(plane):
    expansion, covariance = plane
    cut = karhunen_loeve(expansion.mean, covariance, n_terms=4)
    xi = sample_members(cut, seed=3, members=[0, 1]).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: fields_from_coordinates(cut, x), xi)
    fields = fields_from_coordinates(cut, xi).detach().requires_grad_()
    assert torch.autograd.gradcheck(lambda f: coordinates_of(cut, f), fields)


def test_sample_covariance_is_that_of_the_kept_modes(plane):
    expansion, n = plane[0], 5000
    xi = sample_coordinates(expansion, torch.Generator().manual_seed(25), n)
    anomalies = fields_from_coordinates(expansion, xi) - expansion.mean
    kept = (expansion.modes * expansion.eigenvalues) @ expansion.modes.mT
    sample = anomalies.mT @ anomalies / n
    variance = kept.diagonal()
    error = ((variance[:, None] * variance + kept**2) / n).sqrt()
    # 1830 pairs of cells: the largest normal score is beyond 5 once in 950 runs
    assert float(((sample - kept) / error).abs().max()) < 5


def test_single_precision_coordinates_give_double_precision_fields(plane):
    xi = torch.zeros(3, len(plane[0].eigenvalues))
    fields = fields_from_coordinates(plane[0], xi)
    torch.testing.assert_close(fields, plane[0].mean.expand(3, 60), rtol=0, atol=0)


# hanford/README.md section 6 gives l = 0.0400, rounded from a fit: its counts are those
# of 0.04003 and 0.04004, while 0.0400 itself is one term off in four of the first five
HANFORD = Covariance("matern52", 2.19, 0.04003)


def test_hanford_term_counts_equal_the_published_ones(hanford):
    covariance = covariance_matrix(hanford.points, hanford.points, HANFORD)
    expansion = karhunen_loeve(hanford.values.mean().expand(1475), covariance)
    counts = [
        n_terms_for(share, expansion.eigenvalues.numpy(), expansion.total_variance)
        for share in (0.90, 0.95, 0.98, 0.99, 0.999)
    ]
    assert counts == [99, 149, 238, 328, 827]
    held = float(expansion.eigenvalues[:1000].sum()) / expansion.total_variance
    assert held == pytest.approx(0.99947, abs=1e-5)


def test_hanford_conditional_term_counts_equal_the_published_ones(hanford):
    cells = hanford.sets[100][0]
    x, y = hanford.points[cells], hanford.values[cells]
    kriging = krige(hanford.points, x, y, HANFORD, float(hanford.values.mean()))
    expansion = karhunen_loeve(kriging.mean, kriging.covariance)
    counts = [
        n_terms_for(share, expansion.eigenvalues.numpy(), expansion.total_variance)
        for share in (0.90, 0.95, 0.99, 0.999)
    ]
    assert counts == [139, 216, 491, 1050]
    assert len(expansion.eigenvalues) == 1375, "one mode less per observed cell"
    left = expansion.total_variance / (1475 * HANFORD.variance)
    assert left == pytest.approx(0.28, abs=0.005)
    fields = fields_from_coordinates(expansion, sample_members(expansion, 0, [0, 1]))
    torch.testing.assert_close(fields[:, cells], y.expand(2, 100), rtol=0, atol=1e-9)


ONE, EYE = torch.ones(4, dtype=F64), torch.eye(4, dtype=F64)


@pytest.mark.parametrize(
    ("mean", "covariance", "options", "message"),
    [
        (
            ONE,
            EYE,
            {"variance_share": 0.9, "n_terms": 2},
            "must be absent; got 0.9 and 2",
        ),
        (
            ONE,
            EYE,
            {"variance_share": 0.0},
            r"variance_share must be in \(0, 1\]; got 0",
        ),
        (ONE, EYE, {"variance_share": 90}, r"variance_share must be in .* got 90"),
        (ONE, EYE, {"n_terms": 0}, "n_terms must be 1 to 4, the cells; got 0"),
        (ONE, EYE, {"n_terms": 5}, "n_terms must be 1 to 4, the cells; got 5"),
        (ONE[:3], EYE, {}, r"got \(3,\), \(4, 4\) and \(3,\)"),
        (ONE, EYE, {"weights": ONE[:2]}, r"and \(2,\)"),
        (ONE, EYE, {"weights": -ONE}, "weights must be positive and finite; got -1"),
        (math.nan * ONE, EYE, {}, "mean must be finite; got 4 values"),
        (ONE, EYE * math.inf, {}, "covariance must be finite"),
        (ONE, EYE + EYE.roll(1, 0), {}, "symmetric to 1e-6.*difference of 1.0"),
        (ONE, -EYE, {}, "positive semidefinite and not zero; got eigenvalues"),
        (ONE, 0 * EYE, {}, "positive semidefinite and not zero; got eigenvalues"),
    ],
)
def test_bad_expansions_are_refused(mean, covariance, options, message):
    with pytest.raises(ValueError, match=message):
        karhunen_loeve(mean, covariance, **options)


def test_fields_and_coordinates_of_the_wrong_length_are_refused():
    expansion = karhunen_loeve(ONE, EYE, n_terms=2)
    with pytest.raises(ValueError, match=r"per mode, \(..., 2\); got \(3, 4\)"):
        fields_from_coordinates(expansion, torch.zeros(3, 4))
    with pytest.raises(ValueError, match=r"per cell, \(..., 4\); got \(2,\)"):
        coordinates_of(expansion, torch.zeros(2))
