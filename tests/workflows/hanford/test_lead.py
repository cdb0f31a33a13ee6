import pytest

from workflows.hanford import lead

PRIOR = {
    "measurements": 12,
    "has_own_measurements": False,
    "is_length_determined": True,
    "variance": 2.5,
    "correlation_length_m": 2400.0,
    "nugget": 0.1,
}
STATISTICS = {
    "members": 100,
    "failed": [[3, 77, "why"]],
    "head_deviation_median_m": 0.75,
    "reference_coverage": 0.74,
    "lowest_plausible_coverage": 0.70,
}
RMSE = {"network": [0.1, 0.09, 0.11], "ridge": [0.4, 0.3, 0.5], "mean": [1.0, 0.9, 1.1]}


def test_published_sets_are_called_what_they_are():
    words = lead.describe_prior(PRIOR, "matern52", is_synthetic=False)
    assert "12 measurements of ln T (ln T of the calibrated model at" in words
    assert "2.40 km" in words
    own = {**PRIOR, "has_own_measurements": True, "is_length_determined": False}
    words = lead.describe_prior(own, "matern52", is_synthetic=False)
    assert "(given by the user)" in words
    assert "neither length nor variance is determined" in words
    assert "generated" in lead.describe_prior(PRIOR, "matern52", is_synthetic=True)


@pytest.mark.parametrize(
    ("coverage", "verdict"),
    [(0.74, "does not contradict"), (0.69, "the intervals are too narrow")],
)
def test_coverage_is_judged_by_what_the_model_itself_does(coverage, verdict):
    statistics = {**STATISTICS, "reference_coverage": coverage}
    words = lead.describe_answer(PRIOR, statistics)
    assert verdict in words
    assert "99 of 100 members were simulated, 1 failed" in words


def test_own_measurements_are_not_compared_with_the_published_field():
    words = lead.describe_answer({**PRIOR, "has_own_measurements": True}, STATISTICS)
    assert "reference" not in words


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (0.4, "With 128 members per call the simulator is 4.0 times faster"),
        (0.05, "the network is 2.0 times faster than the simulator."),
    ],
)
def test_the_faster_of_solver_and_network_is_named(network, words):
    costs = {"network_128_s": network, "solver_128_s": 0.1}
    assert words in lead.describe_learning(RMSE, {"failed_networks": {}}, costs)
