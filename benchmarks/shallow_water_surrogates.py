"""Networks on the sphere beside baselines and solvers, over seeds.

    python -m benchmarks.shallow_water_surrogates [--markdown] [--seeds 3]
                                                  [--set KEY=VALUE ...]

Runs `workflows.shallow_water` once per seed (flows, networks and choices all follow the
seed) and prints means over seeds with 90 % intervals, Student's t. Error is the
relative l2 error of vorticity against the truth, which is cut at the truncation of the
networks; skill is 1 - MSE/MSE of persistence over one interval. Three seeds take about
50 minutes on two cores.
"""

import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.rows import parser_of, print_row
from benchmarks.surrogate_accuracy import with_interval
from simulators.sphere import change_truncation
from surrogates.sphere.flow_scores import vorticity_error
from workflows.engine.driving.journal import read_journal
from workflows.shallow_water import models
from workflows.shallow_water.fields import (
    HOUR_S,
    TRUTH_DIFFUSION,
    FlowRecord,
    draw_states,
    propagator_of,
)
from workflows.shallow_water.steps import solve_flows

SETTINGS = {  # the networks themselves; steering has a benchmark of its own
    "steering.mode": "none",
    "ensemble.members": "144",
    "ensemble.test_members": "32",
    "train.steps": "1000",
    "hybrid.steps": "600",
    "hybrid.rollout_steps": "60",
}
BOUND_MEMBERS, BOUND_HOURS = 32, (6, 24)
KINDS = {"jet": "jets", "random": "random states"}
DAYS = ("1", "2", "3", "4", "5")
COARSE, FINER = models.solver(42), models.solver(63)
Facts = Mapping[str, Any]  # of JSON


def main() -> None:
    """Prints a line or a table row per model, kind of flow and score."""
    parser = parser_of(str(__doc__))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()
    settings = [f"{key}={value}" for key, value in SETTINGS.items()] + arguments.set
    found = [evaluate(seed, settings) for seed in range(arguments.seeds)]
    show = partial(print_row, markdown=arguments.markdown)
    facts, timings = zip(*found, strict=True)
    for kind in KINDS:
        show_skill(facts, kind, show)
        show_errors(facts, kind, show)
        show_correction(facts, kind, show)
    show_costs(timings, show)
    show_bound(show)


def evaluate(seed: int, settings: Sequence[str]) -> tuple[Facts, Facts]:
    """Facts and timings of the evaluation of one run.

    Raises:
        RuntimeError: the run failed.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "run"
        words = ["--run-dir", str(folder), "--seed", str(seed)]
        words += [word for setting in settings for word in ("--set", setting)]
        done = subprocess.run(
            [sys.executable, "-m", "workflows.shallow_water", *words],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"the run of seed {seed} failed:\n{done.stderr}")
        print(f"seed {seed}: {done.stdout}", file=sys.stderr, flush=True)
        lines = read_journal(folder / "journal.jsonl")
        (line,) = (line for line in lines if "errors" in line["facts"])
        return line["facts"], line["timings"]


def show_skill(facts: Sequence[Facts], kind: str, show: partial[None]) -> None:
    """One-step skill of the networks, mass, spectra, horizon."""
    for model in facts[0]["one_step_skill"]:
        skills = [f["one_step_skill"][model][kind] for f in facts]
        names = ("vorticity", "divergence", "geopotential")
        words = [
            f"{name} {with_interval([skill[k] for skill in skills])}"
            for k, name in enumerate(names)
        ]
        show(
            (
                f"one-step skill of {model}, {KINDS[kind]}",
                ", ".join(words),
                "persistence 0, wanted 0.9",
                "–",
            )
        )
    drifts = facts[0]["mass_drift"]
    for model in (m for m in models.NETWORKS if m in drifts):
        ratios = [f["spectrum_ratio"][model][kind] for f in facts]
        drift = max(f["mass_drift"][model] for f in facts)
        spectra = "a rollout was not finite"
        if None not in ratios:
            low, high = min(r[0] for r in ratios), max(r[1] for r in ratios)
            spectra = f"E(l)/E_truth(l) {low:.2f} to {high:.2f}"
        horizons = ", ".join(str(f["horizon_h"][model][kind]) for f in facts)
        show(
            (
                f"{model} on day 5, {KINDS[kind]}: spectrum to 2/3 T; mass; horizon",
                f"{spectra}; drift {drift:.1e}; {horizons} h",
                "wanted 0.8 to 1.2; 0",
                "–",
            )
        )


def show_errors(facts: Sequence[Facts], kind: str, show: partial[None]) -> None:
    """Error of every model by day, with its share of the coarse solver's on day 5."""
    coarse = errors_of(facts, COARSE, kind)
    of_coarse = "not finite" if coarse is None else with_interval(coarse)
    for model in facts[0]["errors"]:
        by_seed = [f["errors"][model][kind] for f in facts]
        words = []
        for day in DAYS:
            values = [errors[day] for errors in by_seed]
            is_finite = None not in values
            words.append(
                with_interval([v[0] for v in values]) if is_finite else "not finite"
            )
        show(
            (
                f"error of {model}, {KINDS[kind]}, days 1 to 5",
                ", ".join(words),
                f"{COARSE} on day 5: {of_coarse}",
                share_of_coarse(facts, model, kind),
            )
        )


def show_correction(facts: Sequence[Facts], kind: str, show: partial[None]) -> None:
    """What corrections leave of the coarse solver's error, beside the finer one."""
    for model in [m for m in models.CORRECTIONS if m in facts[0]["errors"]]:
        show(
            (
                f"share of the error that {model} leaves, {KINDS[kind]}, day 5",
                share_of_coarse(facts, model, kind),
                f"{FINER}: {share_of_coarse(facts, FINER, kind)}; wanted 0.6",
                "–",
            )
        )


def show_costs(timings: Sequence[Facts], show: partial[None]) -> None:
    """Milliseconds per simulated member-day."""
    for name in timings[0]:
        if name.endswith("_member_day_s"):
            milliseconds = [1e3 * found[name] for found in timings]
            coarse = [1e3 * found[f"{COARSE}_member_day_s"] for found in timings]
            ratio = sum(milliseconds) / sum(coarse)
            show(
                (
                    f"cost of {name.removesuffix('_member_day_s')}",
                    f"{with_interval(milliseconds)} ms per member-day, one core",
                    f"{COARSE}: {with_interval(coarse)}",
                    f"{ratio:.2g}",
                )
            )


def show_bound(show: partial[None]) -> None:
    """What the truth itself keeps if it is cut to the truncation of the networks.

    A correction of the coarse solver knows what that truncation holds, once an
    interval; so does the truth here, which has no other error.
    """
    flow = FlowRecord(85, 42, int(DAYS[-1]), 6)
    states = draw_states(range(BOUND_MEMBERS), 0, flow.truth_truncation)
    truth, _ = solve_flows(flow, states, TRUTH_DIFFUSION)
    finer, coarser = flow.truth_truncation, flow.truncation
    for hours in BOUND_HOURS:
        model = propagator_of(finer, TRUTH_DIFFUSION, hours * HOUR_S)
        state = change_truncation(states, coarser)
        for _ in range(flow.days * 24 // hours):
            later = model(change_truncation(state, finer))
            state = change_truncation(later, coarser)
        errors = vorticity_error(state, truth[:, -1])
        for kind, name in enumerate(KINDS):
            of_kind = errors[kind::2]
            show(
                (
                    f"error of T{finer} cut to T{coarser} every {hours} h, "
                    f"{KINDS[name]}, day 5",
                    f"{float(of_kind.mean()):.3f} ({len(of_kind)} flows)",
                    "uncut 0; a correction sees no more",
                    "–",
                )
            )


def errors_of(facts: Sequence[Facts], model: str, kind: str) -> list[float] | None:
    """On day 5, by seed; None if a rollout was not finite."""
    found = [f["errors"][model][kind]["5"] for f in facts]
    return None if None in found else [mean for mean, *_ in found]


def share_of_coarse(facts: Sequence[Facts], model: str, kind: str) -> str:
    """Error on day 5 over that of the coarse solver, over seeds."""
    errors, coarse = (errors_of(facts, m, kind) for m in (model, COARSE))
    if errors is None or coarse is None:
        return "–"
    return with_interval([a / b for a, b in zip(errors, coarse, strict=True)])


if __name__ == "__main__":
    main()
