import pytest
import torch

from surrogates.distributed.checkpoint import load_checkpoint
from surrogates.regression.model import (
    HeadNetwork,
    NetworkShape,
    network_constants,
)
from surrogates.regression.train import (
    Members,
    predict,
    train_head_network,
)
from surrogates.scores import rmse
from surrogates.training import DivergenceError, TrainingSettings

SHAPE = NetworkShape(n_steps=2, width=8, n_coarse=12)
SETTINGS = TrainingSettings(steps=12, batch_size=16, learning_rate=2e-3, seed=5)


class KilledError(Exception):
    """Stands for the end of a process right after an epoch's log line."""


def train(problem, skip, members, path, **options):
    settings = options.get("settings", SETTINGS)
    n, shape = options.get("n", 64), options.get("shape", SHAPE)
    log, digest = options.get("log", lambda _: None), options.get("digest", "d" * 64)
    torch.manual_seed(settings.seed)
    network = HeadNetwork(
        *problem, network_constants(problem[0], skip, shape.n_coarse), shape
    )
    part = Members(members.log_transmissivity[:n], members.head[:n])
    shown = Members(members.log_transmissivity[-16:], members.head[-16:])
    train_head_network(network, part, settings, path, digest, shown=shown, log=log)
    return network


def test_training_fits_one_batch(problem, skip, members, tmp_path):
    settings = TrainingSettings(steps=400, batch_size=16, learning_rate=1e-2, seed=0)
    errors = []
    train(
        problem,
        skip,
        members,
        tmp_path / "c.pt",
        settings=settings,
        log=lambda r: errors.append(r["training_rmse_m"]),
        n=16,
        shape=NetworkShape(n_steps=3, width=16, n_coarse=12),
    )
    assert errors[-1] < 0.1 * errors[0]


def test_training_beats_ridge_on_unseen_members(problem, skip, members, tmp_path):
    settings = TrainingSettings(steps=120, batch_size=16, learning_rate=5e-3, seed=0)
    network = train(problem, skip, members, tmp_path / "c.pt", settings=settings)
    fields, heads = members.log_transmissivity[-16:], members.head[-16:]
    ridge = skip.mean_head + (fields - skip.mean_log_transmissivity) @ skip.matrix
    assert rmse(predict(network, fields), heads) < 0.5 * rmse(ridge, heads)


def test_a_killed_training_ends_in_the_bits_of_an_undisturbed_one(
    problem, skip, members, tmp_path
):
    undisturbed = train(problem, skip, members, tmp_path / "whole.pt")

    def kill(record):
        if record["epoch"] == 2:
            raise KilledError

    with pytest.raises(KilledError):
        train(problem, skip, members, tmp_path / "cut.pt", log=kill)
    epochs = []
    continued = train(
        problem,
        skip,
        members,
        tmp_path / "cut.pt",
        log=lambda r: epochs.append(r["epoch"]),
    )
    assert epochs == [3]
    for name, parameter in undisturbed.state_dict().items():
        assert torch.equal(parameter, continued.state_dict()[name]), name
    assert (tmp_path / "whole.pt").read_bytes() == (tmp_path / "cut.pt").read_bytes()


def test_an_epoch_tells_what_trains_and_how_far_it_is(problem, skip, members, tmp_path):
    told = []
    train(problem, skip, members, tmp_path / "c.pt", n=32, log=told.append)
    assert {record["training"] for record in told} == {"network on 32 members"}
    assert [record["epoch"] for record in told] == [1, 2, 3, 4, 5, 6]
    assert told[-1]["status"] == f"error {told[-1]['held_out_rmse_m']:.3f} m"
    assert told[-1]["seconds_left"] == 0


def test_held_out_members_decide_nothing(problem, skip, members, tmp_path):
    usual = train(problem, skip, members, tmp_path / "a.pt")
    poisoned = Members(members.log_transmissivity, members.head.clone())
    poisoned.head[-16:] = torch.nan
    again = train(problem, skip, poisoned, tmp_path / "b.pt")
    for name, parameter in usual.state_dict().items():
        assert torch.equal(parameter, again.state_dict()[name]), name


def test_a_checkpoint_of_other_members_or_settings_is_refused(
    problem, skip, members, tmp_path
):
    path = tmp_path / "c.pt"
    train(problem, skip, members, path)
    with pytest.raises(ValueError, match="same data_digest"):
        train(problem, skip, members, path, digest="e" * 64)
    other = TrainingSettings(steps=12, batch_size=16, learning_rate=1e-3, seed=5)
    with pytest.raises(ValueError, match="same settings"):
        train(problem, skip, members, path, settings=other)


def test_divergence_stops_and_keeps_the_last_good_checkpoint(
    problem, skip, members, tmp_path
):
    path, good = tmp_path / "c.pt", []

    def poison(record):
        good.append(path.read_bytes())
        members_used.head[0, 0] = torch.nan  # the next epoch meets a non-finite loss

    members_used = Members(members.log_transmissivity.clone(), members.head.clone())
    with pytest.raises(DivergenceError, match=r"Lower the learning rate \(now 0.002\)"):
        train(problem, skip, members_used, path, log=poison)
    assert path.read_bytes() == good[-1]
    for name, weights in load_checkpoint(path)["states"]["network"].items():
        assert torch.isfinite(weights).all(), name
