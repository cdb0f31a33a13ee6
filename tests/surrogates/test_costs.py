"""What a call costs."""

from surrogates import costs


def test_the_cost_of_a_call_is_the_median_after_a_first_one(monkeypatch):
    clock = iter([0.0, 1.0, 1.0, 4.0, 4.0, 6.0])  # calls of 1, 3 and 2 seconds
    calls = []
    monkeypatch.setattr(costs.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(costs, "MIN_SECONDS", 5.0)
    assert costs.seconds_per_call(lambda: calls.append(1)) == 2.0
    assert len(calls) == 4
