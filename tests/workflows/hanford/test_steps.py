import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from data.ensemble_store import failed_members, read_members
from data.sources.aquifer_file import pack_aquifer
from data.sources.hanford import read_hanford
from simulators.random_fields import member_generator
from simulators.subsurface import FlowSolver, residual
from simulators.subsurface.operator import flow_operator
from surrogates.regression.train import Members
from workflows.engine.files.arrays import read_arrays, write_arrays
from workflows.engine.files.artefacts import Manifest, artefact
from workflows.engine.files.ensemble_files import store_of
from workflows.hanford import learning, steps
from workflows.hanford.fields import (
    AQUIFER,
    flow_problem,
    read_expansion,
    read_fields,
)

PRIOR = steps.PriorRecord(None, 100, 0, "matern52", None, None, 0.0, 0.95)
N_MEMBERS, BLOCK = 30, 12


def no_log(record):
    pass


def simulate(folder, prior, seed=3):
    return [
        steps.simulate_block(
            steps.BlockRecord(N_MEMBERS, BLOCK, k, seed),
            folder,
            no_log,
            prior=prior,
        )
        for k in range(3)
    ]


@pytest.fixture(scope="module")
def prior(run_folder):
    return steps.fit_prior(PRIOR, run_folder, no_log)


@pytest.fixture(scope="module")
def blocks(run_folder, prior):
    return simulate(run_folder, prior)


@pytest.fixture(scope="module")
def fields(run_folder, blocks):
    return read_fields(run_folder, range(N_MEMBERS))


def test_hdf5_files_give_the_members_and_statistics_of_zarr(
    run_folder, prior, blocks, fields, tmp_path
):
    shutil.copytree(run_folder / "inputs", tmp_path / "inputs")
    shutil.copytree(run_folder / "fields", tmp_path / "fields")
    shutil.rmtree(tmp_path / "fields" / "ensemble.zarr")
    theirs = [
        steps.simulate_block(
            steps.BlockRecord(N_MEMBERS, BLOCK, k, 3, "hdf5"),
            tmp_path,
            no_log,
            prior=prior,
        )
        for k in range(3)
    ]
    found = read_fields(tmp_path, range(N_MEMBERS))
    assert torch.equal(found.head, fields.head)
    assert torch.equal(found.log_transmissivity, fields.log_transmissivity)
    ours, other = (
        steps.summarise(
            steps.StatisticsRecord(0.9, 3), folder, no_log, prior=prior, blocks=made
        )
        for folder, made in ((run_folder, blocks), (tmp_path, theirs))
    )
    assert ours.facts == other.facts
    assert ours.artefacts == other.artefacts


def test_prior_of_set_0_is_the_published_kind_of_fit(hanford_folder, tmp_path):
    (tmp_path / "inputs").mkdir()
    (tmp_path / AQUIFER).write_bytes(pack_aquifer(read_hanford(hanford_folder)))
    facts = steps.fit_prior(PRIOR, tmp_path, no_log).facts
    # ranges over sets of 100 observations, hanford/README.md section 6; l in 60 km
    assert 2.5 <= facts["variance"] <= 3.3
    assert 0.035 <= facts["correlation_length_m"] / 60_000 <= 0.047
    assert 0.0 <= facts["nugget"] <= 0.32
    # mean over sets 1.03 (section 8); sets differ by about 0.05
    assert facts["kriging_rmse"] == pytest.approx(1.03, abs=0.1)


@pytest.mark.parametrize(
    ("observation_set", "kernel"),
    [(4, "matern52"), (5, "matern52"), (9, "squared_exponential")],
)
def test_measurements_without_correlation_are_refused(
    hanford_folder, tmp_path, observation_set, kernel
):
    # ten measurements of these sets are most likely under white noise, either as all
    # nugget or with a length below their spacing
    (tmp_path / "inputs").mkdir()
    (tmp_path / AQUIFER).write_bytes(pack_aquifer(read_hanford(hanford_folder)))
    few = replace(
        PRIOR, n_observations=10, observation_set=observation_set, kernel=kernel
    )
    with pytest.raises(ValueError, match=r"some correlation in space.*prior\.variance"):
        steps.fit_prior(few, tmp_path, no_log)
    given = replace(few, variance=2.2, correlation_length_m=2400.0)
    facts = steps.fit_prior(given, tmp_path, no_log).facts
    assert (facts["variance"], facts["nugget"]) == (2.2, 0.0)
    assert facts["correlation_length_m"] == pytest.approx(2400.0)


def test_own_measurements_take_the_place_of_a_published_set(run_folder, aquifer):
    cells = aquifer.observation_sets[100][0][::2]
    values = aquifer.reference_log_transmissivity[cells] + 0.25
    rows = [
        f"{cell},{value!r}" for cell, value in zip(cells, values.tolist(), strict=True)
    ]
    table = run_folder / "inputs" / "own.csv"
    table.write_text("\n".join(["cell,log_transmissivity", *rows]))
    own = replace(PRIOR, measurements="inputs/own.csv")
    shutil.copytree(run_folder / "inputs", run_folder / "own" / "inputs")
    manifest = steps.fit_prior(own, run_folder / "own", no_log)
    assert manifest.facts["measurements"] == 50
    path = run_folder / "own" / manifest.artefacts["prior"].path
    mean = read_expansion(path).mean.numpy()
    assert np.abs(mean[cells] - values).max() < 1e-9


def test_prior_honours_the_measurements(run_folder, prior, aquifer):
    expansion = read_expansion(run_folder / prior.artefacts["prior"].path)
    observed = aquifer.observation_sets[100][0]
    expected = aquifer.reference_log_transmissivity[observed]
    assert np.abs(expansion.mean.numpy()[observed] - expected).max() < 1e-9
    assert (expansion.modes[observed] * expansion.eigenvalues.sqrt()).abs().max() < 1e-5


def test_stored_heads_solve_the_flow_equations(fields, aquifer):
    mesh, forcing = flow_problem(aquifer)
    log_t, head = fields.log_transmissivity.double(), fields.head.double()
    imbalance = residual(mesh, log_t, head, forcing)
    # in metres: the store keeps float32, 8e-6 m at 120 m; ln T is rounded likewise
    in_metres = imbalance / flow_operator(mesh, log_t).diagonal
    assert in_metres.abs().max() < 1e-4


def test_a_member_does_not_depend_on_the_blocks(run_folder, prior, fields, tmp_path):
    shutil.copytree(run_folder / "inputs", tmp_path / "inputs")
    (tmp_path / "fields").mkdir()
    shutil.copy(run_folder / "fields" / "prior.npz", tmp_path / "fields")
    record = steps.BlockRecord(N_MEMBERS, 5, 4, 3)
    steps.simulate_block(record, tmp_path, no_log, prior=prior)
    head = read_members(store_of(tmp_path), "hydraulic_head", range(20, 25))
    # a batch equals its members to round-off of the matrix products, here in float32
    np.testing.assert_allclose(head, fields.head[20:25].numpy(), rtol=1e-6)


def test_statistics_equal_numpy_over_the_members(
    run_folder, prior, blocks, fields, aquifer
):
    record = steps.StatisticsRecord(0.9, seed=3)
    manifest = steps.summarise(record, run_folder, no_log, prior=prior, blocks=blocks)
    arrays = read_arrays(run_folder / manifest.artefacts["statistics"].path)
    head = fields.head.double().numpy()
    np.testing.assert_allclose(arrays["mean_hydraulic_head"], head.mean(0), rtol=1e-12)
    deviation = head.std(0, ddof=1)
    np.testing.assert_allclose(arrays["deviation_hydraulic_head"], deviation, rtol=1e-9)
    median = np.quantile(head, 0.5, axis=0)
    np.testing.assert_allclose(arrays["quantiles_hydraulic_head"][1], median, rtol=1e-6)
    reference = FlowSolver(flow_problem(aquifer)[0]).solve(
        torch.tensor(aquifer.reference_log_transmissivity), flow_problem(aquifer)[1]
    )
    expected = np.sqrt(((head.mean(0) - reference.numpy()) ** 2).mean())
    assert manifest.facts["reference_head_rmse_m"] == pytest.approx(expected)


@pytest.fixture
def broken(run_folder, prior, tmp_path):
    """A run whose prior overflows for members with a large first coordinate."""
    shutil.copytree(run_folder / "inputs", tmp_path / "inputs")
    arrays = read_arrays(run_folder / prior.artefacts["prior"].path)
    arrays["modes"][0, 0] = 150.0 / np.sqrt(arrays["eigenvalues"][0])
    path = tmp_path / "fields" / "prior.npz"
    write_arrays(path, **arrays)
    return tmp_path, Manifest({"prior": artefact(path, tmp_path)}, prior.facts)


def test_failed_members_are_recorded_and_left_out(broken):
    folder, prior = broken
    events = []
    for k in range(3):
        record = steps.BlockRecord(N_MEMBERS, BLOCK, k, 3)
        steps.simulate_block(record, folder, events.append, prior=prior)
    failed = failed_members(store_of(folder))
    assert 0 < len(failed) < N_MEMBERS // 2
    told = [event["member"] for event in events if "member" in event]
    assert told == sorted(failed)
    assert "230" in next(iter(failed.values()))  # the bound on |ln T|
    kept = read_fields(folder, range(N_MEMBERS))
    assert sorted({*kept.ids.tolist(), *failed}) == list(range(N_MEMBERS))
    assert torch.isfinite(kept.head).all()


def test_below_the_quorum_the_run_stops(broken):
    folder, prior = broken
    blocks = simulate(folder, prior)
    record = steps.StatisticsRecord(quorum=1.0, seed=3)
    with pytest.raises(ValueError, match=r"at least 100% .* Lower ensemble.quorum"):
        steps.summarise(record, folder, no_log, prior=prior, blocks=blocks)
    manifest = steps.summarise(
        replace(record, quorum=0.5), folder, no_log, prior=prior, blocks=blocks
    )
    member, seed, cause = manifest.facts["failed"][0]
    assert seed == member_generator(3, member).initial_seed()
    assert "230" in cause


def test_linear_skip_is_the_ridge_prediction(run_folder, prior, blocks, fields):
    fitted = learning.fit_baseline(
        learning.RidgeRecord(24), run_folder, no_log, prior=prior, blocks=blocks
    )
    ridge = learning.read_ridge(run_folder / fitted.artefacts["ridge"].path)
    expansion = read_expansion(run_folder / prior.artefacts["prior"].path)
    members = Members(fields.log_transmissivity[:24], fields.head[:24])
    skip = learning.linear_skip(expansion.mean, expansion.modes, ridge, members)
    unseen = fields.log_transmissivity[24:].double()
    by_ridge = ridge.predict(learning.scaled_coordinates(expansion, unseen))
    by_skip = skip.mean_head + (unseen - skip.mean_log_transmissivity) @ skip.matrix
    torch.testing.assert_close(by_skip, by_ridge, rtol=0, atol=1e-9)
