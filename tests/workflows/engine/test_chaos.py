"""Harmed runs end in the bits of the undisturbed one; all harms: benchmarks.chaos."""

import random

import pytest

from benchmarks.chaos import (
    Subject,
    Toll,
    flip_bit,
    harm_files,
    kill_drivers,
    kill_parts,
    results_of,
    tear_journal,
    truncate,
)


@pytest.fixture(scope="module")
def subject(tmp_path_factory):
    """Small runs, one member of which turns non-finite."""
    folder = tmp_path_factory.mktemp("chaos") / "undisturbed"
    words = ("--set", "members=6", "--set", "steps=300", "--set", "nan_member=3")
    subject = Subject(folder, words=words)
    subject.complete(folder)
    return subject


def test_member_that_turns_non_finite_is_recorded_and_left_out(subject):
    summary = results_of(subject.undisturbed)
    cause = "FloatingPointError: a field must stay finite; got another in step 50."
    assert summary == {"members": 5, "failed": [[3, 3, cause]], "metrics": {}}


def test_killed_drivers_lose_nothing(subject, tmp_path):
    toll = kill_drivers(subject, tmp_path, 3, 1.5, random.Random(1))
    assert toll.injected == 3
    assert toll.survived == toll.runs > 0
    assert toll.bytes_lost == 0


def test_harmed_files_are_made_again(subject, tmp_path):
    harms = [flip_bit, truncate, tear_journal]
    toll = harm_files(subject, tmp_path, harms, random.Random(2))
    assert (toll.survived, toll.runs, toll.bytes_lost) == (1, 1, 0)
    assert toll.recomputed > 1  # the member without a result is always tried again


def test_a_lost_bit_is_noticed(subject, tmp_path):
    folder = tmp_path / "0"
    subject.complete(folder)
    flip_bit(folder, random.Random(3))
    toll = Toll()
    subject.judge(folder, toll)
    assert (toll.survived, toll.runs) == (0, 1)
    assert toll.bytes_lost > 0


@pytest.mark.slow
@pytest.mark.parametrize("part", ["worker", "interchange"])
def test_killed_parts_lose_nothing(tmp_path, part):
    subject = Subject(tmp_path / "undisturbed", words=("--set", "steps=2000"))
    subject.complete(subject.undisturbed)
    toll = kill_parts(subject, tmp_path, part, 1, random.Random(4))
    assert (toll.injected, toll.survived, toll.bytes_lost) == (1, 1, 0)
