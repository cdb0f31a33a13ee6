import pytest
import torch
from torch import nn

from surrogates.pigan.critics import CriticStack

PARTS = [torch.tensor([0, 2, 3]), torch.tensor([1, 4]), torch.tensor([4])]
N_SENSORS = 5
TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-14}  # slopes are below 0.1


def stack_of(parts, dtype=torch.float64, seed=0, width=7):
    torch.manual_seed(seed)
    stack = CriticStack(parts, N_SENSORS, width).to(dtype)
    for bias in (stack.first_bias, stack.second_bias):  # zeros would hide their part
        nn.init.normal_(bias)
    return stack


def draw(n, n_sensors=N_SENSORS, seed=1, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, n_sensors, generator=generator, dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_closed_form_of_the_slope_is_the_gradient_of_the_score(dtype):
    stack = stack_of(PARTS, dtype)
    seen = stack.gather(draw(9, dtype=dtype)).requires_grad_()
    (slope,) = torch.autograd.grad(stack.score(seen).sum(), seen)
    expected = slope * stack.is_read  # padded readings never move
    assert expected.abs().max() > 0.01
    is_read = stack.seen < N_SENSORS  # (critics, seen)
    expected = expected.where(is_read[:, None], 0)
    atol = TOLERANCE[dtype]
    torch.testing.assert_close(stack.gradient(seen), expected, rtol=0, atol=atol)


def test_weights_of_padded_readings_have_no_gradient():
    stack = stack_of(PARTS)
    mix = torch.linspace(0, 1, 9)[:, None].double()
    stack.loss(draw(9), draw(9, seed=2), mix, penalty=5.0).sum().backward()
    is_padded = stack.seen == N_SENSORS
    assert stack.first.grad[is_padded].abs().max() == 0
    assert (stack.first.grad[~is_padded] != 0).all()


def test_parameter_gradients_of_the_loss_equal_finite_differences():
    stack = stack_of(PARTS)
    real, fake = draw(6), draw(6, seed=2)
    mix = torch.linspace(0, 1, 6)[:, None].double()

    def loss():
        return stack.loss(real, fake, mix, penalty=5.0).sum()

    loss().backward()
    for name, parameter in stack.named_parameters():
        direction = draw(1, parameter.numel(), seed=3).reshape(parameter.shape)
        expected = float((parameter.grad * direction).sum())
        values = []
        for step in (1e-5, -1e-5):
            with torch.no_grad():
                parameter.add_(direction, alpha=step)
                values.append(float(loss()))
                parameter.sub_(direction, alpha=step)
        difference = (values[0] - values[1]) / 2e-5
        assert difference == pytest.approx(expected, rel=1e-6, abs=1e-8), name


def alone(stack, number):
    """One critic of a stack by itself, without padding."""
    part = PARTS[number]
    critic = CriticStack([part], N_SENSORS, stack.first.shape[-1]).double()
    with torch.no_grad():
        for name, parameter in critic.named_parameters():
            parameter.copy_(getattr(stack, name)[[number], : parameter.shape[1]])
    return critic


@pytest.mark.parametrize("number", [0, 1, 2])
def test_scores_of_a_stack_equal_those_of_its_critics_alone(number):
    stack, readings = stack_of(PARTS), draw(9)
    critic = alone(stack, number)
    expected = critic.score(critic.gather(readings))[0]
    score = stack.score(stack.gather(readings))[number]
    torch.testing.assert_close(score, expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_losses_of_a_stack_equal_those_of_its_critics_alone(number):
    stack, mix = stack_of(PARTS), torch.linspace(0, 1, 9)[:, None].double()
    pair = draw(9), draw(9, seed=2)
    expected = alone(stack, number).loss(*pair, mix, penalty=5.0)[0]
    loss = stack.loss(*pair, mix, penalty=5.0)[number]
    torch.testing.assert_close(loss, expected, rtol=0, atol=1e-13)


def test_a_critic_is_blind_to_sensors_outside_its_subdomain():
    stack, readings = stack_of(PARTS), draw(9)
    moved = readings.clone()
    moved[:, [0, 2, 3]] += 10
    before, after = (stack.score(stack.gather(r)) for r in (readings, moved))
    assert torch.equal(before[1:], after[1:])
    assert not torch.equal(before[0], after[0])


def unit_slope_critic(slope):
    """f = slope · (0.6 r₀ + 0.8 r₁) + constant: SiLU is linear far from zero."""
    stack = CriticStack([torch.arange(2)], 2, width=1).double()
    with torch.no_grad():
        stack.first.copy_(torch.tensor([[[0.6], [0.8]]], dtype=torch.float64))
        stack.first_bias.fill_(50)
        stack.second.fill_(1)
        stack.second_bias.fill_(50)
        stack.last.fill_(slope)
    return stack


@pytest.mark.parametrize(("slope", "penalty"), [(1.0, 0.0), (3.0, 4.0), (0.5, 0.25)])
def test_the_penalty_is_the_squared_miss_of_unit_slope(slope, penalty):
    real, fake = draw(9, 2), draw(9, 2, seed=2)
    mix, direction = draw(9, 1), torch.tensor([0.6, 0.8], dtype=torch.float64)
    gap = slope * ((fake - real) @ direction).mean()
    loss = unit_slope_critic(slope).loss(real, fake, mix, penalty=5.0)
    expected = (gap + 5 * penalty)[None]
    torch.testing.assert_close(loss, expected, rtol=0, atol=1e-11)


def test_a_trained_critic_tells_the_wasserstein_distance_of_shifted_gaussians():
    torch.manual_seed(0)
    shift = torch.tensor([0.9, -1.2])  # W₁ of N(0, I) and its shift is |shift| = 1.5
    stack = CriticStack([torch.arange(2)], 2, width=16)
    optimiser = torch.optim.Adam(stack.parameters(), 0.01, (0.0, 0.9))
    for _ in range(250):
        real, fake = torch.randn(128, 2) + shift, torch.randn(128, 2)
        loss = stack.loss(real, fake, torch.rand(128, 1), penalty=20.0).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    # pairs of equal noise: the difference of mean scores is free of sampling error
    noise = torch.randn(4096, 2)
    with torch.no_grad():
        real, fake = (stack.score(stack.gather(r)) for r in (noise + shift, noise))
    distance = float((real - fake).mean())
    # a soft penalty p lets the slope reach 1 + W₁/2p = 1.04; the rest is training
    assert abs(distance - 1.5) < 0.1 * 1.5, f"expected 1.5; got {distance:.3f}"
