"""Sizes that fit together, and grids that are those of the simulator."""

import pytest

from simulators.sphere import gauss_grid_for
from workflows.engine.command.configuration import build_config, dotted
from workflows.engine.driving.tasks import Task
from workflows.shallow_water import tasks
from workflows.shallow_water.config import (
    LATITUDES,
    SIZES,
    ShallowWaterConfig,
    describe_plan,
    disk_bytes,
)


def test_the_grids_are_those_of_the_simulator():
    for truncation, n_latitudes in LATITUDES.items():
        assert gauss_grid_for(truncation).shape == (n_latitudes, 2 * n_latitudes)


@pytest.mark.parametrize("size", SIZES)
def test_every_size_is_sound_and_says_what_it_does(size):
    settings = dotted(SIZES[size], ShallowWaterConfig)
    config = build_config(ShallowWaterConfig, settings)
    plan = describe_plan(config)
    assert f"{config.ensemble.n_blocks} tasks (sim)" in plan
    assert config.first_members + config.steered_members == (
        config.ensemble.training_members
    )
    n_values = 3 * config.ensemble.members * (config.flow.n_steps + 1)
    n_values *= 2 * LATITUDES[config.flow.truncation] ** 2
    assert disk_bytes(config) > 4 * n_values


def test_a_plan_names_the_tasks_that_run():
    rows = describe_plan(ShallowWaterConfig()).splitlines()
    assert {row.split()[0] for row in rows} == {
        name for name, task in vars(tasks).items() if isinstance(task, Task)
    }


def test_a_network_cannot_be_trained_twice():
    with pytest.raises(ValueError, match="each kind once; got unet, unet"):
        build_config(ShallowWaterConfig, {"train.networks": ["unet", "unet"]})


def test_without_steering_all_members_come_at_once():
    config = build_config(ShallowWaterConfig, {"steering.mode": "none"})
    assert config.first_members == config.ensemble.training_members
    assert "select_members" not in describe_plan(config)
