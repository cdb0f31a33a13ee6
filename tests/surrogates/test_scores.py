import pytest
import torch

from surrogates.scores import coverage, rmse, rmse_interval


def test_rmse_of_a_constant_offset_is_the_offset():
    target = torch.linspace(0, 1, 12).reshape(3, 4)
    assert rmse(target + 0.25, target).item() == pytest.approx(0.25)


def test_the_interval_holds_the_true_rmse_as_often_as_it_says():
    generator = torch.Generator().manual_seed(1)
    hits, n_trials = 0, 200
    for _ in range(n_trials):
        # members differ in size of error, cells of a member are equal: E[e²] = 1 + 1
        size = torch.randn(60, 1, generator=generator, dtype=torch.float64)
        noise = torch.randn(60, 1, generator=generator, dtype=torch.float64)
        error = (size + noise).expand(60, 5)
        low, high = rmse_interval(error, torch.zeros_like(error), generator)
        hits += low <= 2**0.5 <= high
    # binomial deviation is 0.02; the percentile bootstrap covers a little less
    assert 0.82 <= hits / n_trials <= 0.95


def test_coverage_counts_the_values_between_the_bounds():
    target = torch.arange(10.0)
    assert coverage(target, torch.tensor(2.0), torch.tensor(5.0)).item() == 0.4
