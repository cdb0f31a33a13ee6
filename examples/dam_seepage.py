"""A study of one file: seepage through an earth dam whose conductivity is uncertain.

The dam is 40 m thick between a reservoir 10 m deep and a drain 2 m deep, with a clay
core in its middle. ln K of its columns is a Gaussian field around a mean that falls in
the core. `dam_seepage.awk`, the program that we could not change, finds the discharge q
and the water table h. A ridge regression learns h from the field's coordinates; the
mean of the training members is what it has to beat. The answer can be checked: q has a
closed form, q = (up^2 - down^2) / (2 sum dx/K), and h ends at the depth of the drain.

    python -m dam_seepage --size smoke     # in this folder
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import torch
from pydantic import Field

from simulators.external import LOG, ExternalSimulator, run_members
from simulators.random_fields import (
    Covariance,
    KarhunenLoeve,
    covariance_matrix,
    fields_from_coordinates,
    karhunen_loeve,
    sample_members,
)
from surrogates.ridge import fit_ridge
from surrogates.scores import mean_interval, rmse, rmse_interval
from workflows.engine.command import settings
from workflows.engine.command.command_line import Workflow, command_line
from workflows.engine.driving.tasks import Task
from workflows.engine.files.arrays import read_arrays, write_arrays
from workflows.engine.files.artefacts import Manifest, artefact
from workflows.engine.watching.events import Log

if TYPE_CHECKING:
    from workflows.engine.driving.campaign import Campaign
    from workflows.engine.pages.publishing import Answer

SMOKE = {"members": 40, "test_members": 10, "block": 10}
THICKNESS, UP, DOWN = 40.0, 10.0, 2.0  # m
PROGRAM = Path(__file__).with_suffix(".awk")


class DamConfig(settings.Section):
    """The field of ln K, with K in m/d."""

    columns: int = Field(default=80, ge=10)
    mean: float = Field(default=0.0, description="of ln K in the shoulders")
    core_contrast: float = Field(default=3.0, ge=0, description="drop of ln K, core")
    core_share: float = Field(default=0.2, gt=0, lt=1, description="of the thickness")
    variance: float = Field(default=0.5, gt=0)
    correlation_length_m: float = Field(default=5.0, gt=0)


class EnsembleConfig(settings.EnsembleConfig):
    """Members of the study."""

    members: Annotated[settings.Members, Field(ge=10)] = 400
    test_members: settings.TestMembers = 100
    block: settings.Block = 50


class SeepageConfig(settings.Section):
    """Everything that `--set` may change."""

    dam: DamConfig = DamConfig()
    ensemble: EnsembleConfig = EnsembleConfig()


class BlockRecord(settings.Section):
    """What one task is asked to simulate."""

    dam: DamConfig
    members: tuple[int, ...]
    seed: int


class LearnRecord(settings.Section):
    """What the evaluation has to know."""

    test_members: int
    seed: int


def field_of(dam: DamConfig) -> KarhunenLoeve:
    """The field of ln K on the middles of the columns."""
    x = (torch.arange(dam.columns, dtype=torch.float64) + 0.5) / dam.columns
    is_core = (x - 0.5).abs() < dam.core_share / 2
    mean = dam.mean - dam.core_contrast * is_core.double()
    points = THICKNESS * x[:, None]
    model = Covariance("matern32", dam.variance, dam.correlation_length_m)
    return karhunen_loeve(
        mean, covariance_matrix(points, points, model), variance_share=0.99
    )


def simulate(record: BlockRecord, folder: Path, log: Log) -> Manifest:
    """Draws members and runs the program on each."""
    dx = THICKNESS / record.dam.columns
    field = field_of(record.dam)
    xi = sample_members(field, record.seed, record.members)
    conductivity = fields_from_coordinates(field, xi).exp().numpy()
    program = ExternalSimulator(
        [
            *("awk", "-v", f"dx={dx}", "-v", f"up={UP}", "-v", f"down={DOWN}"),
            *("-f", str(PROGRAM), "conductivity.txt"),
        ],
        read_output=lambda place: {"lines": np.loadtxt(place / LOG)},
        write_input=lambda k, place: np.savetxt(place / "conductivity.txt", k["K"]),
        scratch=folder / "scratch",
        time_limit_s=60,
    )
    inputs = zip(record.members, conductivity, strict=True)
    results, failures = run_members(program, {m: {"K": k} for m, k in inputs})
    if failures:
        raise RuntimeError(next(iter(failures.values())))
    lines = np.stack([results[m]["lines"] for m in record.members])
    path = folder / "fields" / f"block-{record.members[0]}.npz"
    exact = (UP**2 - DOWN**2) / (2 * (dx / conductivity).sum(-1))
    write_arrays(path, xi=xi, q=lines[:, 0], h=lines[:, 1:], exact=exact)
    return Manifest({"block": artefact(path, folder)})


def learn(
    record: LearnRecord, folder: Path, log: Log, *, blocks: Sequence[Manifest]
) -> Manifest:
    """Fits the ridge regression and scores it on the members held out."""
    parts = [read_arrays(folder / block.artefacts["block"].path) for block in blocks]
    names = ("xi", "q", "h", "exact")
    xi, q, h, exact = (
        torch.from_numpy(np.concatenate([p[n] for p in parts])) for n in names
    )
    n = len(h) - record.test_members
    ridge = fit_ridge(xi[:n], h[:n], n_candidates=(2, 5, 10, xi.shape[1]))
    predicted, mean, truth = ridge.predict(xi[n:]), h[:n].mean(0), h[n:]
    path = folder / "fields" / "water_table.npz"
    write_arrays(path, quantiles=np.quantile(h, [0.05, 0.5, 0.95], axis=0))
    draws = torch.Generator().manual_seed(record.seed)
    facts = {
        "rmse_m": float(rmse(predicted, truth)),
        "rmse_interval_m": rmse_interval(predicted, truth, draws),
        "rmse_of_mean_m": float(rmse(mean, truth)),
        "discharge": float(q.mean()),
        "discharge_interval": mean_interval(q, draws),
        "discharge_error": float((q / exact - 1).abs().max()),
        "drain_error_m": float((h[:, -1] - DOWN).abs().max()),
    }
    return Manifest({"water_table": artefact(path, folder)}, facts)


simulate_task = Task(simulate, role="sim", version="1")
learn_task = Task(learn, role="train", version="1")


def run(config: SeepageConfig, campaign: "Campaign") -> str:
    """The order of the tasks; returns the closing words."""
    from workflows.engine.driving.campaign import gather
    from workflows.engine.pages.publishing import publish

    members, seed = range(config.ensemble.members), campaign.seed
    blocks = [
        campaign.submit(
            simulate_task,
            BlockRecord(dam=config.dam, members=tuple(chosen.tolist()), seed=seed),
        )
        for chosen in np.array_split(members, config.ensemble.n_blocks)
    ]
    record = LearnRecord(test_members=config.ensemble.test_members, seed=seed)
    [learned] = gather([campaign.submit(learn_task, record, blocks=blocks)])
    return publish(campaign.folder, answer_of(campaign.folder, learned))


def answer_of(folder: Path, learned: Manifest) -> "Answer":
    """What the report shows: the water table, and the checks of the program."""
    import matplotlib.pyplot as plt

    from workflows.engine.pages import report
    from workflows.engine.pages.publishing import Answer

    told: dict[str, Any] = dict(learned.facts)
    low, median, high = read_arrays(folder / "fields" / "water_table.npz")["quantiles"]
    x = np.linspace(0, THICKNESS, len(median) + 1)[1:]
    with report.figure_style():
        figure, axes = plt.subplots()
        axes.fill_between(x, low, high, alpha=0.3, label="90 % of members")
        axes.plot(x, median, label="median")
        axes.set(xlabel="distance from the reservoir [m]", ylabel="water table [m]")
        axes.legend()
    words = (
        f"The dam leaks {told['discharge']:.3f} m2/d on average. The ridge regression "
        f"finds the water table to {told['rmse_m']:.3f} m, the mean to "
        f"{told['rmse_of_mean_m']:.3f} m."
    )
    rows = [["q against its formula, relative", told["discharge_error"]]]
    rows += [["h at the drain [m]", told["drain_error_m"]]]
    checks = report.Grid(["check", "largest error"], rows, "The program's own error.")
    picture = report.Illustration("water_table", figure, "The water table.")
    metrics = {
        "water_table_rmse": report.Metric(
            value=told["rmse_m"],
            unit="m",
            interval=told["rmse_interval_m"],
            baselines={"mean": told["rmse_of_mean_m"]},
        ),
        "mean_discharge": report.Metric(
            value=told["discharge"], unit="m2/d", interval=told["discharge_interval"]
        ),
        "largest_discharge_error": report.Metric(
            value=told["discharge_error"], unit="1", baselines={"rounding": 1e-12}
        ),
    }
    return Answer(
        title="Seepage through an earth dam",
        lead=[words],
        sections=[report.Section("Seepage", [], [picture], [checks])],
        metrics=metrics,
        closing=[words],
    )


application = command_line(
    Workflow(
        name="dam_seepage",
        help="Seepage through an earth dam of uncertain conductivity.",
        config=SeepageConfig,
        sizes={
            "smoke": {f"ensemble.{k}": n for k, n in SMOKE.items()},
            "standard": {},
            "full": {"ensemble.members": 10_000, "ensemble.test_members": 1000},
        },
        plan=lambda config: f"simulate {config.ensemble.members} members, fit, score",
        run=run,
    )
)

if __name__ == "__main__":
    application()
