import numpy as np
import pytest
import torch

from simulators.subsurface import (
    FlowSolver,
    boundary_flows,
    synthetic_aquifer,
)
from workflows.hanford.fields import flow_problem


@pytest.fixture(scope="module")
def site():
    return synthetic_aquifer(0)


def test_equal_seeds_give_equal_digests(site):
    assert synthetic_aquifer(0).digests == site.digests
    other = synthetic_aquifer(1).digests
    assert all(other[k] != site.digests[k] for k in ("well_cells", "face_cells"))


def test_site_has_the_size_of_the_hanford_one(site):
    assert site.is_synthetic
    assert 1400 <= site.n_cells <= 1500
    assert len(np.unique(site.well_cells)) == 323
    assert {k: v.shape for k, v in site.observation_sets.items()} == {
        k: (10, k) for k in (10, 50, 100)
    }
    assert site.inflow_values_m3_per_day.sum() == pytest.approx(10_823.46)
    assert (site.inflow_values_m3_per_day > 0).all()
    # mean 7.83 and deviation 1.71, less what one draw of some 20 lengths leaves open
    assert site.reference_log_transmissivity.mean() == pytest.approx(7.83, abs=1.0)
    assert site.reference_log_transmissivity.std() == pytest.approx(1.71, abs=0.4)


def test_faces_close_every_cell(site):
    """The outward normals of a cell sum to zero and its faces bound its area."""
    total = np.zeros((site.n_cells, 2))
    area = np.zeros(site.n_cells)
    for side, sign in ((0, 1.0), (1, -1.0)):
        cell = site.face_cells[:, side]
        inside = cell >= 0
        np.add.at(total, cell[inside], sign * site.face_normals[inside])
        # divergence theorem: area = sum x.n / 2
        moment = (site.face_centroids * site.face_normals).sum(-1)[inside] / 2
        np.add.at(area, cell[inside], sign * moment)
    assert np.abs(total).max() < 1e-15
    np.testing.assert_allclose(area, site.cell_areas, rtol=1e-10)


def test_faces_and_cells_share_their_nodes(site):
    x = site.node_coordinates
    np.testing.assert_allclose(x[site.cell_nodes].mean(1), site.cell_centroids)
    np.testing.assert_allclose(x[site.face_nodes].mean(1), site.face_centroids)
    edges = x[site.cell_nodes] - x[np.roll(site.cell_nodes, -1, axis=1)]
    cross = edges[:, 0, 0] * edges[:, 1, 1] - edges[:, 0, 1] * edges[:, 1, 0]
    assert (cross > 0).all(), "cell nodes must run counter-clockwise"


@pytest.mark.parametrize("seed", range(3))
def test_heads_are_plausible_and_water_is_balanced(seed):
    site = synthetic_aquifer(seed)
    mesh, forcing = flow_problem(site)
    log_t = torch.tensor(site.reference_log_transmissivity)
    head = FlowSolver(mesh).solve(log_t, forcing)
    assert 103.6 <= float(head.min()) <= 105
    assert 119 <= float(head.max()) <= 140
    flows = boundary_flows(mesh, log_t, head, forcing).head_faces
    assert -float(flows.sum()) == pytest.approx(10_823.46, rel=1e-9)


def test_no_cell_has_both_kinds_of_boundary(site):
    kinds = (site.face_cells[f].max(1) for f in (site.head_faces, site.inflow_faces))
    assert not set.intersection(*(set(cells.tolist()) for cells in kinds))
