"""One random stream per member, from (seed, member) and nothing else.

torch's CPU generator takes 32 bits of a seed, so that hashed seeds of 20,000 members
would hold an equal pair in about one ensemble of twenty (20000^2/2^33). The derived
seed is therefore a permutation of the member's number, keyed by the ensemble's seed:
members of one ensemble never share a stream, and two members of two ensembles do so
with probability 2^-32.
"""

import operator

import numpy as np
import torch

WORD = 0xFFFFFFFF


def _mixed(word: int) -> int:
    """One-to-one scramble of 32 bits: the finaliser of MurmurHash3 (A. Appleby)."""
    word ^= word >> 16
    word = word * 0x85EBCA6B & WORD
    word ^= word >> 13
    word = word * 0xC2B2AE35 & WORD
    return word ^ word >> 16


def member_generator(seed: int, member: int) -> torch.Generator:
    """CPU generator of one member; the same for any order or choice of members.

    Args:
        seed: seed of the ensemble, >= 0, of any size.
        member: number of the member, 0 <= member < 2^32.

    Raises:
        ValueError: a negative seed or a member out of range.
    """
    if seed < 0:
        raise ValueError(f"seed must be >= 0; got {seed}.")
    if not 0 <= member <= WORD:
        raise ValueError(f"member must be >= 0 and below 2^32; got {member}.")
    first, second = map(int, np.random.SeedSequence(seed).generate_state(2))
    # a NumPy integer would overflow in the products
    number = operator.index(member)
    return torch.Generator().manual_seed(_mixed(_mixed(number ^ first) ^ second))
