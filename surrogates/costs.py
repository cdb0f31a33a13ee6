"""The cost of an answer, measured the same way for simulator and surrogate."""

import statistics
import time
from collections.abc import Callable

MIN_SECONDS = 0.3  # of each measurement


def seconds_per_call(call: Callable[[], object]) -> float:
    """Median time of a call, over at least `MIN_SECONDS`; the first one is left out."""
    call()
    times: list[float] = []
    while sum(times) < MIN_SECONDS:
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return statistics.median(times)
