"""Accuracy of the head network beside ridge regression, over seeds.

    python -m benchmarks.surrogate_accuracy [--markdown] [--seeds 3]

The steps of the main job at standard size: prior conditional on row 0 of the sets of
100 observations, 2,000 training and 500 test members, a fresh ensemble and a fresh
network for each seed. "Best ridge" may choose its coordinates and penalty on the test
members themselves, which no model of ours may. Intervals are 90 %, Student's t.
"""

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import scipy.stats
import torch

from benchmarks.rows import parser_of, print_row
from data.sources.aquifer_file import pack_aquifer
from data.sources.hanford import read_hanford
from surrogates.ridge import PENALTIES, ridge_path
from surrogates.scores import rmse
from workflows.hanford import learning, steps
from workflows.hanford.config import HanfordConfig
from workflows.hanford.fields import AQUIFER, read_expansion, read_fields

DEFAULT_DATA = Path(__file__).parents[2] / "shared/reference/hanford/data"
N_TRAINING, N_TEST = 2000, 500
FIRST_SEED = 100  # of ensembles that nobody looked at while choosing the network


def main() -> None:
    """Prints a line or a table row per model."""
    parser = parser_of(str(__doc__))
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    errors: dict[str, list[float]] = {}
    for seed in range(FIRST_SEED, FIRST_SEED + arguments.seeds):
        with tempfile.TemporaryDirectory() as folder:
            for model, error in head_errors(Path(folder), seed).items():
                errors.setdefault(model, []).append(error)
    best = np.array(errors["best ridge"])
    for model, values in errors.items():
        row = (
            f"{model}: RMSE of head on {N_TEST} test members, {N_TRAINING} training "
            f"members, observation set 0, {arguments.seeds} seeds",
            f"{with_interval(values)} m",
            f"best ridge: {with_interval(errors['best ridge'])} m",
            with_interval(list(np.array(values) / best)),
        )
        print_row(row, markdown=arguments.markdown)


def head_errors(folder: Path, seed: int) -> dict[str, float]:
    """Test RMSE [m] of every model for one ensemble and one network."""
    data = Path(os.environ.get("HEADRACE_HANFORD_DATA", DEFAULT_DATA))
    (folder / AQUIFER).parent.mkdir()
    (folder / AQUIFER).write_bytes(pack_aquifer(read_hanford(data)))
    config = HanfordConfig()
    members, block = N_TRAINING + N_TEST, config.ensemble.block
    prior = steps.fit_prior(
        steps.PriorRecord(
            measurements=None,
            n_observations=100,
            observation_set=0,
            kernel=config.prior.kernel,
            variance=None,
            correlation_length_m=None,
            nugget=0.0,
            variance_share=config.prior.variance_share,
        ),
        folder,
        unlogged,
    )
    blocks = [
        steps.simulate_block(
            steps.BlockRecord(members, block, k, seed),
            folder,
            unlogged,
            prior=prior,
        )
        for k in range(members // block)
    ]
    ridge = learning.fit_baseline(
        learning.RidgeRecord(N_TRAINING), folder, print, prior=prior, blocks=blocks
    )
    network = learning.train_network(
        learning.NetworkRecord(
            members=N_TRAINING,
            ensemble_members=members,
            test_members=N_TEST,
            steps=config.train.steps,
            batch_size=config.train.batch_size,
            learning_rate=config.train.learning_rate,
            threads=1,
            seed=seed,
        ),
        folder,
        unlogged,
        prior=prior,
        ridge=ridge,
        blocks=blocks,
    )
    scores = learning.evaluate(
        learning.EvaluationRecord((N_TRAINING,), members, N_TEST, seed),
        folder,
        unlogged,
        prior=prior,
        ridges=[ridge],
        networks=[network],
        blocks=blocks,
    ).facts["rmse_m"]
    found = {m: by_size[str(N_TRAINING)][0] for m, by_size in scores.items()}  # type: ignore[attr-defined]  # JSON
    return {**found, "best ridge": best_ridge(folder)}


def unlogged(_record: Mapping[str, object]) -> None:
    """A log for steps outside of a run."""


def best_ridge(folder: Path) -> float:
    """Smallest test RMSE [m] over all numbers of coordinates and penalties."""
    expansion = read_expansion(folder / "fields" / "prior.npz")
    training = read_fields(folder, range(N_TRAINING))
    test = read_fields(folder, range(N_TRAINING, N_TRAINING + N_TEST))
    x, unseen = (
        learning.scaled_coordinates(expansion, part.log_transmissivity)
        for part in (training, test)
    )
    return min(
        float(rmse(fit.predict(unseen), test.head.double()))
        for n_kept in (*learning.RIDGE_COORDINATES, 100, 200, 450, 900)
        for fit in ridge_path(x[:, :n_kept], training.head.double(), PENALTIES)
    )


def with_interval(values: Sequence[float]) -> str:
    """Mean and 90 % interval over seeds."""
    mean = np.mean(values)
    if len(values) == 1:
        return f"{mean:.3f}"
    reach = scipy.stats.t.ppf(0.95, len(values) - 1) * scipy.stats.sem(values)
    return f"{mean:.3f} ± {reach:.3f}"


if __name__ == "__main__":
    main()
