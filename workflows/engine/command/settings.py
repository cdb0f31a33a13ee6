"""Sections that the configuration of every ensemble workflow has.

A workflow gives `EnsembleConfig` its defaults in a subclass:

    class EnsembleConfig(settings.EnsembleConfig):
        members: Annotated[Members, Field(ge=8)] = 64

A bound beside the default, `= Field(default=64, ge=8)`, would lose to that of the base.
An instance as the default of a field would not do either: a user who sets one key of a
section gets the other ones from its class.
"""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Members = Annotated[int, Field(ge=1, description="simulated members")]
TestMembers = Annotated[
    int, Field(ge=1, description="of them held out of all training")
]
Block = Annotated[int, Field(ge=1, description="members per task, shard of the store")]
Quorum = Annotated[
    float, Field(gt=0, le=1, description="share of members that must not fail")
]


class Section(BaseModel):
    """Settings that are checked when they are given, and never change."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class EnsembleConfig(Section):
    """Members: those for training come first, those for the test last."""

    min_training_members: ClassVar[int] = 1

    members: Members
    test_members: TestMembers
    block: Block
    quorum: Quorum = 0.95

    @property
    def n_blocks(self) -> int:
        """Number of blocks, the last of which may be shorter."""
        return -(-self.members // self.block)

    @property
    def training_members(self) -> int:
        """Members that are not held out."""
        return self.members - self.test_members

    @model_validator(mode="after")
    def _has_training_members(self) -> Self:
        if self.training_members < self.min_training_members:
            raise ValueError(
                "members - test_members must leave at least "
                f"{self.min_training_members} for training; got {self.training_members}"
            )
        return self


class StoreConfig(Section):
    """How the members are kept."""

    format: Literal["zarr", "zarr-lz4", "hdf5"] = Field(
        default="zarr",
        description="Zarr, with or without compression, or a file per block and a "
        "virtual data set over them",
    )
