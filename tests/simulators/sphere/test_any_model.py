"""The time loop on a second model: a Rossby wave of the linear barotropic equation.

    d zeta/dt = -(2 Omega/a^2) d psi/d lambda - K zeta,   psi = -a^2/(l(l+1)) zeta

Each coefficient turns as exp(i m 2 Omega t/(l(l+1))) and decays by its rate, exactly
(Haurwitz 1940). The model has one field, a plain tensor for a state, and no fast terms;
nothing here knows shallow water.
"""

import math

import pytest
import torch

from simulators.sphere import (
    Diffusion,
    IntegrationError,
    Propagator,
    RedNoise,
    RungeKutta4,
    SemiImplicit,
    Snapshot,
    StartError,
    gauss_grid_for,
    integrate,
    start_noise,
)
from simulators.sphere.packed import PackedTransform

OMEGA = 7.292e-5  # [1/s]
HOUR, DAY = 3600.0, 86400.0
T = 10
NEUTRAL = SemiImplicit(HOUR / 4, filter_strength=0.0)
SCHEMES = [RungeKutta4(HOUR), NEUTRAL]


class RossbyWaves:
    """Satisfies `SphereModel` by its shape alone."""

    n_fields, requirement, compiled, forcing = 1, "below 1 per second", False, None

    def __init__(self, diffusion=None):
        self.transform = PackedTransform(gauss_grid_for(T), T)
        l = torch.arange(T + 1, dtype=torch.float64)[:, None]
        m = torch.arange(T + 1, dtype=torch.float64)
        self.frequency = torch.where(
            (l > 0) & (m <= l), 2 * OMEGA * m / (l * (l + 1)), 0
        )
        self.rate, self.damping = torch.zeros_like(l), None
        if diffusion is not None:
            self.rate = diffusion.rate(l, T)
            degree = self.transform.degree.double().clamp(max=T)
            self.damping = diffusion.rate(degree, T)[:, None, None]

    def pack(self, state):
        return self.transform.pack(state[None]).contiguous()

    def unpack(self, rows):
        return self.transform.unpack(rows)[0]

    def explicit(self, rows):
        return self.pack(1j * self.frequency * self.unpack(rows))

    def implicit(self, rows):
        return torch.zeros_like(rows)

    def implicit_inverse(self, before, tendency, interval_s, weight):
        later = before + interval_s * tendency
        if self.damping is None:
            return later
        return later / (1 + interval_s * self.damping)

    def is_sound(self, rows):
        return (rows.abs() < 1).flatten(0, 1).all(0)  # NaN is not

    def largest_time_step(self, state, scheme):
        limit = 2.83 if isinstance(scheme, RungeKutta4) else 1.0
        return limit / float(self.frequency.max())

    def exact(self, state, time_s):
        return state * torch.exp((1j * self.frequency - self.rate) * time_s)


def waves(*batch, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (*batch, T + 1, T + 1, 2)
    noise = torch.randn(shape, generator=generator, dtype=torch.float64)
    state = 1e-5 * torch.view_as_complex(noise).tril()
    state[..., 0].imag.zero_()
    return state


def end_of(*arguments):
    *_, last = integrate(*arguments)
    return last.state


def observed_order(model, schemes, duration_s):
    state = waves()
    exact = model.exact(state, duration_s)
    errors = [
        float((end_of(model, state, x, duration_s) - exact).norm()) for x in schemes
    ]
    return math.log2(errors[0] / errors[1])


@pytest.mark.parametrize(
    ("scheme", "diffusion", "expected"),
    [
        (RungeKutta4, None, 4),
        # applied exactly, and it commutes with the waves
        (RungeKutta4, Diffusion(DAY), 4),
        (lambda dt: SemiImplicit(dt / 4, filter_strength=0.0), None, 2),
        # the backward Euler step of diffusion
        (lambda dt: SemiImplicit(dt / 16, filter_strength=0.0), Diffusion(DAY), 1),
    ],
)
def test_a_wave_turns_and_decays_with_the_order_of_the_scheme(
    scheme, diffusion, expected
):
    schemes = [scheme(dt) for dt in (2 * HOUR, HOUR)]
    order = observed_order(RossbyWaves(diffusion), schemes, 2 * DAY)
    assert abs(order - expected) < 0.2, f"expected {expected}; observed {order:.2f}"


def test_a_wave_is_where_the_formula_says():
    model, state = RossbyWaves(Diffusion(DAY)), waves(2, 3)
    got = end_of(model, state, RungeKutta4(600.0), DAY)
    expected = model.exact(state, DAY)
    assert got.shape == state.shape
    # l = m = 1 turns fastest, 0.044 in each of 144 steps: 144 x 0.044^5/120 = 2e-7
    assert (got - expected).abs().max() < 3e-7 * state.abs().max()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_restart_with_noise_gives_the_bits_of_the_unbroken_run(scheme):
    generators = [torch.Generator().manual_seed(i) for i in range(3)]
    noise = start_noise(RedNoise(1e-11, 6 * HOUR, (3, 5)), generators)
    start = Snapshot(0.0, waves(3), noise=noise)
    first, last = integrate(RossbyWaves(), start, scheme, 8 * HOUR, 4 * HOUR)
    (again,) = integrate(RossbyWaves(), first, scheme, 4 * HOUR)
    assert torch.equal(again.state, last.state)
    silent = end_of(RossbyWaves(), waves(3), scheme, 8 * HOUR)
    assert not torch.equal(again.state, silent)


def test_a_forcing_is_added():
    model, state = RossbyWaves(), torch.zeros(T + 1, T + 1, dtype=torch.complex128)
    model.forcing = lambda time_s: waves(seed=1) * (model.frequency == 0) * 1e-5
    end = end_of(model, state, RungeKutta4(HOUR), DAY)
    expected = DAY * model.forcing(0.0)
    assert (end - expected).abs().max() < 1e-12 * expected.abs().max()


def test_the_propagator_and_errors_use_what_the_model_says_of_its_states():
    model = RossbyWaves()
    advance = Propagator(model, RungeKutta4(HOUR), 6 * HOUR)
    bad = waves(3)
    bad[1] = torch.nan
    later = advance(bad[:, None])
    assert later[1].isnan().all()
    expected = model.exact(bad[::2], 6 * HOUR)
    assert (later[::2, 0] - expected).abs().max() < 1e-3 * expected.abs().max()
    with pytest.raises(StartError, match=r"below 1 per second; got members \[1\]"):
        end_of(model, bad, RungeKutta4(HOUR), HOUR)
    with pytest.raises(StartError, match=r"time_step_s must be at most 38809 s"):
        Propagator(model, RungeKutta4(DAY), DAY)(waves(2)[:, None])
    with pytest.raises(ValueError, match=r"\(members, 1, 11, 11\)"):
        advance(waves(2))


def test_a_member_that_leaves_what_is_sound_is_named():
    model = RossbyWaves()
    model.forcing = lambda time_s: (model.frequency == 0) * (1e-4 + 0j)
    with pytest.raises(IntegrationError, match="stay below 1 per second") as caught:
        end_of(model, waves(2), RungeKutta4(HOUR), DAY)
    assert caught.value.members == (0, 1)
    # 1e-4 per second and second: beyond 1 in the third hour
    assert caught.value.step == 3
    assert caught.value.last_good.state.shape == (2, T + 1, T + 1)


def test_gradients_flow_through_another_model():
    model = RossbyWaves(Diffusion(DAY))

    def loss(state):
        return end_of(model, state, NEUTRAL, 2 * HOUR)

    state, direction = waves().requires_grad_(), waves(seed=1)
    (slope,) = torch.autograd.grad(loss(state).abs().square().sum(), state)
    # linear: the derivative along a direction is 2 <M x, M d>
    expected = 2 * (loss(waves()).conj() * loss(direction)).real.sum()
    found = (slope.conj() * direction).real.sum()
    assert float(found) == pytest.approx(float(expected))
