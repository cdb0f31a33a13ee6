import pytest
import torch

from surrogates.pigan.adversary import POOL_BATCHES, Adversary
from surrogates.pigan.heads import HEAD
from surrogates.pigan.sensors import SensorGroup, Snapshots

N_SENSORS, BATCH = 6, 32


def draw(n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(n, N_SENSORS, generator=generator)
    mix = torch.randn(N_SENSORS, N_SENSORS, generator=generator)
    return 10 + noise @ mix


@pytest.fixture
def adversary():
    torch.manual_seed(0)
    group = SensorGroup({HEAD: torch.arange(N_SENSORS)})
    where = torch.rand(N_SENSORS, 2, generator=torch.Generator().manual_seed(1))
    return Adversary(
        Snapshots(group, draw(400)),
        where,
        n_subdomains=2,
        width=8,
        batch_size=BATCH,
        seed=0,
    )


def stretched(adversary, spread, shift=0.0):
    """The snapshots' squashed readings, moved and made wider or narrower."""
    return adversary.centre + shift + spread * (adversary.real - adversary.centre)


def slope_in_spread(adversary, readings):
    """Derivative of the moment loss as the readings are stretched about their mean."""
    factor = torch.ones((), requires_grad=True)
    middle = readings.mean(0)
    loss = adversary.moment_loss(middle + factor * (readings - middle))
    (slope,) = torch.autograd.grad(loss, factor)
    return float(slope)


def test_readings_are_standardised_by_the_snapshots(adversary):
    y = (adversary.real - adversary.centre) / adversary.spread
    assert y.mean(0).abs().max() < 1e-5
    diagonal = adversary.covariance.diagonal()
    torch.testing.assert_close(diagonal, torch.ones(N_SENSORS))


def remember_moments(adversary, readings):
    """Sets the running moments to those of many readings, as long memories end."""
    y = (readings - adversary.centre) / adversary.spread
    adversary.running_mean.copy_(y.mean(0))
    adversary.running_covariance.copy_(y.mT @ y / len(y))


def remember_right_law(adversary):
    """Sets the running moments to those of the law that the snapshots estimate."""
    adversary.running_mean.zero_()
    adversary.running_covariance.copy_(adversary.covariance)


def test_the_gradient_vanishes_at_the_snapshots_law(adversary):
    remember_right_law(adversary)
    batch = adversary.real[:BATCH].clone().requires_grad_()
    adversary.moment_loss(batch).backward()
    assert batch.grad.abs().max() < 1e-6
    assert adversary.moment_distance() < 1e-5
    remember_moments(adversary, stretched(adversary, 1.1))
    adversary.moment_loss(batch).backward()
    assert batch.grad.abs().max() > 1e-4


def test_too_narrow_readings_are_widened_and_too_wide_ones_narrowed(adversary):
    for spread, sign in ((0.6, -1), (1.5, 1)):
        readings = stretched(adversary, spread)
        remember_moments(adversary, readings)
        # a descent step goes against the slope
        assert sign * slope_in_spread(adversary, readings[:BATCH]) > 0.01


def test_a_narrow_batch_of_a_generator_with_the_right_law_is_left_alone(adversary):
    remember_right_law(adversary)
    assert abs(slope_in_spread(adversary, stretched(adversary, 0.5)[:BATCH])) < 1e-5


def test_a_shifted_mean_is_pulled_back(adversary):
    readings = stretched(adversary, 1.0, shift=0.3)
    remember_moments(adversary, readings)
    shift = torch.zeros((), requires_grad=True)
    adversary.moment_loss(readings[:BATCH] + shift).backward()
    assert shift.grad > 0.01


def test_small_batches_have_the_gradient_of_a_large_one_on_average(adversary):
    readings = stretched(adversary, 0.8, shift=0.2)[:384]
    remember_moments(adversary, readings)
    whole = slope_of_map(adversary, readings)
    batches = [slope_of_map(adversary, part) for part in readings.split(4)]
    average = torch.stack(batches).mean(0)
    torch.testing.assert_close(average, whole, rtol=0, atol=1e-6)
    assert torch.stack(batches).std(0).max() > 0.01  # not because all are equal


def slope_of_map(adversary, readings):
    """Gradient of the moment loss in a linear map of the readings."""
    matrix = torch.eye(N_SENSORS).requires_grad_()
    loss = adversary.moment_loss(readings @ matrix)
    return torch.autograd.grad(loss, matrix)[0]


def test_the_gradient_is_that_of_half_the_squared_moment_distance(adversary):
    readings = stretched(adversary, 0.8, shift=0.2).double()
    adversary = adversary.double()

    def half_square(matrix):
        remember_moments(adversary, readings @ matrix)
        return adversary.moment_distance() ** 2 / 2

    matrix, direction = torch.eye(N_SENSORS).double(), draw(N_SENSORS).double() - 10
    remember_moments(adversary, readings)
    free = matrix.clone().requires_grad_()
    adversary.moment_loss(readings @ free).backward()
    expected = float((free.grad * direction).sum())
    above, below = (half_square(matrix + step * direction) for step in (1e-5, -1e-5))
    assert (above - below) / 2e-5 == pytest.approx(expected, rel=1e-6)


def test_running_moments_are_a_plain_mean_at_first(adversary):
    batches = [draw(BATCH, seed=n + 5) * 0.1 for n in range(4)]
    for step, batch in enumerate(batches):
        adversary.remember(batch, step)
    y = (torch.cat(batches) - adversary.centre) / adversary.spread
    torch.testing.assert_close(adversary.running_mean, y.mean(0))
    second = y.mT @ y / len(y)
    torch.testing.assert_close(adversary.running_covariance, second)


def test_running_moments_forget(adversary):
    for step in range(200):
        is_old = step < 100
        adversary.remember(stretched(adversary, 3.0 if is_old else 1.0)[:BATCH], step)
    y = (adversary.real[:BATCH] - adversary.centre) / adversary.spread
    # 0.95 to the power of 100 of eight times these moments remains, 5 %
    latest, now = y.mT @ y / BATCH, adversary.running_covariance
    torch.testing.assert_close(now, latest, rtol=0.06, atol=1e-4)


def test_the_pool_holds_the_latest_batches(adversary):
    for step in range(POOL_BATCHES + 3):
        adversary.remember(torch.full((BATCH, N_SENSORS), float(step)), step)
    kept = adversary.pool[:, 0].unique().tolist()
    assert kept == [float(step) for step in range(3, POOL_BATCHES + 3)]


def test_the_pool_is_full_from_the_first_batch_on(adversary):
    adversary.remember(torch.ones(BATCH, N_SENSORS), 0)
    assert torch.equal(adversary.pool, torch.ones(POOL_BATCHES * BATCH, N_SENSORS))


def test_what_is_remembered_has_no_gradient(adversary):
    batch = draw(BATCH).requires_grad_()
    adversary.remember(batch * 2, 0)
    assert not adversary.pool.requires_grad
    assert not adversary.running_covariance.requires_grad


def test_trained_critics_push_readings_towards_the_snapshots(adversary):
    shift = 1.0
    adversary.remember(stretched(adversary, 1.0, shift)[:BATCH], 0)
    optimiser = torch.optim.Adam(adversary.parameters(), 0.01)
    generator = torch.Generator().manual_seed(0)
    for _ in range(60):
        loss = adversary.critic_loss(BATCH, 5.0, generator)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    moved = torch.full((), shift, requires_grad=True)
    adversary.judge(adversary.real + moved).backward()
    assert moved.grad > 0.1


def test_there_is_a_critic_for_the_whole_and_one_per_subdomain(adversary):
    assert adversary.n_critics == 3
    assert [len(stack.seen) for stack in adversary.stacks] == [1, 2]
    assert sum(p.numel() for p in adversary.critics.parameters()) == sum(
        p.numel() for stack in adversary.stacks for p in stack.parameters()
    )
