"""What an aquifer refuses, on two unit squares side by side."""

import dataclasses

import numpy as np
import pytest

from data.sources.aquifer import Aquifer

# nodes 0-1-2 below, 3-4-5 above; faces: bottom, top, left, middle, right
FACE_NODES = [(0, 1), (1, 2), (3, 4), (4, 5), (0, 3), (1, 4), (2, 5)]
FACE_CELLS = [(-1, 0), (-1, 1), (0, -1), (1, -1), (-1, 0), (0, 1), (1, -1)]


def two_squares():
    nodes = np.array([(x, y) for y in (0.0, 1.0) for x in (0.0, 1.0, 2.0)])
    ends = nodes[np.array(FACE_NODES)]
    return Aquifer(
        name="two squares",
        is_synthetic=True,
        cell_centroids=np.array([(0.5, 0.5), (1.5, 0.5)]),
        cell_areas=np.ones(2),
        cell_nodes=np.array([(0, 1, 4, 3), (1, 2, 5, 4)]),
        node_coordinates=nodes,
        face_cells=np.array(FACE_CELLS),
        face_nodes=np.array(FACE_NODES),
        face_centroids=ends.mean(axis=1),
        face_normals=np.abs((ends[:, 1] - ends[:, 0])[:, ::-1]),
        head_faces=np.array([4]),
        head_values_m=np.array([10.0]),
        inflow_faces=np.array([6]),
        inflow_values_m3_per_day=np.array([1.0]),
        well_cells=np.array([1]),
        observation_sets={1: np.array([[0], [1]])},
        reference_log_transmissivity=np.zeros(2),
        length_scale_m=100.0,
        origin_m=np.zeros(2),
        digests={"content": "0"},
    )


def test_a_sound_aquifer_is_accepted():
    assert two_squares().n_cells == 2


def test_two_aquifers_are_compared_by_identity():
    assert two_squares() != two_squares()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"observation_sets": {1: np.array([[2]])}}, "set 1 .* 2 cells; got 2"),
        ({"observation_sets": {1: np.array([[-1]])}}, "set 1 .* 2 cells; got -1"),
        ({"observation_sets": {2: np.array([[0]])}}, r"set 2 .*\(n_sets, 2\)"),
        ({"well_cells": np.array([2])}, "well_cells .* 2 cells; got 2"),
        ({"well_cells": np.array([1.0])}, "well_cells must hold integers; got float64"),
        ({"head_faces": np.array([7])}, "head_faces .* 7 faces; got 7"),
        ({"head_faces": np.array([5])}, "faces with one cell; got face 5"),
        (
            {"head_faces": np.array([6])},
            "one boundary condition; got several on face 6",
        ),
        ({"face_cells": np.array(FACE_CELLS) + 1}, "face_cells .* 2 cells; got 2"),
        ({"face_cells": np.full((7, 2), -1)}, "got face 0 without one"),
        ({"face_nodes": np.array(FACE_NODES) + 1}, "face_nodes .* 6 nodes; got 6"),
        ({"cell_nodes": np.full((2, 4), 6)}, "cell_nodes .* 6 nodes; got 6"),
        ({"cell_nodes": np.zeros((2, 3), int)}, r"shape \(2, 4\).*got \(2, 3\)"),
        ({"head_values_m": np.ones(2)}, r"head_values_m must have shape \(1,\)"),
        ({"reference_log_transmissivity": np.array([0, np.nan])}, "must be finite"),
        ({"face_normals": np.full((7, 2), np.inf)}, "face_normals must be finite"),
        ({"cell_areas": np.array([1.0, 0.0])}, "areas .* must be > 0"),
        ({"length_scale_m": -1.0}, r"length scale \[m\] must be > 0"),
    ],
)
def test_a_damaged_aquifer_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(two_squares(), **change)
