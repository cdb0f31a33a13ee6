"""Runs of shallow water: order, restarts, gradients, failures, chunks, diffusion."""

import math
from itertools import pairwise

import pytest
import torch

from simulators.shallow_water import ShallowWater, State
from simulators.sphere import (
    Diffusion,
    IntegrationError,
    RedNoise,
    RungeKutta4,
    SemiImplicit,
    Snapshot,
    SphericalHarmonics,
    gauss_grid_for,
    integrate,
    integration,
    start_noise,
)

SCHEMES = [RungeKutta4(1200.0), SemiImplicit(1800.0)]
HOUR, DAY = 3600.0, 86400.0


def fields_of(state):
    return state.vorticity, state.divergence, state.geopotential


def same(state, other):
    pairs = zip(fields_of(state), fields_of(other), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)


def end_of(*arguments):
    *_, last = integrate(*arguments)
    return last


@pytest.fixture(scope="module")
def harmonics():
    return SphericalHarmonics(gauss_grid_for(21), 21)


@pytest.fixture(scope="module")
def model(harmonics):
    return ShallowWater(harmonics, diffusion=Diffusion(6 * HOUR))


def errors_of(model, state, schemes, duration_s):
    exact = end_of(model, state, RungeKutta4(60.0), duration_s).state
    scale = [x.abs().max() for x in fields_of(exact)]
    results = [end_of(model, state, scheme, duration_s).state for scheme in schemes]
    return torch.tensor(
        [
            max(
                (x - y).abs().max() / s
                for x, y, s in zip(fields_of(got), fields_of(exact), scale, strict=True)
            )
            for got in results
        ]
    )


def smooth_state(random_state, truncation):
    """Few waves, so that the error of time is not that of the shortest ones."""
    state = random_state(truncation)
    l = torch.arange(truncation + 1)[:, None]
    return State(*(x * (l <= 4) for x in fields_of(state)))


def test_runge_kutta_is_of_order_four(harmonics, random_state):
    schemes = [RungeKutta4(dt) for dt in (900.0, 450.0)]
    state = smooth_state(random_state, 21)
    errors = errors_of(ShallowWater(harmonics), state, schemes, 6 * HOUR)
    order = math.log2(errors[0] / errors[1])
    assert 3.8 < order < 4.2, f"observed order {order:.2f}"


@pytest.mark.parametrize(
    ("strength", "weight", "step", "expected"),
    [
        (0.0, 0.53, 240.0, 2.0),
        (0.2, 1.0, 240.0, 1.0),
        # the default, T21: 2.0 from 1800 to 225 s, then 1.7 and falling to 1, as what
        # it leaves of first order shows at short steps
        (0.2, 0.53, 900.0, 2.0),
        (0.2, 0.53, 60.0, 1.25),
    ],
)
def test_the_leapfrog_has_the_order_that_its_filter_leaves(
    harmonics, random_state, strength, weight, step, expected
):
    schemes = [
        SemiImplicit(dt, filter_strength=strength, filter_weight=weight)
        for dt in (step, step / 2)
    ]
    state = smooth_state(random_state, 21)
    errors = errors_of(ShallowWater(harmonics), state, schemes, 6 * HOUR)
    order = math.log2(errors[0] / errors[1])
    assert abs(order - expected) < 0.2, f"observed order {order:.2f}"


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_restart_gives_the_bits_of_the_unbroken_run(model, random_state, scheme):
    noise = RedNoise(1e-10, 6 * HOUR, (4, 6))
    generators = [torch.Generator().manual_seed(i) for i in range(3)]
    start = Snapshot(0.0, random_state(21, 3), noise=start_noise(noise, generators))
    snapshots = list(integrate(model, start, scheme, 12 * HOUR, 4 * HOUR))
    assert [x.time_s for x in snapshots] == [4 * HOUR, 8 * HOUR, 12 * HOUR]
    continued = list(integrate(model, snapshots[0], scheme, 8 * HOUR, 4 * HOUR))
    for got, expected in zip(continued, snapshots[1:], strict=True):
        assert got.time_s == expected.time_s
        assert same(got.state, expected.state)


def test_a_leapfrog_continues_with_its_own_step_only(model, random_state):
    snapshot = end_of(model, random_state(21), SemiImplicit(1800.0), 4 * HOUR)
    with pytest.raises(ValueError, match=r"step of its snapshot, 1800.0 s; got 900"):
        end_of(model, snapshot, SemiImplicit(900.0), HOUR)
    end_of(model, Snapshot(0.0, snapshot.state), SemiImplicit(900.0), HOUR)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_step_divides_the_output_interval(model, random_state, scheme):
    snapshots = list(integrate(model, random_state(21), scheme, 2 * HOUR, HOUR))
    expected = HOUR / math.ceil(HOUR / scheme.time_step_s)
    assert [x.time_step_s for x in snapshots] == [expected, expected]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_mass_and_mean_vorticity_do_not_change(model, random_state, scheme):
    state = random_state(21, 2)
    end = end_of(model, state, scheme, 2 * DAY).state
    for x, y in zip(fields_of(state), fields_of(end), strict=True):
        assert torch.equal(x[..., 0, 0], y[..., 0, 0])


@pytest.mark.parametrize("scheme", SCHEMES)
def test_chunks_of_members_are_members(model, random_state, scheme, monkeypatch):
    state = random_state(21, 5)
    together = end_of(model, state, scheme, 6 * HOUR).state
    monkeypatch.setattr(integration, "MEMBERS_PER_CHUNK", 2)
    apart = end_of(model, state, scheme, 6 * HOUR).state
    for x, y in zip(fields_of(together), fields_of(apart), strict=True):
        assert (x - y).abs().max() < 1e-11 * x.abs().max()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_gradients_through_twelve_steps_pass_the_taylor_test(
    model, random_state, scheme
):
    state, direction = random_state(21, 2), random_state(21, 2, seed=1)
    leaves = [x.clone().requires_grad_() for x in fields_of(state)]

    def loss(fields):
        end = end_of(model, State(*fields), scheme, 12 * scheme.time_step_s).state
        pairs = zip(fields_of(end), (1e10, 1e12, 1e-8), strict=True)
        return sum(((x.abs() ** 2).sum() * scale) for x, scale in pairs)

    value = loss(leaves)
    gradients = torch.autograd.grad(value, leaves)
    moves = [x.clone() for x in fields_of(direction)]
    moves[2][..., 0, 0] = 0
    moves[2] /= 30
    pairs = zip(gradients, moves, strict=True)
    slope = sum((g.conj() * d).real.sum() for g, d in pairs)
    rests = []
    for size in (0.1, 0.05, 0.025):
        moved = [x + size * d for x, d in zip(fields_of(state), moves, strict=True)]
        rests.append(abs(float(loss(moved) - value.detach() - size * slope)))
    orders = [math.log2(a / b) for a, b in pairwise(rests)]
    assert all(1.9 < order < 2.1 for order in orders), orders


def test_a_member_that_fails_is_named_with_its_step_and_last_state(
    harmonics, random_state, monkeypatch
):
    """A step far too long for the one member that moves."""
    monkeypatch.setattr(integration, "check_time_step", lambda *_: None)
    state = random_state(21, 3)
    moving = torch.tensor([0.0, 1.0, 0.0])[:, None, None]
    depth = state.geopotential.clone()
    depth[[0, 2], 1:] = 0
    state = State(state.vorticity * moving, state.divergence * moving, depth)
    seeds = [torch.Generator().manual_seed(i) for i in range(3)]
    faint = start_noise(RedNoise(1e-30, 6 * HOUR, (4, 6)), seeds)
    start = Snapshot(0.0, state, noise=faint)
    run = integrate(ShallowWater(harmonics), start, RungeKutta4(7200.0), 40 * DAY)
    with pytest.raises(IntegrationError, match=r"members \[1\] did not at") as caught:
        next(run)
    error = caught.value
    assert error.members == (1,)
    assert error.last_good.time_s == (error.step - 1) * 7200.0
    assert error.last_good.state.geopotential.shape == (1, 22, 22)
    depth = harmonics.synthesise(error.last_good.state.geopotential)
    assert (depth > 0).all()


def test_bad_runs_are_refused(model, random_state):
    with pytest.raises(ValueError, match=r"divide duration_s; got 5000.0 s of 7200.0"):
        end_of(model, random_state(21), SemiImplicit(600.0), 2 * HOUR, 5000.0)
    with pytest.raises(ValueError, match="must be positive and finite"):
        RungeKutta4(0.0)
    with pytest.raises(ValueError, match=r"implicit_weight must be in \[0.5, 1\]"):
        SemiImplicit(600.0, implicit_weight=0.4)


def test_diffusion_damps_the_shortest_wave_in_its_time(harmonics):
    coriolis = torch.zeros(22, 22, dtype=torch.complex128)
    geopotential, vorticity = torch.zeros_like(coriolis), torch.zeros_like(coriolis)
    geopotential[0, 0] = math.sqrt(2) * 1e5
    vorticity[21, 0], vorticity[10, 0] = 1e-9, 1e-9
    start = State(vorticity, torch.zeros_like(coriolis), geopotential)
    for order in (4, 8):
        diffusion = Diffusion(10 * HOUR, order)
        model = ShallowWater(harmonics, coriolis, diffusion=diffusion)
        ratio = (10 * 11 / (21 * 22)) ** (order // 2)
        for scheme, accuracy in (
            (RungeKutta4(600.0), 1e-4),
            (SemiImplicit(60.0), 1e-2),
        ):
            end = end_of(model, start, scheme, 10 * HOUR).state.vorticity
            assert abs(end[21, 0] / 1e-9 - math.exp(-1)) < accuracy
            assert abs(end[10, 0] / 1e-9 - math.exp(-ratio)) < accuracy
    with pytest.raises(ValueError, match="order must be 4 or 8"):
        Diffusion(HOUR, 2)
    with pytest.raises(ValueError, match="e_folding_time_s must be positive"):
        Diffusion(0.0)


@pytest.mark.slow
# torch.compile itself imports what it has deprecated
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_a_compiled_model_agrees(harmonics, model, random_state):
    compiled = ShallowWater(harmonics, diffusion=model.diffusion, compiled=True)
    for scheme in SCHEMES:
        plain = end_of(model, random_state(21, 2), scheme, 12 * HOUR).state
        other = end_of(compiled, random_state(21, 2), scheme, 12 * HOUR).state
        for x, y in zip(fields_of(plain), fields_of(other), strict=True):
            assert (x - y).abs().max() < 1e-11 * x.abs().max()
