"""A training loop with momentum and random draws, as small as one can be."""

import time

import pytest
import torch

from surrogates.training import resume_training, save_training, seconds_left

IDENTITY = {"data_digest": "d" * 64, "settings": {"rate": 0.1}}


def fresh_parts():
    torch.manual_seed(0)
    network = torch.nn.Linear(3, 1)
    optimiser = torch.optim.Adam(network.parameters(), 0.1)
    return {"network": network, "optimiser": optimiser}


def train(path, n_epochs, log=lambda _: None):
    """Trains from the checkpoint, if there is one; the epochs that were done before."""
    parts, generator = fresh_parts(), torch.Generator().manual_seed(1)
    first = resume_training(path, IDENTITY, parts, generator, log)
    for epoch in range(first, n_epochs):
        parts["optimiser"].zero_grad()
        parts["network"](
            torch.randn(8, 3, generator=generator)
        ).square().sum().backward()
        parts["optimiser"].step()
        save_training(path, IDENTITY, parts, generator, epoch + 1)
    return first


def test_a_resumed_training_ends_in_the_bits_of_an_undisturbed_one(tmp_path):
    assert train(tmp_path / "whole.pt", 4) == 0
    train(tmp_path / "cut.pt", 2)
    assert train(tmp_path / "cut.pt", 4) == 2
    assert (tmp_path / "cut.pt").read_bytes() == (tmp_path / "whole.pt").read_bytes()


def test_a_damaged_checkpoint_is_discarded_and_the_bits_are_the_same(tmp_path):
    train(tmp_path / "good.pt", 3)
    damaged = bytearray((tmp_path / "good.pt").read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (tmp_path / "bad.pt").write_bytes(damaged)
    events = []
    assert train(tmp_path / "bad.pt", 3, events.append) == 0
    assert [event["event"] for event in events] == ["checkpoint discarded"]
    assert (tmp_path / "bad.pt").read_bytes() == (tmp_path / "good.pt").read_bytes()


def test_a_refused_checkpoint_leaves_parts_and_generator_alone(tmp_path):
    train(tmp_path / "c.pt", 2)
    parts, generator = fresh_parts(), torch.Generator().manual_seed(1)
    other = {**IDENTITY, "settings": {"rate": 0.2}}
    with pytest.raises(ValueError, match="must belong to the same settings"):
        resume_training(tmp_path / "c.pt", other, parts, generator, lambda _: None)
    for name, weights in fresh_parts()["network"].state_dict().items():
        assert torch.equal(parts["network"].state_dict()[name], weights), name
    untouched = torch.Generator().manual_seed(1)
    assert torch.equal(generator.get_state(), untouched.get_state())


def test_time_left_counts_the_epochs_of_this_process():
    left = seconds_left(time.monotonic() - 10.0, n_done=1, n_all=4)
    assert left == pytest.approx(30.0, rel=0.2)  # a busy machine may pause in between
