"""A linear correction: what is linear in the waves is found, all else left alone."""

import pytest
import torch

from surrogates.sphere import corrected, fit_linear_correction
from surrogates.sphere.linear_correction import LARGEST_WAVES, wave_ratio

N, DEGREES, ORDERS = 60, 22, 8


@pytest.fixture(scope="module")
def physics():
    """States on a few patterns, and a defect linear in waves and zonal anomaly.

    A zonal flow has two anomalies, each order of wave two patterns of any amplitude,
    from pair to pair over three decades.
    """
    generator = torch.Generator().manual_seed(5)

    def draw(*shape):
        parts = torch.randn(2, *shape, generator=generator, dtype=torch.float64)
        return torch.complex(*parts)

    zonal, anomalies = draw(3, DEGREES).real, draw(2, 3, DEGREES).real
    waves = draw(2, ORDERS, 3, DEGREES)  # of orders from 1
    matrices = draw(3, ORDERS, 3, DEGREES, 3, DEGREES) / 10

    def pairs(n):
        weights = torch.cat((torch.ones(n, 1), draw(n, 2).real / 4), dim=1).double()
        amplitudes = draw(n, 2, ORDERS)
        sizes = 10 ** (-5 + 3 * torch.rand(n, 1, generator=generator)).double()
        wave = torch.einsum("npm,pmcl->nmcl", amplitudes * sizes[:, None], waves)
        before = torch.zeros(n, 3, DEGREES, DEGREES, dtype=torch.complex128)
        before[..., 0] = zonal + torch.einsum("nk,kcl->ncl", weights[:, 1:], anomalies)
        for m in range(1, 1 + ORDERS):
            before[..., m:, m] = wave[:, m - 1, :, m:]
        later = before.clone()
        orders = torch.einsum(
            "nk,ncli,kicldj->ndji",
            weights.to(later.dtype),
            before[..., 1 : 1 + ORDERS],
            matrices.to(later.dtype),
        )
        later[..., 1 : 1 + ORDERS] += torch.tril(orders, diagonal=-1)
        later[..., 1:, 0] *= 1.01
        return before.to(torch.complex64), later.to(torch.complex64)

    return pairs


@pytest.fixture(scope="module")
def correction(physics):
    return fit_linear_correction(torch.clone, *physics(N))


def test_a_defect_that_is_linear_in_the_waves_is_found(physics, correction):
    before, after = physics(20)
    scaled = before.clone()
    scaled[..., 1:] *= 1e-2  # below all that was learned from
    inside = (correction(before) != 0).flatten(1).any(-1)
    assert inside.sum() > 15
    found = corrected(torch.clone, correction)(before)
    for rows, columns in (("zonal", slice(0, 1)), ("waves", slice(1, None))):
        missing = (after - before)[inside][..., columns]
        left = (after - found)[inside][..., columns]
        size = missing.abs().square().sum((1, 2, 3))
        share = left.abs().square().sum((1, 2, 3)) / size
        assert (share < 1e-3).all(), rows
    change = correction(before)[..., 1:]
    torch.testing.assert_close(correction(scaled)[..., 1:], 1e-2 * change)


def test_mass_and_other_means_stay(physics, correction):
    before, _ = physics(5)
    assert (correction(before)[..., 0, :] == 0).all()


def test_large_waves_and_strange_zonal_flows_are_left_alone(physics, correction):
    before, _ = physics(3)
    broken, strange = before.clone(), before.clone()
    broken[..., 1:] *= 2 * LARGEST_WAVES / wave_ratio(broken)[:, None, None, None]
    strange[..., 1:, 0] *= 3
    for state in (broken, strange):
        assert (correction(state) == 0).all()


def test_flows_with_large_waves_teach_nothing(physics):
    before, after = physics(10)
    before[..., 1:] *= 1e6
    with pytest.raises(ValueError, match=r"more than 2 pairs .* got 0 of 10"):
        fit_linear_correction(torch.clone, before, after)
