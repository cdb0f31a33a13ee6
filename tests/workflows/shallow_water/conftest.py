"""A small ensemble on disk, a network that has learned a little from it; and the files
and facts of an evaluation, made up, that the tests of the report share."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from surrogates.sphere import FlowSchedule
from surrogates.training import TrainingSettings
from workflows.shallow_water import learning, steps
from workflows.shallow_water.fields import FlowRecord

SEED, BLOCK, TRAINING, MEMBERS = 3, 4, 8, 12
N_LATITUDES, N_LONGITUDES, DEGREES = 8, 16, 43
ERRORS = {
    "persistence": 0.8,
    "climatology": 0.9,
    "advection": 0.8,
    "solver_t31": 0.5,
    "solver_t42": 0.3,
    "solver_t63": 0.1,
    "sfno": 0.4,
    "unet": 0.35,
    "linear_advection": 0.45,
    "linear": 0.15,
    "hybrid": 0.2,
    "guarded": 0.36,
}
SECONDS = {
    "advection": 3e-3,
    "solver_t31": 1e-3,
    "solver_t42": 4e-3,
    "solver_t63": 2e-2,
    "solver_t85": 6e-2,
    "sfno": 6e-3,
    "unet": 2e-3,
    "linear_advection": 7e-3,
    "linear": 4.1e-3,
    "hybrid": 1e-2,
    "guarded": 5e-3,
}


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
    """One that adds to advection, one to the solver."""
    return [
        learning.train_network(
            learning.NetworkRecord(
                name=name,
                flow=flow,
                network="unet" if name == "unet" else "sfno",
                width=4,
                depth=1,
                members=TRAINING,
                shown_members=(8, 9),
                schedule=FlowSchedule(TrainingSettings(12, 4, 2e-3, SEED)),
                threads=1,
            ),
            run_folder,
            no_log,
            blocks=blocks,
            **({"tuning": tuning} if name == "hybrid" else {}),
        )
        for name in ("unet", "hybrid")
    ]


@pytest.fixture(scope="session")
def correction(run_folder, flow, blocks, tuning):
    return learning.fit_correction(
        learning.CorrectionRecord(flow, TRAINING),
        run_folder,
        no_log,
        blocks=blocks,
        tuning=tuning,
    )


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


@pytest.fixture
def arrays():
    """Of two jets and three random states; errors grow with lead time."""
    rng = np.random.default_rng(1)
    leads = np.arange(6.0, 145.0, 6.0)
    found = {
        "leads_h": leads,
        "kind": np.array([0, 0, 1, 1, 1]),
        "latitude": np.linspace(80.0, -80.0, N_LATITUDES),
        "longitude": np.arange(N_LONGITUDES) * 360.0 / N_LONGITUDES,
        "map_days": np.array([4, 5, 6]),
        "by_solver": np.zeros((5, len(leads)), bool),
    }
    for model, error in ERRORS.items():
        members = 1 + 0.1 * np.arange(5)[:, None]
        found[f"error_{model}"] = error * members * leads / 120
    truth = 3e-5 * rng.standard_normal((2, 3, N_LATITUDES, N_LONGITUDES))
    spectrum = np.arange(1.0, DEGREES + 1) ** -3.0 * np.ones((2, 1))
    for k, model in enumerate(("truth", "solver_t42", "sfno", "unet", "hybrid")):
        found[f"map_{model}"] = truth * (1 + 0.1 * k)
        found[f"spectrum_{model}"] = spectrum * (1 + 0.1 * k)
        for name in ("energy", "enstrophy", "mass"):
            drift = -1e-4 * (1 + k) * leads / 144 * np.ones((5, 1))
            found[f"{name}_drift_{model}"] = drift
    return found


@pytest.fixture
def scores():
    """The same errors by day, as the facts of the evaluation have them."""
    return {
        model: {
            kind: {
                str(day): [error * day / 5, error * day / 5.5, error * day / 4.5]
                for day in range(1, 7)
            }
            for kind in ("jet", "random")
        }
        for model, error in ERRORS.items()
    }


@pytest.fixture
def timings():
    """Seconds per simulated day of a member."""
    return {f"{model}_member_day_s": seconds for model, seconds in SECONDS.items()}
