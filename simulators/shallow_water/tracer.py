"""Advection of a tracer q by a wind, spectral in space: dq/dt = -V . grad(q).

Classical Runge-Kutta steps; the wind is given at all times, or is that of a model that
runs beside the tracer. Nothing keeps q positive: a spectral method undershoots where a
tracer has kinks. With a wind without divergence the mean of q is kept to round-off.
"""

from collections.abc import Callable, Iterable

from torch import Tensor

from simulators.shallow_water.state import State
from simulators.sphere import SphericalHarmonics

Wind = tuple[Tensor, Tensor]  # u, v [m/s] on the grid, (..., lat, lon)


def advect(
    transform: SphericalHarmonics,
    tracer: Tensor,
    wind_at: Callable[[float], Wind],
    time_step: float,
    n_steps: int,
) -> Tensor:
    """Tracer after `n_steps` steps from time 0 in a given wind.

    Args:
        transform: of the tracer.
        tracer: coefficients (..., l, m), of any unit.
        wind_at: wind at a time [s], on the grid and in the dtype of the transform.
        time_step: dt [s]; stable to max|V| dt sqrt(T(T+1))/a = 2.83.
        n_steps: number of steps.
    """
    end = wind_at(0.0)
    for step in range(n_steps):
        start, middle, end = (
            end,
            wind_at((step + 0.5) * time_step),
            wind_at((step + 1) * time_step),
        )
        tracer = _step(transform, tracer, (start, middle, end), time_step)
    return tracer


def advect_in_flow(
    transform: SphericalHarmonics,
    tracer: Tensor,
    states: Iterable[State],
    interval: float,
) -> Tensor:
    """Tracer after it went with the flow of a model from its first to its last state.

    A step spans two intervals, so that the state between gives the wind at half time.

    Args:
        transform: of the tracer and the states.
        tracer: coefficients (..., l, m), of any unit, at the time of the first state.
        states: at equal intervals, an odd number of them; may come as a model runs.
        interval: between them [s], half the time step of the tracer.

    Raises:
        ValueError: if the number of states is even.
    """
    winds = (transform.wind(state.vorticity, state.divergence) for state in states)
    start = next(winds)
    # strict: a last state without its partner would be lost
    for middle, end in zip(winds, winds, strict=True):
        tracer = _step(transform, tracer, (start, middle, end), 2 * interval)
        start = end
    return tracer


def _step(
    transform: SphericalHarmonics,
    tracer: Tensor,
    winds: tuple[Wind, Wind, Wind],
    time_step: float,
) -> Tensor:
    """One Runge-Kutta step; winds at its start, middle and end."""
    start, middle, end = winds

    def tendency(tracer: Tensor, wind: Wind) -> Tensor:
        east, north = transform.gradient(tracer)
        return -transform.analyse(wind[0] * east + wind[1] * north)

    k1 = tendency(tracer, start)
    k2 = tendency(tracer + time_step / 2 * k1, middle)
    k3 = tendency(tracer + time_step / 2 * k2, middle)
    k4 = tendency(tracer + time_step * k3, end)
    return tracer + time_step / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
