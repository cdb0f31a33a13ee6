"""A small ensemble on disk, and a network that has learned a little from it."""

import pytest

from surrogates.training import TrainingSettings
from workflows.shallow_water import learning, steps
from workflows.shallow_water.fields import FlowRecord

SEED, BLOCK, TRAINING, MEMBERS = 3, 4, 8, 12


def no_log(record):
    pass


@pytest.fixture(scope="session")
def flow():
    return FlowRecord(truth_truncation=31, truncation=21, days=6, interval_h=12)


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("run")


@pytest.fixture(scope="session")
def blocks(run_folder, flow):
    """Eight members for training, four for the test."""
    return [
        steps.simulate_block(
            steps.BlockRecord(flow, MEMBERS, BLOCK, block, SEED), run_folder, no_log
        )
        for block in range(MEMBERS // BLOCK)
    ]


@pytest.fixture(scope="session")
def tuning(run_folder, flow, blocks):
    record = steps.TuningRecord(flow, (21,), 2, SEED)
    return steps.tune_diffusion(record, run_folder, no_log, blocks=blocks)


@pytest.fixture(scope="session")
def summary(run_folder, flow, blocks):
    record = steps.SummaryRecord(flow.truncation, TRAINING, TRAINING, 1.0, 0.1)
    return steps.summarise(record, run_folder, no_log, blocks=blocks)


@pytest.fixture(scope="session")
def networks(run_folder, flow, blocks, tuning):
    """One on its own, one that corrects."""
    return [
        learning.train_network(
            learning.NetworkRecord(
                name=name,
                flow=flow,
                network="unet",
                width=4,
                depth=1,
                corrects=name == "hybrid",
                members=TRAINING,
                shown_members=(8, 9),
                settings=TrainingSettings(12, 4, 2e-3, SEED),
                rollout_steps=0,
                threads=1,
            ),
            run_folder,
            no_log,
            blocks=blocks,
            **({"tuning": tuning} if name == "hybrid" else {}),
        )
        for name in ("unet", "hybrid")
    ]
