"""Members are drawn as their scores ask: frequencies against exact probabilities."""

import pytest
import torch

from surrogates.acquisition import disagreement, draw_by_score


def draw(scores, n, exponent, seed):
    generator = torch.Generator().manual_seed(seed)
    return draw_by_score(torch.tensor(scores), n, exponent, generator)


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0])
def test_first_member_is_drawn_in_proportion_to_the_power_of_its_score(exponent):
    scores, n_draws = [0.5, 1.0, 1.5, 3.0], 4000
    first = torch.cat([draw(scores, 1, exponent, seed) for seed in range(n_draws)])
    found = torch.bincount(first, minlength=4) / n_draws
    expected = torch.tensor(scores) ** exponent
    expected = expected / expected.sum()
    # four standard deviations of a frequency
    bound = 4 * (expected * (1 - expected) / n_draws).sqrt()
    assert ((found - expected).abs() < bound).all()


def test_no_member_is_drawn_twice_and_none_without_score_before_the_others():
    chosen = draw([0.0, 1.0, 2.0, 0.0, 1.0], 3, 1.0, seed=0)
    assert sorted(chosen.tolist()) == [1, 2, 4]


def test_a_large_exponent_takes_the_highest_scores():
    scores = torch.linspace(1, 2, 50).tolist()
    assert set(draw(scores, 5, 1e4, seed=3).tolist()) == {45, 46, 47, 48, 49}


@pytest.mark.parametrize(
    ("scores", "n", "message"),
    [
        ([1.0, 2.0], 3, "at most the 2 candidates; got 3"),
        ([1.0, float("nan")], 1, "finite and not negative; got nan"),
        ([1.0, -2.0], 1, "finite and not negative; got -2.0"),
    ],
)
def test_impossible_draws_are_refused(scores, n, message):
    with pytest.raises(ValueError, match=message):
        draw(scores, n, 1.0, seed=0)


def test_disagreement_is_the_rms_of_scaled_deviations():
    first = torch.tensor([[0.0, 0.0], [1.0, 5.0]])
    second = first + torch.tensor([[2.0, 8.0], [0.0, 0.0]])
    scores = disagreement(torch.stack([first, second]), torch.tensor([1.0, 4.0]))
    # deviations of the pair (0, d) are d/√2; scaled, both outputs give √2
    torch.testing.assert_close(scores, torch.tensor([2.0**0.5, 0.0]))
