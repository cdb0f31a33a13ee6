"""The reader against figures computed from the published files and cklemap's heads."""

import dataclasses
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.sparse.linalg import spsolve

from data.sources.aquifer import OUTSIDE
from data.sources.hanford import SHA256, read_hanford

FOLDER = Path(
    os.environ.get(
        "HEADRACE_HANFORD_DATA",
        Path(__file__).parents[3].parent / "shared/reference/hanford/data",
    )
)
pytestmark = pytest.mark.skipif(
    not FOLDER.is_dir(), reason="no Hanford files; set HEADRACE_HANFORD_DATA"
)

# reference solution of the site, m, by 1-based cell id: it agrees with the heads
# published with yeungyh/cklemap to 1e-14 relative
HEADS_M = {
    1: 104.590360726,
    100: 117.385148583,
    250: 116.935163924,
    500: 108.345418736,
    750: 114.578349762,
    1000: 115.622541850,
    1250: 117.445138931,
    1475: 119.489861353,
}


@pytest.fixture(scope="module")
def site():
    return read_hanford(FOLDER)


@pytest.fixture
def copied_files(tmp_path):
    for name in SHA256:
        shutil.copyfile(FOLDER / name, tmp_path / name)
    return tmp_path


def half_transmissibilities(site, cells, faces):
    distance = site.face_centroids[faces] - site.cell_centroids[cells]
    projected = np.abs((distance * site.face_normals[faces]).sum(axis=1))
    conductance = np.exp(site.reference_log_transmissivity[cells])
    return conductance * projected / (distance**2).sum(axis=1)


def solve_heads(site):
    """Two-point flux with half transmissibilities T |d·n| / d·d, harmonic on faces."""
    interior = np.flatnonzero((site.face_cells != OUTSIDE).all(axis=1))
    a, b = site.face_cells[interior].T
    t_a = half_transmissibilities(site, a, interior)
    t_b = half_transmissibilities(site, b, interior)
    t = t_a * t_b / (t_a + t_b)
    rim = site.face_cells[site.head_faces].max(axis=1)
    t_rim = half_transmissibilities(site, rim, site.head_faces)
    rows, columns = np.concatenate([a, b, a, b, rim]), np.concatenate([a, b, b, a, rim])
    matrix = sp.csr_array((np.concatenate([t, t, -t, -t, t_rim]), (rows, columns)))
    right = np.zeros(site.n_cells)
    np.add.at(right, rim, t_rim * site.head_values_m)
    fed = site.face_cells[site.inflow_faces].max(axis=1)
    np.add.at(right, fed, site.inflow_values_m3_per_day)
    return spsolve(matrix.tocsc(), right)


def test_counts_are_those_of_the_published_mesh(site):
    assert site.n_cells == 1475
    assert site.face_cells.shape == (3134, 2)
    assert site.node_coordinates.shape == (1655, 2)
    assert (site.face_cells != OUTSIDE).all(axis=1).sum() == 2766
    assert (len(site.head_faces), len(site.inflow_faces)) == (176, 22)
    assert {n: sets.shape for n, sets in site.observation_sets.items()} == {
        10: (10, 10),
        50: (10, 50),
        100: (10, 100),
    }
    assert not site.is_synthetic


def test_values_are_those_of_the_published_site(site):
    assert site.inflow_values_m3_per_day.sum() == pytest.approx(10_823.46, rel=1e-12)
    assert site.head_values_m.min() == pytest.approx(103.645, abs=5e-4)
    assert site.head_values_m.max() == pytest.approx(120.689, abs=5e-4)
    log_t = site.reference_log_transmissivity
    assert log_t.mean() == pytest.approx(7.8304, abs=5e-5)
    assert (log_t.min(), log_t.max()) == pytest.approx((-0.2912, 12.0950), abs=5e-5)


def test_wells_are_zero_based(site):
    # 1-based, ascending, 6 to 1475 in the file
    assert (site.well_cells[0], site.well_cells[-1], len(site.well_cells)) == (
        5,
        1474,
        323,
    )
    for size, shared in {10: 2, 50: 7, 100: 17}.items():
        assert len(np.intersect1d(site.observation_sets[size][0], site.well_cells)) == (
            shared
        )


def test_map_coordinates_span_the_site(site):
    x, y = (site.origin_m + site.length_scale_m * site.node_coordinates).T
    assert (x.min(), x.max()) == pytest.approx((557_265.81, 597_243.60), abs=0.01)
    assert (y.min(), y.max()) == pytest.approx((102_624.30, 154_567.48), abs=0.01)
    area_km2 = site.cell_areas.sum() * site.length_scale_m**2 / 1e6
    assert area_km2 == pytest.approx(773.15, abs=0.01)


def test_cells_are_counter_clockwise_and_have_the_stored_area(site):
    x, y = np.moveaxis(site.node_coordinates[site.cell_nodes], -1, 0)
    x_next, y_next = np.roll(x, -1, axis=1), np.roll(y, -1, axis=1)
    area = 0.5 * (x * y_next - x_next * y).sum(axis=1)
    np.testing.assert_allclose(area, site.cell_areas, rtol=1e-9)


def test_normals_have_the_length_of_their_face_and_close_every_cell(site):
    ends = site.node_coordinates[site.face_nodes]
    length = np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1)
    np.testing.assert_allclose(
        np.linalg.norm(site.face_normals, axis=1), length, rtol=1e-9
    )
    outflow = np.zeros((site.n_cells, 2))
    for side, sign in ((0, 1.0), (1, -1.0)):
        inside = site.face_cells[:, side] != OUTSIDE
        np.add.at(
            outflow, site.face_cells[inside, side], sign * site.face_normals[inside]
        )
    # Gauss: the outward normals of a closed polygon sum to zero
    assert np.abs(outflow).max() < 1e-12 * site.n_cells


def test_normals_point_from_the_first_cell_to_the_second(site):
    interior = (site.face_cells != OUTSIDE).all(axis=1)
    first, second = site.cell_centroids[site.face_cells[interior]].swapaxes(0, 1)
    assert (((second - first) * site.face_normals[interior]).sum(axis=1) > 0).all()


def test_heads_on_the_mesh_are_the_published_ones(site):
    heads = solve_heads(site)
    for cell, head in HEADS_M.items():
        assert heads[cell - 1] == pytest.approx(head, abs=1e-8)
    assert heads[site.well_cells].mean() == pytest.approx(115.691363250, abs=1e-8)


def test_a_missing_file_is_named_with_its_hash_and_the_fix(copied_files):
    (copied_files / "bc_1x.mat").unlink()
    with pytest.raises(FileNotFoundError, match=r"bc_1x\.mat.*ac7c7b39.*--data DIR"):
        read_hanford(copied_files)


@pytest.mark.parametrize("name", SHA256)
def test_a_truncated_file_is_named_with_both_hashes(copied_files, name):
    content = (copied_files / name).read_bytes()
    (copied_files / name).write_bytes(content[:-1])
    with pytest.raises(
        ValueError, match=rf"{name}.*{SHA256[name]}.*got [0-9a-f]{{64}}"
    ):
        read_hanford(copied_files)


def test_one_flipped_bit_is_refused(copied_files):
    content = bytearray((copied_files / "geom_1x.mat").read_bytes())
    content[70_000] ^= 1
    (copied_files / "geom_1x.mat").write_bytes(content)
    with pytest.raises(ValueError, match=r"geom_1x\.mat must have sha256"):
        read_hanford(copied_files)


def test_a_site_travels_between_processes(site):
    copy = pickle.loads(pickle.dumps(site))
    np.testing.assert_array_equal(copy.face_cells, site.face_cells)
    assert copy.digests == dict(SHA256)


def test_a_one_based_observation_set_is_refused_at_the_site(site):
    shifted = {100: np.full((1, 100), site.n_cells)}
    with pytest.raises(ValueError, match=r"observation set 100 .*1475 cells; got 1475"):
        dataclasses.replace(site, observation_sets=shifted)
