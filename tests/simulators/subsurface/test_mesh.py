import pickle
from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from simulators.subsurface import (
    SIDES,
    FlowMesh,
    number_cells,
    outer_faces,
    structured_mesh,
    unstructured_mesh,
)

L_SHAPE = np.array([[1, 1, 0], [1, 0, 0], [1, 1, 1]])


def test_structured_mesh_equals_the_same_cells_given_as_polygons():
    dy, dx = 2.0, 3.0
    heads = outer_faces((1, 2), ["west"])
    structured = structured_mesh((1, 2), (dy, dx), head_faces=heads)
    polygons = unstructured_mesh(
        cell_centroids=[[dx / 2, 0], [3 * dx / 2, 0]],
        face_cells=[[0, 1], [-1, 0]],
        face_centroids=[[dx, 0], [0, 0]],
        face_normals=[[dy, 0], [dy, 0]],
        head_faces=[1],
        inflow_faces=[],
    )
    for field in fields(FlowMesh)[1:]:
        a, b = getattr(structured, field.name), getattr(polygons, field.name)
        assert torch.equal(a, b), field.name


def test_skewed_face_uses_the_projection_of_its_normal():
    mesh = unstructured_mesh(
        [[0.0, 0.0], [2.0, 0.0]], [[0, 1], [0, -1]], [[1.0, 1.0], [-1.0, 0.0]],
        [[3.0, 0.0], [-1.0, 0.0]], [1], [],
    )  # fmt: skip
    # d = (1, 1), n = (3, 0): |d.n|/(d.d) = 3/2, not |n|/|d| = 3/sqrt(2)
    assert mesh.factor_a.tolist() == [1.5]


def test_cell_numbers_and_rows_and_columns_are_inverse():
    numbers = number_cells(L_SHAPE.shape, active=L_SHAPE)
    back = (numbers >= 0).nonzero()
    assert len(back) == L_SHAPE.sum()
    assert numbers[back[:, 0], back[:, 1]].tolist() == list(range(len(back)))
    assert bool((numbers[torch.tensor(L_SHAPE) == 0] == -1).all())


def test_outer_faces_of_a_mask_close_its_outline():
    faces = outer_faces(L_SHAPE.shape, active=L_SHAPE)
    # the perimeter of the shape, counted by hand
    assert len(faces) == 14
    north = outer_faces(L_SHAPE.shape, ["north"], active=L_SHAPE)
    assert north.tolist() == [[0, 0, 0], [0, 1, 0], [2, 1, 0], [2, 2, 0]]
    assert SIDES[0] == "north"


def test_inactive_cells_have_no_connections():
    mesh = structured_mesh(
        L_SHAPE.shape, (1.0, 1.0), active=L_SHAPE, fixed_cells=[(0, 0)]
    )
    pairs = {tuple(p) for p in torch.stack([mesh.cell_a, mesh.cell_b], -1).tolist()}
    assert pairs == {(0, 1), (0, 2), (2, 3), (3, 4), (4, 5)}


def test_part_without_head_is_refused_with_its_cells():
    active = np.array([[1, 0, 1, 1], [1, 0, 1, 1]])
    with pytest.raises(ValueError, match=r"part of 4 cells .* \[1, 2, 4, 5\]"):
        structured_mesh((2, 4), (1.0, 1.0), active=active, fixed_cells=[(0, 0)])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cell_a": torch.tensor([5])}, r"cell_a must be in \[0, 1\]; got 5"),
        ({"cell_b": torch.tensor([0])}, "two different cells"),
        ({"factor_a": torch.tensor([0.0]).double()}, "positive and finite; got 0"),
        ({"factor_b": torch.tensor([1.0])}, "must be float64"),
        ({"head_cell": torch.tensor([-1])}, r"head_cell must be in \[0, 1\]; got -1"),
        ({"fixed_cell": torch.tensor([1, 0])}, "one cell at least must be free"),
        ({"fixed_cell": torch.tensor([0])}, "must not carry a boundary face"),
    ],
)
def test_bad_meshes_are_refused(change, message):
    mesh = structured_mesh((1, 2), (1.0, 1.0), head_faces=[(0, 0, 3)])
    with pytest.raises(ValueError, match=message):
        replace(mesh, **change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"face_cells": [[1, 2], [1, -1]]}, "1-based"),
        ({"head_faces": [2]}, r"head_faces must be in \[0, 1\]; got 2"),
        ({"inflow_faces": [0]}, "face 0 between two"),
    ],
)
def test_bad_faces_are_refused(change, message):
    good = {
        "cell_centroids": [[0.0, 0.0], [1.0, 0.0]],
        "face_cells": [[0, 1], [0, -1]],
        "face_centroids": [[0.5, 0.0], [-0.5, 0.0]],
        "face_normals": [[1.0, 0.0], [-1.0, 0.0]],
        "head_faces": [1],
        "inflow_faces": [],
    }
    unstructured_mesh(**good)
    with pytest.raises(ValueError, match=message):
        unstructured_mesh(**(good | change))


@pytest.mark.parametrize("face", [(0, 0, 1), (0, 2, 0), (0, 0, 7)])
def test_head_face_inside_or_on_an_inactive_cell_is_refused(face):
    with pytest.raises(ValueError, match="outer face"):
        structured_mesh((3, 3), (1.0, 1.0), active=L_SHAPE, head_faces=[face])


def test_cell_cannot_be_fixed_twice():
    with pytest.raises(ValueError, match="must not repeat"):
        structured_mesh((1, 3), (1.0, 1.0), fixed_cells=[(0, 1), (0, 1)])


def test_inactive_cell_cannot_be_fixed():
    with pytest.raises(ValueError, match="fixed_cell must be in"):
        structured_mesh((3, 3), (1.0, 1.0), active=L_SHAPE, fixed_cells=[(0, 2)])


def test_mesh_survives_a_pickle():
    mesh = structured_mesh((1, 2), (1.0, 1.0), head_faces=[(0, 0, 3)])
    again = pickle.loads(pickle.dumps(mesh))
    assert torch.equal(again.factor_a, mesh.factor_a)
