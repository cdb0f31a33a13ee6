"""The sections of a shallow-water report: flows, errors, scales, invariants, cost."""

from collections.abc import Mapping, Sequence
from typing import Any

from workflows.engine.pages.curves import training_curves
from workflows.engine.pages.report import Illustration, Section
from workflows.shallow_water import cost, figures, maps, models, scales, tables
from workflows.shallow_water.cost import Point

Facts = Mapping[str, Any]  # of JSON
Event = Mapping[str, Any]  # of JSON


def describe_flows(arrays: figures.Arrays, truncation: int) -> Section:
    """Maps of the truth and what became of it in each model."""
    learned = [m for m in models.with_array(arrays, "map") if m in models.MAPPED]
    rivals = [m for m in (models.solver(truncation),) if f"map_{m}" in arrays]
    shown = {
        "jet": "A jet that breaks: northern hemisphere, contours every 2·10⁻⁵ 1/s.",
        "random": "A random balanced state: the whole sphere.",
    }
    pictures = [
        Illustration(
            f"vorticity_{kind}",
            maps.vorticity_maps(arrays, kind, ["truth", *rivals, *learned]),
            f"{what} Vorticity of one test member, the same colours everywhere; errors "
            "are relative L2 errors over the sphere.",
        )
        for kind, what in shown.items()
    ]
    pictures += [
        Illustration(
            f"difference_{kind}",
            maps.difference_maps(arrays, kind, learned, models.DAY),
            "The truth, each network and their difference on day "
            f"{models.DAY}, the same member of the {models.KINDS[kind]}; differences "
            "have a scale of their own.",
        )
        for kind in shown
        if learned
    ]
    return Section("What the flows look like", figures=pictures)


def describe_errors(arrays: figures.Arrays, facts: Facts) -> Section:
    """Error against lead time, and the scores by day."""
    return Section(
        "How the error grows",
        [
            "Relative L2 error of vorticity on the sphere, against the truth cut to "
            "the waves of the networks. Persistence keeps the first state, climatology "
            "is the mean of the first training flows of the kind; a forecast must beat "
            "both. Carried vorticity is what the wind makes of the potential vorticity "
            "in steps of up to six hours, with nothing learned; the networks add to "
            "that, once it is corrected linearly. Solvers start from the same states "
            "with fewer waves."
        ],
        [
            Illustration(
                "errors",
                figures.error_curves(arrays),
                "Mean over the test members by lead time; bands are 90 % bootstrap "
                "intervals over members. A cross: a member is no longer finite.",
            )
        ],
        [
            *(tables.score_table(facts["errors"], kind) for kind in models.KINDS),
            tables.skill_table(facts["one_step_skill"]),
        ],
    )


def describe_scales(arrays: figures.Arrays, facts: Facts, truncation: int) -> Section:
    """Spectra, invariants, horizon."""
    return Section(
        "Scales and invariants",
        figures=[
            Illustration(
                "spectra",
                scales.energy_spectra(arrays, truncation),
                "Kinetic energy by degree, mean over test members. Dotted: two thirds "
                "of the truncation; grey: within 20 % of the truth up to there.",
            ),
            Illustration(
                "drift",
                scales.invariant_drift(arrays),
                "Change of energy and potential enstrophy since the first state: mean, "
                "and range over test members. The truth loses some to its diffusion. "
                f"{_describe_mass(facts['mass_drift'])}",
            ),
        ],
        tables=[tables.horizon_table(facts, float(arrays["leads_h"][-1]))],
    )


def describe_cost(points: Mapping[str, Sequence[Point]], truncation: int) -> Section:
    """Error against cost, and who wins where."""
    rivalry = " ".join(
        f"{models.KINDS[kind].capitalize()}: {words}."
        for kind, found in points.items()
        if (words := cost.describe_rivalry(found, truncation))
    )
    return Section(
        "What accuracy costs",
        figures=[
            Illustration(
                "cost",
                figures.error_against_cost(points),
                f"Error on day {models.DAY} with 90 % intervals against time per "
                "simulated day of a member on one core; down and to the left is "
                "better. A solver wins over a network if it has no more error in no "
                f"more time, within {cost.MARGIN:.0%}. {rivalry}",
            )
        ],
    )


def describe_training(
    events: Sequence[Event], tuning: Facts, steering: Facts
) -> Section:
    """Training curves, tuned solvers, and rounds of steering."""
    named = [{**e, "training": _network_of(e)} for e in events if "training_loss" in e]
    names = list(dict.fromkeys(e["training"] for e in named))
    colours = {models.label(m): models.colour(m) for m in models.NETWORKS}
    pictures = []
    if names:
        picture = Illustration(
            "training",
            training_curves(
                named,
                {name: colour for name, colour in colours.items() if name in names},
                held_out="one_minus_skill",
                training="training_loss",
                quantity="squared error left, as a share",
            ),
            "Held-out members: squared error of one interval over that of persistence, "
            "vorticity; they decide nothing. Training: the loss, the squared error as "
            "a share of what each pair lacks without the network. A dot: a training on "
            "more members begins, or a stage on rollouts.",
        )
        pictures.append(picture)
    return Section(
        "How the models were fitted",
        figures=pictures,
        tables=[
            tables.tuning_table(tuning),
            *([tables.steering_table(steering)] if steering["rounds"] else []),
        ],
    )


def _network_of(event: Event) -> str:
    """What a reader calls the network of an epoch, `<network> over <base>`."""
    network, base = str(event["training"]).split(" over ")
    return models.label("hybrid" if base == "solver" else network)


def _describe_mass(drift: Mapping[str, float | None]) -> str:
    finite = {m: v for m, v in drift.items() if v is not None}
    if not finite:
        return ""
    worst = max(finite, key=lambda m: finite[m])
    return (
        f"Mass changes by at most {finite[worst]:.1e} of itself ({models.label(worst)})"
        ", in the models that are shown."
    )
