"""The steps that learn from sensors: what a generator is told, and how it may end."""

from dataclasses import replace

import pytest
import torch

from simulators.random_fields import Covariance, fields_from_coordinates, karhunen_loeve
from simulators.subsurface import FlowSolver
from surrogates.distributed.checkpoint import load_checkpoint, save_checkpoint
from surrogates.pigan.build import PiganShape, readings_of
from surrogates.pigan.heads import HEAD, LOG_TRANSMISSIVITY
from surrogates.pigan.train import GanSettings
from workflows.hanford.fields import flow_problem
from workflows.hanford.generative import PiganRecord, new_model, train
from workflows.hanford.generative_evaluation import gaussian_fit, sample
from workflows.hanford.sensing import (
    SiteRecord,
    assumed_prior,
    choose_sensors,
    site_of,
)

COVARIANCE = Covariance("matern52", variance=2.5, correlation_length=0.04)
RECORD = SiteRecord(
    problem="mixed",
    snapshots=24,
    log_transmissivity_sensors=15,
    head_sensors=20,
    knows_measurements=False,
    kernel="matern52",
    variance_factor=1.0,
    length_factor=1.0,
    ensemble_members=48,
    test_members=24,
    seed=3,
)
SHAPE = PiganShape(n_terms=40, width=16)
SETTINGS = GanSettings(steps=6, seed=0, batch_size=8, epoch_steps=2, n_subdomains=2)


@pytest.fixture(scope="module")
def measured(aquifer):
    cells = torch.tensor(aquifer.observation_sets[10][0])
    return cells, torch.tensor(aquifer.reference_log_transmissivity)[cells]


@pytest.fixture(scope="module")
def members(aquifer, measured):
    points = torch.tensor(aquifer.cell_centroids)
    prior = assumed_prior(points, COVARIANCE, 7.8, measured)
    expansion = karhunen_loeve(prior.mean, prior.covariance, n_terms=200)
    noise = torch.randn(48, 200, generator=torch.Generator().manual_seed(0)).double()
    fields = fields_from_coordinates(expansion, noise)
    mesh, forcing = flow_problem(aquifer)
    heads = FlowSolver(mesh).solve(fields, forcing)
    parts = [
        {LOG_TRANSMISSIVITY: fields[rows].float(), HEAD: heads[rows].float()}
        for rows in (slice(24), slice(24, None))
    ]
    return tuple(parts)


@pytest.fixture
def site(aquifer, measured, members):
    def build(**changes):
        record = replace(RECORD, **changes)
        return site_of(record, aquifer, COVARIANCE, 7.8, measured, members)

    return build


def test_sensors_of_each_problem(aquifer, measured):
    names = {
        problem: set(
            choose_sensors(aquifer, measured[0], replace(RECORD, problem=problem)).cells
        )
        for problem in ("forward", "inverse", "mixed")
    }
    assert names == {
        "forward": {LOG_TRANSMISSIVITY},
        "inverse": {HEAD},
        "mixed": {LOG_TRANSMISSIVITY, HEAD},
    }


def test_no_sensor_of_transmissivity_is_in_a_measured_cell(aquifer, measured):
    most = (aquifer.n_cells - len(measured[0])) * 9 // 10
    many = replace(RECORD, log_transmissivity_sensors=most)
    cells = choose_sensors(aquifer, measured[0], many).cells[LOG_TRANSMISSIVITY]
    assert not torch.isin(measured[0], cells).any()
    assert len(cells) == most


def test_sensors_leave_cells_to_be_found(aquifer, measured):
    many = replace(RECORD, log_transmissivity_sensors=aquifer.n_cells)
    with pytest.raises(ValueError, match=f"at most .*; got {aquifer.n_cells}"):
        choose_sensors(aquifer, measured[0], many)


@pytest.mark.parametrize(
    ("physics", "generator"),
    [("none", "modes"), ("residual", "modes"), ("solver", "mesh")],
)
def test_the_gaussian_rival_is_the_same_beside_every_generator(
    site, physics, generator
):
    shape = replace(SHAPE, physics=physics, generator=generator)
    found, usual = (
        gaussian_fit(site(), PiganRecord(RECORD, kind, SETTINGS, threads=1))
        for kind in (shape, SHAPE)
    )
    ours, theirs = (sample(model, 5, seed=0) for model in (found, usual))
    torch.testing.assert_close(ours[HEAD], theirs[HEAD], rtol=0, atol=0)


def test_only_a_generator_that_is_told_knows_the_measurements(site, measured):
    cells, values = measured
    variance = {
        what: site(**changes).prior.covariance.diagonal()[cells]
        for what, changes in (
            ("not told", {}),
            ("told", {"knows_measurements": True}),
            ("inverse", {"problem": "inverse"}),
        )
    }
    torch.testing.assert_close(
        variance["not told"], torch.full_like(values, COVARIANCE.variance)
    )
    assert variance["told"].max() == variance["inverse"].max() == 0
    told = site(knows_measurements=True).prior.mean[cells]
    torch.testing.assert_close(told, values)


def test_unseen_cells_are_neither_read_nor_measured(site, measured):
    found = site()
    for name in (LOG_TRANSMISSIVITY, HEAD):
        unseen = found.unseen(name)
        seen = torch.cat([readings_of(found.data, name)[0], measured[0]]).unique()
        assert not torch.isin(unseen, seen).any()
        assert len(unseen) + len(seen) == found.aquifer.n_cells


def test_a_wrong_kernel_is_the_assumed_one_times_its_factors(site):
    wrong = site(variance_factor=0.6, length_factor=2.0).prior.covariance
    right = site().prior.covariance
    assert wrong[0, 0] == pytest.approx(0.6 * right[0, 0])
    correlated = [float((c[0] > 0.5 * c[0, 0]).sum()) for c in (right, wrong)]
    assert correlated[1] > 2 * correlated[0]


def test_a_training_that_diverges_later_ends_with_the_last_good_weights(site, tmp_path):
    """The weights of a checkpoint are blown up between two epochs."""
    record = PiganRecord(RECORD, SHAPE, SETTINGS, threads=1)
    path, events = tmp_path / "pigan.pt", []

    def killed(event):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(site(), record, path, "digest", killed)
    state = load_checkpoint(path)
    good = state["states"]["averaged"]["module.inputs.scale"]
    state["states"]["model"]["inputs.linear.bias"].fill_(1e6)
    save_checkpoint(path, state)
    model, stopped = train(site(), record, path, "digest", events.append)
    assert "generated fields must stay finite" in stopped
    assert "after 1 epochs, is kept" in stopped
    assert [event["event"] for event in events] == ["training stopped"]
    torch.testing.assert_close(model.inputs.scale, good, rtol=0, atol=0)


def test_a_new_generator_is_of_its_seed_whatever_other_threads_draw(site):
    record = PiganRecord(RECORD, SHAPE, SETTINGS, threads=1)
    samples = []
    for global_seed in (1, 2):
        torch.manual_seed(global_seed)
        samples.append(sample(new_model(site(), record), 5, seed=0))
    for name in (LOG_TRANSMISSIVITY, HEAD):
        torch.testing.assert_close(samples[0][name], samples[1][name], rtol=0, atol=0)
