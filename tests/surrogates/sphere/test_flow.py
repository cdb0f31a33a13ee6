"""Flow networks: what they keep exactly, what they learn, and how they go on."""

import math

import pytest
import torch

from simulators.sphere import (
    SphericalHarmonics,
    gauss_grid,
    gauss_grid_for,
    power_spectrum,
)
from surrogates.sphere import (
    FlowNetwork,
    FlowSchedule,
    FlowShape,
    flow_network_of,
    flow_network_state,
    measure_scales,
    one_step_skill,
    pairs_of,
    relative_squared_error,
    roll_out,
    train_flow_network,
)
from surrogates.training import TrainingSettings

SIZES = torch.tensor([1e-5, 1e-6, 1e3])  # of vorticity, divergence, geopotential
MEAN_GEOPOTENTIAL = 1e5


@pytest.fixture(scope="module")
def t10():
    return SphericalHarmonics(gauss_grid(16, 32), 10, dtype=torch.float32)


def damping(truncation):
    """Factors of degrees in an interval: diffusion, which the operator can learn."""
    l = torch.arange(truncation + 1.0)
    return (-l * (l + 1) / 60).exp()[:, None]


def damped_flows(harmonics, n_members, seed=0, n_times=5):
    """Random fields (members, times, 3, l, m) that diffuse; their mean stays."""
    generator = torch.Generator().manual_seed(seed)
    fields = torch.randn(n_members, 3, *harmonics.grid.shape, generator=generator)
    first = harmonics.analyse(fields * SIZES[:, None, None])
    first[..., 0, 0] = 0
    first[:, 2, 0, 0] = math.sqrt(2) * MEAN_GEOPOTENTIAL
    factor = damping(harmonics.truncation)
    return torch.stack([first * factor**k for k in range(n_times)], dim=1)


def unchanged(state):
    return state


def new_network(harmonics, flows, network="sfno", base=unchanged):
    before, after = pairs_of(flows)
    scales = measure_scales(harmonics, before, base(before), after)
    shape = FlowShape(network, 8, 1, 3600.0, "solver")
    generator = torch.Generator().manual_seed(1)
    return FlowNetwork(harmonics, shape, scales, base, generator)


def skill_of(network, flows):
    before, after = pairs_of(flows)
    with torch.no_grad():
        return one_step_skill(network(before), before, after)


def shaken(network):
    """With an output layer that is not small."""
    with torch.no_grad():
        network.network.decoder.weight.mul_(100)
    return network


def schedule(steps=150, rollout_steps=0, rollout_length=3):
    first = TrainingSettings(steps, 8, 3e-3, seed=0, epoch_steps=10)
    return FlowSchedule(first, rollout_steps, rollout_length)


def train(network, flows, checkpoint, plan, log=lambda _: None):
    train_flow_network(
        network, flows, plan, checkpoint, "data", shown=flows[:2], log=log
    )


def test_scales_are_those_of_the_fields(t10):
    before, after = pairs_of(damped_flows(t10, 3))
    scales = measure_scales(t10, before, before, after)
    torch.testing.assert_close(
        scales.mean, torch.tensor([0.0, 0.0, MEAN_GEOPOTENTIAL]), rtol=1e-5, atol=1e-9
    )
    fields = t10.synthesise(before)[:, 2].double() - MEAN_GEOPOTENTIAL
    deviation = t10.grid.area_mean(fields**2).mean().sqrt()
    assert float(scales.deviation[2]) == pytest.approx(float(deviation), rel=1e-3)
    change = t10.synthesise(after - before)[:, 0]
    residual = t10.grid.area_mean(change**2).mean().sqrt()
    assert float(scales.residual[0]) == pytest.approx(float(residual), rel=1e-5)


def test_nothing_to_learn_is_refused(t10):
    before = damped_flows(t10, 2)[:, 0]
    with pytest.raises(ValueError, match="must vary"):
        measure_scales(t10, before, before, before)


@pytest.mark.parametrize("network", ["sfno", "unet"])
def test_means_are_kept_to_the_bit(t10, network):
    flows = damped_flows(t10, 2)
    found = roll_out(shaken(new_network(t10, flows, network)), flows[:, 0], 5)
    assert not torch.equal(found[:, -1], found[:, 0])
    assert torch.equal(found[..., 0, 0], flows[:, :1, :, 0, 0].expand(-1, 6, -1))


def test_an_output_of_zero_leaves_the_base(t10):
    flows = damped_flows(t10, 2)
    halved = lambda state: state * damping(10) ** 0.5  # noqa: E731  # one line says it
    network = new_network(t10, flows, base=halved)
    before = flows[:, 0]
    with torch.no_grad():
        for parameter in network.network.decoder.parameters():
            parameter.zero_()
    assert torch.equal(network(before), halved(before))


def test_a_checkpoint_gives_the_same_network(t10):
    flows = damped_flows(t10, 2)
    network = shaken(new_network(t10, flows))
    again = flow_network_of(flow_network_state(network), t10, unchanged)
    assert torch.equal(again(flows[:, 0]), network(flows[:, 0]))


def test_a_checkpoint_of_another_grid_is_refused(t10):
    state = flow_network_state(new_network(t10, damped_flows(t10, 2)))
    t21 = SphericalHarmonics(gauss_grid_for(21), 21, dtype=torch.float32)
    with pytest.raises(ValueError, match=r"grid \[32, 64\] at truncation 21; it is of"):
        flow_network_of(state, t21, unchanged)


def test_the_loss_weighs_areas_and_what_is_missing():
    grid = gauss_grid(2, 4)
    target = torch.zeros(2, 3, 2, 4)
    output = target.clone()
    output[:, 0, 0] += 1  # zonal, one channel of three, on half of the sphere
    output[:, 1, 0] += torch.tensor([1.0, -1, 1, -1])  # a wave as large
    size = torch.full((2, 3, 2), 4.0)
    size[1, 0] = torch.tensor([1.0, 16.0])
    zonal, wave = (0.5 / 4 + 0.5) / 12, (0.5 / 4 + 0.5 / 4) / 12
    loss = relative_squared_error(output, target, size, grid)
    assert float(loss) == pytest.approx(zonal + wave, rel=1e-6)
    with pytest.raises(ValueError, match="one shape"):
        relative_squared_error(output, target[:1], size, grid)
    with pytest.raises(ValueError, match="two sizes"):
        relative_squared_error(output, target, size[..., :1], grid)


def test_training_learns_diffusion(t10, tmp_path):
    flows, unseen = damped_flows(t10, 24), damped_flows(t10, 4, seed=1)
    network = new_network(t10, flows)
    start = skill_of(network, unseen)
    train(network, flows, tmp_path / "flow.pt", schedule(steps=300))
    skill = skill_of(network, unseen)
    assert (start < 0.1).all()
    assert (skill > 0.9).all()


def test_the_loss_of_rollouts_is_that_of_the_network_run_freely(t10, tmp_path):
    """With a learning rate of nearly nothing, the logged loss is that of the start."""
    flows = damped_flows(t10, 8)
    network = new_network(t10, flows)
    first = TrainingSettings(1, 8, 1e-12, seed=0)
    records = []
    plan = FlowSchedule(first, 1, rollout_length=2, quiet=(0.1, 0.01))
    train(network, flows, tmp_path / "flow.pt", plan, records.append)
    errors, sizes = [], []
    for lead in (1, 2):
        for time in range(3):
            found, truth = roll_out(network, flows[:, time], 2), flows[:, time + lead]
            errors.append(parts(found[:, lead] - truth))
            sizes.append(parts(flows[:, time] - truth))
    errors, sizes = (torch.stack(x).reshape(2, 24, 3, 2) for x in (errors, sizes))
    quiet = torch.tensor([0.1, 0.01]) * sizes.mean(1, keepdim=True)
    expected = float((errors / (sizes + quiet)).mean())
    # the network's output also has scales beyond the truncation, which are charged
    assert records[-1]["training_loss"] == pytest.approx(expected, rel=0.05)


def parts(coefficients):
    """Power of zonal mean and waves, without the mean, (..., 3, 2)."""
    power = power_spectrum(coefficients)[..., 1:].sum(-1)
    zonal = coefficients[..., 1:, 0].abs().square().sum(-1) / 2
    return torch.stack((zonal, power - zonal), dim=-1)


def test_gradients_of_a_rollout_go_through_the_base(t10, tmp_path):
    """Only the second stage sees them: cut, they leave another network behind."""
    flows = damped_flows(t10, 4)
    models = {"whole": lambda x: 2 * x, "cut": lambda x: 2 * x.detach()}
    for rollout_steps, are_equal in ((0, True), (4, False)):
        weights = []
        for name, advance in models.items():
            network = new_network(t10, flows, base=advance)
            plan = schedule(steps=4, rollout_steps=rollout_steps, rollout_length=2)
            train(network, flows, tmp_path / f"{name}_{rollout_steps}.pt", plan)
            weights.append(network.network.decoder.weight)
        assert torch.equal(*weights) is are_equal


def test_both_stages_have_the_steps_that_were_asked_for(t10, tmp_path):
    flows = damped_flows(t10, 8)
    records = []
    plan = schedule(steps=20, rollout_steps=6, rollout_length=2)
    train(new_network(t10, flows), flows, tmp_path / "n.pt", plan, records.append)
    # 5 epochs of 4 steps, a pass over the pairs; then 2 of 3
    assert [record["epochs"] for record in records] == [5] * 5 + [2] * 2


class KilledError(Exception):
    pass


@pytest.mark.parametrize("after", [1, 2, 3, 4])  # of 2 stages of 2 epochs
def test_a_killed_training_ends_in_the_same_bits(t10, tmp_path, after):
    flows = damped_flows(t10, 8)
    plan = schedule(steps=20, rollout_steps=20, rollout_length=2)
    whole = new_network(t10, flows)
    every, seen = [], []
    train(whole, flows, tmp_path / "whole.pt", plan, every.append)

    def kill(record):
        seen.append(record)
        if len(seen) == after:
            raise KilledError

    with pytest.raises(KilledError):
        train(new_network(t10, flows), flows, tmp_path / "cut.pt", plan, kill)
    continued = new_network(t10, flows)
    records = []
    train(continued, flows, tmp_path / "cut.pt", plan, records.append)
    assert len(records) == len(every) - after
    for name, weight in continued.state_dict().items():
        assert torch.equal(weight, whole.state_dict()[name]), name
