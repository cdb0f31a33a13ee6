import pytest
import torch

from surrogates.distributed.checkpoint import load_checkpoint
from surrogates.distributed.collectives import OneProcess
from surrogates.generative_metrics import robust_spread
from surrogates.pigan.heads import (
    HEAD,
    LOG_TRANSMISSIVITY,
    scaled_residual,
)
from surrogates.pigan.sensors import SensorGroup
from surrogates.pigan.train import (
    GanSettings,
    ModeCollapseError,
    last_good,
    train_pigan,
)
from surrogates.training import DivergenceError


def settings_of(**changes):
    usual = {"steps": 6, "seed": 5, "batch_size": 16, "epoch_steps": 2}
    small = {"critic_width": 8, "n_subdomains": 2, "learning_rate": 2e-3}
    return GanSettings(**{**usual, **small, "averaging": 0.5, **changes})


@pytest.fixture
def train(build_pigan, data_of, group, tmp_path):
    """Trains a fresh generator; its weights and its epochs' records."""

    def run(name="c.pt", kind="solver", *, model=None, log=None, **options):
        settings = options.get("settings", settings_of())
        records = []
        averaged = train_pigan(
            model or build_pigan(kind, settings.seed),
            options.get("data") or data_of(group),
            settings,
            tmp_path / name,
            options.get("digest", "d" * 64),
            log or records.append,
        )
        return averaged, records

    return run


def assert_same_bits(first, second):
    other = second.state_dict()
    for name, parameter in first.state_dict().items():
        assert torch.equal(parameter, other[name]), name


def assert_same_records(first, second):
    """All but the time that is left."""
    for one, other in zip(first, second, strict=True):
        assert {**one, "seconds_left": 0} == {**other, "seconds_left": 0}


class KilledError(Exception):
    """Stands for the end of a process right after an epoch's log line."""


def kill_after(epoch):
    def log(record):
        if record["epoch"] == epoch:
            raise KilledError

    return log


LEARNING = settings_of(
    steps=120, batch_size=32, epoch_steps=20, averaging=0.9, learning_rate=5e-3
)


def spread_errors(model, truth, group):
    """Relative error of the robust spread at the sensors, by field."""
    fields = model.sample(2000, torch.Generator().manual_seed(1))
    errors = {}
    for name, cells in group.cells.items():
        real = robust_spread(truth[name][:, cells])
        gap = robust_spread(fields[name][:, cells]) - real
        errors[name] = float(gap.norm() / real.norm())
    return errors


def test_training_learns_the_spread_of_the_snapshots(train, build_pigan, truth, group):
    before = spread_errors(build_pigan("solver", LEARNING.seed), truth, group)
    model, records = train(settings=LEARNING)
    after = spread_errors(model, truth, group)
    for name, error in before.items():  # 1 - 1/1.4, and the most that a start may keep
        assert error > 0.2, name
        assert after[name] < 0.4 * error, f"{name}: {error:.3f} to {after[name]:.3f}"
    assert records[-1]["moment_distance"] < 0.5 * records[0]["moment_distance"]


def test_groups_of_sensors_may_be_read_at_different_times(
    train, build_pigan, data_of, truth, group
):
    data = data_of(*(SensorGroup({name: c}) for name, c in group.cells.items()))
    assert [part.readings.shape for part in data.training] == [(150, 8), (150, 3)]
    before = spread_errors(build_pigan("solver", LEARNING.seed), truth, group)
    model, records = train(data=data, settings=LEARNING)
    after = spread_errors(model, truth, group)
    for name, error in before.items():
        # 150 snapshots know a spread to 8 % (one standard error)
        assert after[name] < 0.6 * error, f"{name}: {error:.3f} to {after[name]:.3f}"
    assert {f"{name}_spread_error" for name in group.cells} < set(records[-1])


def test_no_critic_trains_without_weight(train, tmp_path):
    _, records = train(settings=settings_of(adversarial_weight=0.0))
    assert [record["critic_loss"] for record in records] == [0.0, 0.0, 0.0]
    states = load_checkpoint(tmp_path / "c.pt")["states"]
    assert states["critic_optimiser"]["state"] == {}


@pytest.mark.parametrize("kind", ["solver", "linearised"])
def test_the_same_seed_gives_the_same_bits(train, kind):
    first, told = train("a.pt", kind)
    again, told_again = train("b.pt", kind)
    assert_same_bits(first, again)
    assert_same_records(told, told_again)
    other, _ = train("c.pt", kind, settings=settings_of(seed=6))
    assert not torch.equal(other.inputs.linear.weight, first.inputs.linear.weight)


@pytest.mark.parametrize("kind", ["solver", "generic", "mesh"])
@pytest.mark.parametrize("epoch", [1, 2])
def test_a_killed_training_ends_in_the_bits_of_an_undisturbed_one(
    train, kind, epoch, tmp_path
):
    # 5 steps: the last epoch is a shorter one; a mesh generator learns its rank first
    settings = settings_of(steps=5, residual_weight=1.0, least_rank_share=0.0)
    undisturbed, told = train("whole.pt", kind, settings=settings)
    with pytest.raises(KilledError):
        train("cut.pt", kind, settings=settings, log=kill_after(epoch))
    continued, records = train("cut.pt", kind, settings=settings)
    assert [record["epoch"] for record in records] == list(range(epoch + 1, 4))
    assert_same_records(told[epoch:], records)
    assert_same_bits(undisturbed, continued)
    assert (tmp_path / "whole.pt").read_bytes() == (tmp_path / "cut.pt").read_bytes()


def test_all_updates_share_their_gradients(train, build_pigan, monkeypatch):
    model, shared = build_pigan("solver"), []
    own = {id(parameter) for parameter in model.parameters()}

    def follow(_, parameters):
        assert all(parameter.grad is not None for parameter in parameters)
        shared.append({id(parameter) for parameter in parameters} == own)

    monkeypatch.setattr(OneProcess, "average_gradients", follow)
    train(model=model, settings=settings_of(critic_steps=2))
    assert shared == 6 * [False, False, True]  # critics twice, then the generator


def test_a_finished_training_is_read_from_its_checkpoint(train):
    finished, _ = train()
    again, records = train()
    assert records == []
    assert_same_bits(finished, again)


def test_a_checkpoint_of_other_snapshots_or_settings_is_refused(train):
    train()
    with pytest.raises(ValueError, match=r"same data_digest.*Remove it to train anew"):
        train(digest="e" * 64)
    with pytest.raises(ValueError, match=r"same settings.*'moment_weight': 10"):
        train(settings=settings_of(moment_weight=10.0))


def test_an_epoch_tells_what_trains_and_how_far_it_is(train):
    _, records = train()
    assert [record["epoch"] for record in records] == [1, 2, 3]
    assert {record["epochs"] for record in records} == {3}
    assert {record["training"] for record in records} == {"PI-GAN on 300 snapshots"}
    assert records[-1]["seconds_left"] == 0
    assert f"{records[-1]['moment_distance']:.3f}" in records[-1]["status"]


def test_held_out_snapshots_decide_nothing(train, data_of, group):
    usual, records = train("a.pt")
    data = data_of(group)
    for part in data.held_out:
        part.readings.mul_(2)
    again, other = train("b.pt", data=data)
    key = f"{HEAD}_spread_error"
    assert records[-1][key] != other[-1][key]
    assert records[-1]["rank_share"] == other[-1]["rank_share"]
    assert_same_bits(usual, again)


def log_of_good_epochs(path, poison):
    """Remembers each epoch's checkpoint, and poisons the model after the first."""
    good = []

    def log(_):
        good.append(path.read_bytes())
        poison()

    return log, good


def test_lost_rank_stops_training_and_keeps_the_last_good_checkpoint(
    train, build_pigan, tmp_path
):
    model, path = build_pigan("solver"), tmp_path / "c.pt"

    def collapse():
        with torch.no_grad():
            model.inputs.linear.weight.zero_()
            model.inputs.scale[1:] = 0
            model.inputs.curved[-1].weight.zero_()

    log, good = log_of_good_epochs(path, collapse)
    settings = settings_of(
        learning_rate=1e-6, averaging=0.0, moment_weight=0.0, adversarial_weight=0.0
    )
    message = (
        r"must stay above 0\.4 of the snapshots'; got 0\.\d+ in epoch 2\. Use more "
        "modes, a larger moment weight or a lower learning rate; the last good "
    )
    with pytest.raises(ModeCollapseError, match=message):
        train(model=model, settings=settings, log=log)
    assert [path.read_bytes()] == good
    kept = last_good(build_pigan("solver"), path)
    assert (kept.inputs.scale > 0.9).all()


def test_repeated_members_have_no_rank(train, build_pigan):
    model = build_pigan("solver")
    with torch.no_grad():
        model.inputs.scale.zero_()
        model.inputs.curved[-1].weight.zero_()
    settings = settings_of(learning_rate=1e-9, moment_weight=0.0)
    with pytest.raises(ModeCollapseError, match="in epoch 1"):
        train(model=model, settings=settings)


@pytest.mark.parametrize("kind", ["solver", "linearised"])
def test_a_huge_learning_rate_ends_in_a_divergence_error(train, kind, tmp_path):
    settings = settings_of(learning_rate=1e30, least_rank_share=0.0)
    with pytest.raises(DivergenceError, match=r"must stay finite.*Lower the learning"):
        train(kind=kind, settings=settings)
    assert not (tmp_path / "c.pt").exists()


@pytest.mark.parametrize(
    ("kind", "value", "what"),
    [
        ("solver", torch.nan, "generated fields"),
        ("linearised", torch.nan, "the loss"),
        ("solver", 1e6, "generated fields"),
        ("linearised", 1e6, "generated fields"),
    ],
)
def test_divergence_stops_and_keeps_the_last_good_checkpoint(
    train, build_pigan, tmp_path, kind, value, what
):
    model, path = build_pigan(kind), tmp_path / "c.pt"

    def poison():
        with torch.no_grad():
            model.inputs.scale.fill_(value)

    log, good = log_of_good_epochs(path, poison)
    # of the snapshots' rank, readings of wild fields keep little
    settings = settings_of(averaging=0.0, least_rank_share=0.0)
    message = rf"^{what} must stay finite.* epoch 2\..*after 1 epochs, is kept"
    with pytest.raises(DivergenceError, match=message):
        train(kind=kind, model=model, settings=settings, log=log)
    assert [path.read_bytes()] == good
    for name, weights in load_checkpoint(path)["states"]["model"].items():
        assert torch.isfinite(weights).all(), name


def test_without_a_checkpoint_there_is_no_last_good_generator(build_pigan, tmp_path):
    with pytest.raises(FileNotFoundError):
        last_good(build_pigan("solver"), tmp_path / "none.pt")


@pytest.mark.parametrize("field", [HEAD, LOG_TRANSMISSIVITY])
def test_sensors_of_one_field_are_enough(train, data_of, group, field):
    only = SensorGroup({field: group.cells[field]})
    _, records = train(data=data_of(only))
    assert f"{field}_spread_error" in records[-1]


def test_the_weight_of_the_residual_lowers_it(train, problem):
    residuals, misses = [], []
    for weight in (0.0, 3000.0):
        settings = settings_of(
            steps=150,
            batch_size=32,
            epoch_steps=150,
            learning_rate=5e-3,
            adversarial_weight=0.0,
            residual_weight=weight,
            averaging=0.9,
        )
        model, _ = train(f"{weight}.pt", "generic", settings=settings)
        fields = model.sample(200, torch.Generator().manual_seed(1))
        left = scaled_residual(*problem, fields[LOG_TRANSMISSIVITY], fields[HEAD])
        residuals.append(float(left.square().mean().sqrt()))
        miss = fields[HEAD] - model.flow(fields)
        misses.append(float(miss.square().mean().sqrt()))
    assert residuals[1] < 0.3 * residuals[0], residuals
    # and the heads come closer to the solver's, if less so
    assert misses[1] < 0.8 * misses[0], misses


def test_the_weight_of_the_residual_grows_from_zero(train, tmp_path):
    weights = {}
    for weight in (0.0, 1e3):
        for epoch in (1, 2):
            name = f"{weight}-{epoch}.pt"
            settings = settings_of(steps=10, epoch_steps=1, residual_weight=weight)
            with pytest.raises(KilledError):
                train(name, "generic", settings=settings, log=kill_after(epoch))
            model = load_checkpoint(tmp_path / name)["states"]["model"]
            weights[weight, epoch] = model["network.network.0.weight"]
    assert torch.equal(weights[0.0, 1], weights[1e3, 1])
    assert not torch.equal(weights[0.0, 2], weights[1e3, 2])


def test_latent_variables_come_in_pairs_of_opposite_sign(train, build_pigan):
    model, batches = build_pigan("solver"), []
    model.inputs.register_forward_pre_hook(lambda _, z: batches.append(z[0]))
    train(model=model)
    # samples for the curves, drawn by the averaged copy, are of 250 members
    steps = [z for z in batches if len(z) == 16]
    assert len(steps) == 7  # one fills the memory
    for z in steps:
        assert torch.equal(z[:8], -z[8:])
        assert z.abs().max() > 1
    assert not torch.equal(steps[0], steps[1])


def test_the_product_is_the_running_average_of_the_weights(train, build_pigan):
    model, steps = build_pigan("solver"), []

    def follow(_):
        steps.append(model.inputs.scale.detach().clone())

    averaged, _ = train(model=model, settings=settings_of(epoch_steps=1), log=follow)
    average = steps[0]
    for weights in steps[1:]:
        average = 0.5 * average + 0.5 * weights
    torch.testing.assert_close(averaged.inputs.scale.detach(), average)
    assert not torch.equal(average, steps[-1])


def test_the_learning_rate_falls_to_zero_over_the_second_half(train, tmp_path):
    train(settings=settings_of(steps=8))
    states = load_checkpoint(tmp_path / "c.pt")["states"]
    for name in ("generator_schedule", "critic_schedule"):
        assert states[name]["_last_lr"] == [0.0]
    with pytest.raises(KilledError):
        train("cut.pt", settings=settings_of(steps=8), log=kill_after(3))
    states = load_checkpoint(tmp_path / "cut.pt")["states"]
    assert states["generator_schedule"]["_last_lr"] == [pytest.approx(1e-3)]
