"""What a user of the Hanford workflow may set; the defaults are of standard size."""

from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from surrogates.pigan.limits import (
    MIN_SNAPSHOTS,
    require_free_cells,
    snapshots_needed,
)
from workflows.engine.command import settings
from workflows.engine.command.settings import Section, StoreConfig


class PriorConfig(Section):
    """Gaussian prior of log-transmissivity, conditioned on one observation set."""

    n_observations: Literal[10, 50, 100] = Field(
        default=100, description="size of the published observation sets to use"
    )
    observation_set: int = Field(
        default=0, ge=0, lt=10, description="which of the ten sets of that size"
    )
    kernel: Literal["matern12", "matern32", "matern52", "squared_exponential"] = Field(
        default="matern52", description="covariance family, fitted to the set"
    )
    variance: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="given instead of fitted"
    )
    correlation_length_m: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="given with the variance"
    )
    nugget: float = Field(
        default=0.0, ge=0, allow_inf_nan=False, description="given with the variance"
    )
    variance_share: float = Field(
        default=0.99, gt=0, le=1, description="variance that the kept KL modes hold"
    )

    @model_validator(mode="after")
    def _both_parameters_or_none(self) -> Self:
        given = self.variance, self.correlation_length_m
        if (given[0] is None) != (given[1] is None):
            raise ValueError(
                "prior.variance and prior.correlation_length_m must be given together; "
                f"got {given[0]} and {given[1]}"
            )
        if self.nugget and self.variance is None:
            raise ValueError(
                "prior.nugget must be given with prior.variance, else it is fitted; "
                f"got {self.nugget}"
            )
        return self


class EnsembleConfig(settings.EnsembleConfig):
    """Members: those for training come first, those for the test last."""

    min_training_members: ClassVar[int] = 10

    members: Annotated[settings.Members, Field(ge=20)] = 2500
    test_members: Annotated[settings.TestMembers, Field(ge=5)] = 500
    block: settings.Block = 500


class TrainConfig(Section):
    """Training of the regression network; one network per number of members."""

    members: tuple[int, ...] = Field(
        default=(250, 500, 1000, 2000),
        min_length=1,
        description="numbers of training members of the learning curve",
    )
    steps: int = Field(default=500, ge=1, description="optimiser steps of each network")
    batch_size: int = Field(default=32, ge=1)
    learning_rate: float = Field(default=2e-3, gt=0, allow_inf_nan=False)
    threads: int = Field(default=1, ge=1, description="threads of a training process")


MIN_INVERSIONS = 10  # fewer have no distribution to score


class PiganConfig(Section):
    """The generator that learns the joint law of ln T and head from sensors."""

    physics: Literal["solver", "residual", "none"] = Field(
        default="solver",
        description="head by the flow solver, or by a network with or without physics",
    )
    generator: Literal["modes", "mesh"] = Field(
        default="modes", description="ln T in modes of the prior, or on the mesh"
    )
    snapshots: int = Field(
        default=1000, ge=20, description="training members read at the sensors"
    )
    log_transmissivity_sensors: int = Field(default=200, ge=4)
    head_sensors: int = Field(
        default=323, ge=4, description="wells that are read, at most"
    )
    knows_measurements: bool = Field(
        default=False, description="tell the generator the measurements too"
    )
    variance_factor: float = Field(
        default=1.0, gt=0, allow_inf_nan=False, description="assumed over fitted"
    )
    length_factor: float = Field(
        default=1.0, gt=0, allow_inf_nan=False, description="assumed over fitted"
    )
    terms: int = Field(default=400, ge=1, description="modes and latent variables")
    steps: int = Field(default=1200, ge=1, description="generator steps")
    batch_size: int = Field(default=64, ge=2, multiple_of=2)
    learning_rate: float = Field(default=3e-4, gt=0, allow_inf_nan=False)
    residual_weight: float = Field(
        default=1.0,
        ge=0,
        allow_inf_nan=False,
        description="of the flow residual, with physics=residual",
    )
    generated_members: int = Field(
        default=2000, ge=100, description="for the statistics of the report"
    )
    inversions: int = Field(
        default=100, ge=0, description="snapshots inverted one by one; 0 for none"
    )
    threads: int = Field(default=1, ge=1, description="threads of the training process")


class HanfordConfig(Section):
    """Settings of one run."""

    problem: Literal["forward", "inverse", "mixed"] = Field(
        default="mixed",
        description="what the generator's sensors read: ln T, head (and it knows the "
        "measurements), or both",
    )
    prior: PriorConfig = PriorConfig()
    ensemble: EnsembleConfig = EnsembleConfig()
    store: StoreConfig = StoreConfig()
    train: TrainConfig = TrainConfig()
    pigan: PiganConfig = PiganConfig()

    @property
    def has_inversions(self) -> bool:
        """Whether snapshots are inverted: there must be heads to invert."""
        return self.pigan.inversions > 0 and self.problem != "forward"

    @model_validator(mode="after")
    def _increasing_training_members(self) -> Self:
        members = self.train.members
        if any(a >= b for a, b in pairwise(members)):
            raise ValueError(f"train.members must increase; got {list(members)}")
        return self

    @model_validator(mode="after")
    def _enough_snapshots(self) -> Self:
        pigan, ensemble = self.pigan, self.ensemble
        available = ensemble.training_members
        if pigan.snapshots > available:
            raise ValueError(
                f"pigan.snapshots must be at most the {available} members that are "
                f"not held out; got {pigan.snapshots}"
            )
        allowed = range(MIN_INVERSIONS, pigan.snapshots + 1)
        if self.has_inversions and pigan.inversions not in allowed:
            raise ValueError(
                f"pigan.inversions must be 0, or {MIN_INVERSIONS} to the "
                f"{pigan.snapshots} snapshots; got {pigan.inversions}"
            )
        n_sensors = (self.problem != "inverse") * pigan.log_transmissivity_sensors
        n_sensors += (self.problem != "forward") * pigan.head_sensors
        fewest = min(pigan.snapshots, ensemble.test_members)
        needed = snapshots_needed(n_sensors)
        if fewest < needed:
            raise ValueError(
                f"pigan.snapshots and ensemble.test_members must be {needed} or more: "
                f"{MIN_SNAPSHOTS} at least, and one for four of the {n_sensors} "
                f"sensors; got {pigan.snapshots} and {ensemble.test_members}"
            )
        return self

    @model_validator(mode="after")
    def _has_what_the_generator_needs(self) -> Self:
        pigan = self.pigan
        if pigan.physics == "none" and self.problem == "forward":
            raise ValueError(
                "pigan.physics=none must have head sensors to learn from; got "
                "problem=forward"
            )
        return self

    @model_validator(mode="after")
    def _enough_training_members(self) -> Self:
        available = self.ensemble.training_members
        allowed = range(self.ensemble.min_training_members, available + 1)
        wrong = [n for n in self.train.members if n not in allowed]
        if wrong:
            raise ValueError(
                f"train.members must lie between {allowed.start} and the {available} "
                f"that are not held out; got {wrong}"
            )
        return self


def require_fit(config: HanfordConfig, n_cells: int, n_measured: int) -> None:
    """Refuses what the mesh has no room for.

    Args:
        config: the settings.
        n_cells: of the mesh.
        n_measured: cells with a measurement.

    Raises:
        ValueError: too many modes or sensors.
    """
    if config.pigan.terms > n_cells:
        raise ValueError(
            f"pigan.terms must be at most the {n_cells} cells of the mesh; got "
            f"{config.pigan.terms}."
        )
    if config.problem != "inverse":
        n_sensors = config.pigan.log_transmissivity_sensors
        require_free_cells(n_cells - n_measured, n_sensors)


def describe_plan(config: HanfordConfig) -> str:
    """What a run of this config does, for `--dry-run`."""
    ensemble, train = config.ensemble, config.train
    n_measured = config.prior.n_observations
    sizes = ", ".join(map(str, train.members))
    return "\n".join(
        [
            f"  fit_prior       1 task (sim): {n_measured} measurements",
            f"  simulate_block  {ensemble.n_blocks} tasks (sim): {ensemble.members} "
            f"members in blocks of {ensemble.block}",
            "  summarise       1 task (io)",
            f"  fit_baseline    {len(train.members)} tasks (train): {sizes} members",
            f"  train_network   {len(train.members)} tasks (train): {train.steps} steps"
            f" with {train.threads} thread(s) each",
            "  evaluate        1 task (sim)",
            f"  train_generator 1 task (train): {config.problem} problem, "
            f"{config.pigan.snapshots} snapshots, {config.pigan.steps} steps",
            *(
                [f"  invert          1 task (sim): {config.pigan.inversions} snapshots"]
                if config.has_inversions
                else []
            ),
            "  evaluate_generator 1 task (sim), then the report",
        ]
    )


def disk_bytes(config: HanfordConfig) -> int:
    """Bytes that a run writes: two float32 fields per member, and some constants."""
    n_cells = 2000
    constants = 100_000_000 * (1 + len(config.train.members))
    return 2 * 4 * n_cells * config.ensemble.members + constants


SIZES: dict[str, dict[str, Any]] = {
    "smoke": {
        "ensemble": {"members": 120, "test_members": 40, "block": 60},
        "train": {"members": (40, 80), "steps": 25},
        "pigan": {
            "snapshots": 80,
            "log_transmissivity_sensors": 40,
            "head_sensors": 60,
            "terms": 100,
            "steps": 60,
            "generated_members": 200,
            "inversions": 10,
        },
    },
    "standard": {},
    "full": {
        "ensemble": {"members": 20000, "test_members": 2000, "block": 1000},
        "train": {"members": (250, 500, 1000, 2000, 4000, 16000), "steps": 4000},
        "pigan": {
            "snapshots": 2000,
            "steps": 6000,
            "generated_members": 4000,
            "inversions": 500,
        },
    },
}
