"""Streams of members: own seed only, no collisions, normal draws."""

import math

import numpy as np
import pytest
import torch

from simulators.random_fields import karhunen_loeve, member_generator, sample_members

F64 = torch.float64


@pytest.fixture(scope="module")
def expansion():
    return karhunen_loeve(torch.zeros(20, dtype=F64), torch.eye(20, dtype=F64))


def test_a_members_draws_do_not_depend_on_the_other_members(expansion):
    whole = sample_members(expansion, seed=5, members=range(10))
    part = sample_members(expansion, seed=5, members=[7, 2])
    assert whole.shape == (10, 20)
    assert whole.dtype == F64
    assert torch.equal(part, whole[[7, 2]])


def test_the_global_generator_is_neither_read_nor_moved(expansion):
    before = torch.random.get_rng_state()
    first = sample_members(expansion, seed=5, members=[3])
    assert torch.equal(torch.random.get_rng_state(), before)
    with torch.random.fork_rng():
        torch.manual_seed(123)
        assert torch.equal(sample_members(expansion, seed=5, members=[3]), first)


def test_members_and_seeds_have_different_draws(expansion):
    draws = torch.cat([sample_members(expansion, s, range(50)) for s in range(4)])
    assert len(torch.unique(draws)) == draws.numel()


def test_no_two_of_200000_members_share_a_stream():
    # hashing to torch's 32 bits would give 200000^2/2^33 = 4.7 equal pairs on average
    seeds = {member_generator(0, member).initial_seed() for member in range(200_000)}
    assert len(seeds) == 200_000
    assert max(seeds) < 2**32


def test_the_generator_of_a_member_is_pinned():
    # regression values of this project: a change would alter every stored ensemble
    got = [member_generator(seed, 7).initial_seed() for seed in (0, 1, 2**70)]
    assert got == [1263066270, 1005055474, 298545752]


def test_draws_of_adjacent_members_are_uncorrelated_standard_normals(expansion):
    n = 20_000
    draws = sample_members(expansion, seed=9, members=range(n))
    neighbours = (draws[1:] * draws[:-1]).mean(0) * math.sqrt(n - 1)
    modes = torch.corrcoef(draws.T).fill_diagonal_(0) * math.sqrt(n)
    fourth = (draws**4).mean(0) - 3
    # the largest of 250 normal scores is beyond 5 once in 7000 runs
    assert float((draws.mean(0) * math.sqrt(n)).abs().max()) < 5
    assert float(((draws.var(0) - 1) / math.sqrt(2 / n)).abs().max()) < 5
    assert float((fourth / math.sqrt(96 / n)).abs().max()) < 5
    assert float(neighbours.abs().max()) < 5
    assert float(modes.abs().max()) < 5


def test_derived_seeds_fill_all_bits_evenly():
    seeds = np.array(
        [member_generator(3, member).initial_seed() for member in range(4096)]
    )
    ones = ((seeds[:, None] >> np.arange(32)) & 1).mean(0)
    # standard error 1/128 of a fair bit
    assert np.abs(ones - 0.5).max() < 5 / 128


def test_numpy_integers_name_the_same_member():
    expected = member_generator(4, 2**31 + 5).initial_seed()
    assert member_generator(4, np.int64(2**31 + 5)).initial_seed() == expected


@pytest.mark.parametrize(
    ("seed", "member", "message"),
    [
        (-1, 0, "seed must be >= 0; got -1"),
        (0, -1, "member must be >= 0 and below 2\\^32; got -1"),
        (0, 2**32, "got 4294967296"),
    ],
)
def test_seeds_and_members_out_of_range_are_refused(seed, member, message):
    with pytest.raises(ValueError, match=message):
        member_generator(seed, member)
