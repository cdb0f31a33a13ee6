"""What a user of the shallow-water workflow may set; defaults are of standard size."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from workflows.engine.command import settings
from workflows.engine.command.settings import Section, StoreConfig

Network = Literal["sfno", "unet"]
Truncation = Literal[21, 31, 42, 63, 85, 127, 170]
LATITUDES = {21: 32, 31: 48, 42: 64, 63: 96, 85: 128, 127: 192, 170: 256}
"""Of the grid of a truncation, which has twice as many longitudes."""
HOURS_PER_DAY = 24


class FlowConfig(Section):
    """Which flows are simulated, and what is kept of them."""

    truth_truncation: Truncation = Field(
        default=85, description="of the model that is taken for the truth"
    )
    truncation: Truncation = Field(
        default=42, description="of stored flows, networks and the coarse solver"
    )
    days: int = Field(default=6, ge=6, le=30, description="simulated days")
    interval_h: Literal[1, 2, 3, 4, 6, 8, 12] = Field(
        default=6, description="hours between stored states; a step of the networks"
    )

    @property
    def n_steps(self) -> int:
        """Intervals of a flow."""
        return self.days * HOURS_PER_DAY // self.interval_h

    @model_validator(mode="after")
    def _truth_is_finer(self) -> Self:
        if self.truth_truncation <= self.truncation:
            raise ValueError(
                "flow.truth_truncation must be above flow.truncation; got "
                f"{self.truth_truncation} and {self.truncation}"
            )
        return self


class EnsembleConfig(settings.EnsembleConfig):
    """Members: those for training come first, those for the test last."""

    min_training_members: ClassVar[int] = 4

    members: Annotated[settings.Members, Field(ge=8)] = 96
    test_members: Annotated[settings.TestMembers, Field(ge=4)] = 16
    block: settings.Block = 8


class TrainConfig(Section):
    """Training of the networks that do without a solver."""

    networks: tuple[Network, ...] = Field(
        default=("unet", "sfno"),
        min_length=1,
        description="kinds to train; the first one steers",
    )
    unet_width: int = Field(default=16, ge=1, description="channels, finest level")
    unet_depth: int = Field(default=3, ge=1, description="halvings of the grid")
    sfno_width: int = Field(default=24, ge=1, description="channels of a block")
    sfno_depth: int = Field(default=4, ge=1, description="blocks")
    steps: int = Field(default=400, ge=1, description="optimiser steps on the truth")
    rollout_steps: int = Field(
        default=0, ge=0, description="further steps on four intervals in a row"
    )
    batch_size: int = Field(default=4, ge=1)
    learning_rate: float = Field(default=2e-3, gt=0, allow_inf_nan=False)
    threads: int = Field(default=1, ge=1, description="threads of a training process")

    @model_validator(mode="after")
    def _trains_each_kind_once(self) -> Self:
        if len(set(self.networks)) < len(self.networks):
            raise ValueError(
                "train.networks must name each kind once; got "
                f"{', '.join(self.networks)}"
            )
        return self


class HybridConfig(Section):
    """The network above the linearly corrected coarse solver."""

    network: Network = "unet"
    width: int = Field(default=16, ge=1)
    depth: int = Field(default=1, ge=1)
    steps: int = Field(default=300, ge=0, description="optimiser steps; 0 for none")
    rollout_steps: int = Field(
        default=0, ge=0, description="further steps on four intervals in a row"
    )


class SteeringConfig(Section):
    """Which members are simulated after a first training."""

    mode: Literal["flagged", "random", "none"] = Field(
        default="flagged",
        description="simulate those whose rollout the guard stops first, or any, or "
        "all at once",
    )
    rounds: int = Field(default=1, ge=1, description="times that members are added")
    members: int = Field(default=16, ge=1, description="added in each round")
    candidates: int = Field(default=32, ge=1, description="rollouts to choose from")
    steps: int = Field(
        default=300, ge=1, description="of the trainings before the last"
    )


class GuardConfig(Section):
    """When a rollout hands an interval over to the coarse solver."""

    margin: float = Field(
        default=0.1,
        ge=0,
        allow_inf_nan=False,
        description="by which the range of the training flows may be left, as a share",
    )


class ShallowWaterConfig(Section):
    """Settings of one run."""

    flow: FlowConfig = FlowConfig()
    ensemble: EnsembleConfig = EnsembleConfig()
    store: StoreConfig = StoreConfig()
    train: TrainConfig = TrainConfig()
    hybrid: HybridConfig = HybridConfig()
    steering: SteeringConfig = SteeringConfig()
    guard: GuardConfig = GuardConfig()

    @property
    def steered_members(self) -> int:
        """Training members that a network chooses."""
        steering = self.steering
        return 0 if steering.mode == "none" else steering.rounds * steering.members

    @property
    def first_members(self) -> int:
        """Training members that are there before any network is."""
        return self.ensemble.training_members - self.steered_members

    @model_validator(mode="after")
    def _whole_blocks(self) -> Self:
        block = self.ensemble.block
        sizes = {
            "ensemble.members": self.ensemble.members,
            "ensemble.test_members": self.ensemble.test_members,
        }
        if self.steered_members:
            sizes["steering.members"] = self.steering.members
        wrong = {name: size for name, size in sizes.items() if size % block}
        if wrong:
            raise ValueError(
                f"numbers of members must be multiples of ensemble.block = {block}; "
                "got " + ", ".join(f"{name} = {size}" for name, size in wrong.items())
            )
        return self

    @model_validator(mode="after")
    def _begins_with_members(self) -> Self:
        if self.first_members < self.ensemble.min_training_members:
            raise ValueError(
                "ensemble.members must leave at least "
                f"{self.ensemble.min_training_members} for the first training, beside "
                f"{self.ensemble.test_members} for the test and {self.steered_members} "
                f"that steering adds; got {self.first_members}"
            )
        if self.steering.candidates < self.steering.members:
            raise ValueError(
                "steering.candidates must be at least steering.members = "
                f"{self.steering.members}; got {self.steering.candidates}"
            )
        return self

    @model_validator(mode="after")
    def _can_be_halved(self) -> Self:
        n_latitudes = LATITUDES[self.flow.truncation]
        depths = {"train.unet_depth": self.train.unet_depth}
        if self.hybrid.network == "unet":
            depths["hybrid.depth"] = self.hybrid.depth
        for name, depth in depths.items():
            if n_latitudes % 2**depth:
                raise ValueError(
                    f"{name} levels need latitudes in multiples of {2**depth}; the "
                    f"grid of T{self.flow.truncation} has {n_latitudes}; got {depth}"
                )
        return self


def describe_plan(config: ShallowWaterConfig) -> str:
    """What a run of this config does, for `--dry-run`."""
    flow, ensemble, train = config.flow, config.ensemble, config.train
    steering, hybrid = config.steering, config.hybrid
    steered_rounds = steering.rounds if config.steered_members else 0
    rows = [
        f"  simulate_block  {ensemble.n_blocks} tasks (sim): {ensemble.members} flows "
        f"of {flow.days} days at T{flow.truth_truncation}, kept at T{flow.truncation}",
        "  tune_diffusion  1 task (sim): of the coarse solvers",
        "  fit_correction  1 task (sim): a linear correction of the solver at "
        f"T{flow.truncation}",
        f"  summarise       {1 + steered_rounds} tasks (io): climatology, guard",
    ]
    if steered_rounds:
        rows += [
            f"  select_members  {steering.rounds} tasks (sim): {steering.members} of "
            f"{steering.candidates} candidates, {steering.mode}",
            f"  train_network   {steering.rounds} tasks (train): "
            f"{train.networks[0]}, {steering.steps} steps",
        ]
    names = ", ".join(train.networks)
    rows.append(
        f"  train_network   {len(train.networks)} tasks (train): {names}, "
        f"{train.steps + train.rollout_steps} steps each"
    )
    if hybrid.steps:
        rows.append(
            f"  train_network   1 task (train): {hybrid.network} that corrects "
            f"T{flow.truncation} every {flow.interval_h} h, "
            f"{hybrid.steps + hybrid.rollout_steps} steps"
        )
    return "\n".join([*rows, "  evaluate        1 task (sim), then the report"])


def disk_bytes(config: ShallowWaterConfig) -> int:
    """Bytes that a run writes: three float32 fields per state, and some constants."""
    n_states = config.ensemble.members * (config.flow.n_steps + 1)
    return 3 * 4 * n_states * points(config.flow.truncation) + 200_000_000


def points(truncation: int) -> int:
    """Grid points of a truncation."""
    return 2 * LATITUDES[truncation] ** 2


SIZES: dict[str, dict[str, Any]] = {
    "smoke": {
        "flow": {"truth_truncation": 42, "truncation": 21, "interval_h": 12},
        "ensemble": {"members": 24, "test_members": 8, "block": 8},
        "train": {"networks": ("unet",), "steps": 20, "unet_width": 8},
        "hybrid": {"network": "sfno", "steps": 10, "width": 8, "depth": 2},
        "steering": {"members": 8, "candidates": 12, "steps": 10},
    },
    "standard": {},
    "full": {
        "ensemble": {"members": 1088, "test_members": 64, "block": 32},
        "train": {"steps": 20000, "unet_width": 32, "sfno_width": 48, "batch_size": 16},
        "hybrid": {"steps": 20000, "width": 32},
        "steering": {"rounds": 2, "members": 128, "candidates": 512, "steps": 4000},
    },
}
