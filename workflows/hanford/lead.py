"""The opening words of a Hanford report: prior, answer, and what was learned."""

from collections.abc import Mapping, Sequence
from typing import Any

from workflows.hanford.learning import BATCHES

Facts = Mapping[str, Any]  # of JSON


def describe_prior(prior: Facts, kernel: str, *, is_synthetic: bool) -> str:
    """What the measurements are, and the covariance that goes with them."""
    field = "generated field" if is_synthetic else "calibrated model"
    source = (
        "given by the user"
        if prior["has_own_measurements"]
        else f"ln T of the {field} at randomly chosen cells, no field tests"
    )
    words = (
        f"{prior['measurements']} measurements of ln T ({source}) condition a Gaussian "
        f"prior ({kernel}, variance {prior['variance']:.2f}, correlation length "
        f"{prior['correlation_length_m'] / 1000:.2f} km, nugget "
        f"{prior['nugget']:.2f}). "
    )
    if not prior["is_length_determined"]:
        words += (
            "The correlation length exceeds the extent of the measurements: they show "
            "a trend, and neither length nor variance is determined. "
        )
    return words


def describe_answer(prior: Facts, statistics: Facts) -> str:
    """How uncertain the head is, and whether the reference field contradicts that."""
    n_failed = len(statistics["failed"])
    words = (
        f"{statistics['members'] - n_failed} of {statistics['members']} members were "
        f"simulated, {n_failed} failed and are left out. The head is uncertain by "
        f"{statistics['head_deviation_median_m']:.2f} m (median deviation over cells)"
    )
    if prior["has_own_measurements"]:
        return f"{words}."
    share, lowest = (
        statistics["reference_coverage"],
        statistics["lowest_plausible_coverage"],
    )
    words += (
        f"; the 90 % interval holds the reference head in {share:.0%} of the cells. Of "
        f"fields drawn from the model itself 95 % have more than {lowest:.0%}"
    )
    if share >= lowest:
        return f"{words}, so the reference does not contradict the intervals."
    return (
        f"{words}: the intervals are too narrow. They take the covariance as known and "
        "the field as stationary."
    )


def describe_learning(
    rmse: Mapping[str, Sequence[float]], evaluation: Facts, costs: Mapping[str, float]
) -> str:
    """Errors of network and baselines, and which of network and solver is faster."""
    if "network" not in rmse:
        *_, cause = evaluation["failed_networks"].values()
        return (
            "The training of the network on the most members stopped itself, so there "
            f"is none to compare: {cause} Ridge regression predicts the head of unseen "
            f"members to {rmse['ridge'][0]:.3f} m, the ensemble mean to "
            f"{rmse['mean'][0]:.3f} m."
        )
    batch = BATCHES[-1]
    ratio = costs[f"network_{batch}_s"] / costs[f"solver_{batch}_s"]
    value, low, high = rmse["network"]
    words = (
        f"The network predicts the head of unseen members to {value:.3f} m "
        f"({low:.3f} to {high:.3f}), ridge regression to {rmse['ridge'][0]:.3f} m, the "
        f"ensemble mean to {rmse['mean'][0]:.3f} m. With {batch} members per call the "
    )
    if ratio > 1:
        return (
            f"{words}simulator is {ratio:.1f} times faster than the network, and "
            "solves the discrete equations to round-off: here the network is no "
            "replacement."
        )
    return f"{words}network is {1 / ratio:.1f} times faster than the simulator."
