"""The ensemble of a workflow: its own defaults, the rules of all."""

from typing import Annotated, ClassVar

import pytest
from pydantic import Field

from workflows.engine.command import settings
from workflows.engine.command.configuration import build_config, known_keys


class EnsembleConfig(settings.EnsembleConfig):
    min_training_members: ClassVar[int] = 3

    members: Annotated[settings.Members, Field(ge=8)] = 20
    test_members: settings.TestMembers = 5
    block: settings.Block = 6


class Config(settings.Section):
    ensemble: EnsembleConfig = EnsembleConfig()
    store: settings.StoreConfig = settings.StoreConfig()


def test_a_workflow_gives_defaults_and_a_user_changes_one_of_them():
    ensemble = build_config(Config, {"ensemble.members": 10}).ensemble
    assert (ensemble.members, ensemble.test_members, ensemble.block) == (10, 5, 6)
    assert (ensemble.n_blocks, ensemble.training_members) == (2, 5)


def test_the_keys_of_all_workflows_come_in_one_order():
    names = ("members", "test_members", "block", "quorum")
    assert known_keys(Config) == [*(f"ensemble.{n}" for n in names), "store.format"]
    fields = EnsembleConfig.model_fields
    assert fields["members"].description == "simulated members"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"ensemble.members": 7}, "greater than or equal to 8; got 7"),
        ({"ensemble.block": 0}, "greater than or equal to 1; got 0"),
        ({"ensemble.quorum": 1.5}, "less than or equal to 1; got 1.5"),
        ({"ensemble.test_members": 18}, "at least 3 for training; got 2"),
        ({"store.format": "netcdf"}, "'zarr', 'zarr-lz4' or 'hdf5'; got 'netcdf'"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(given, message):
    with pytest.raises(ValueError, match=message) as refusal:
        build_config(Config, given)
    assert "\n" not in str(refusal.value)
