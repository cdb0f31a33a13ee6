"""Shared data: the Hanford reference field and its published observation sets."""

import os
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import pytest
import torch

NEXT_TO_CHECKOUT = Path(__file__).parents[3].parent / "shared/reference/hanford/data"


class Hanford(NamedTuple):
    points: torch.Tensor  # centroids (1475, 2), lengths in units of 60 km
    values: torch.Tensor  # ln T (1475,), T in m2/d
    sets: dict[int, torch.Tensor]  # n observations: 0-based cells (10, n)


@pytest.fixture(scope="session")
def hanford():
    folder = Path(os.environ.get("HEADRACE_HANFORD_DATA", NEXT_TO_CHECKOUT))
    if not (folder / "geom_1x.mat").is_file():
        pytest.skip(f"no Hanford data in {folder}; set HEADRACE_HANFORD_DATA")
    return Hanford(
        _mat(folder / "geom_1x.mat", "cells/centroids").T.contiguous(),
        _mat(folder / "conduct_log_1x.mat", "conduct_log").flatten(),
        {
            n: torch.from_numpy(np.load(folder / f"yobs_{n}_1x.npy"))
            for n in (10, 50, 100)
        },
    )


def _mat(path, name):
    with h5py.File(path) as file:
        return torch.from_numpy(file[name][()])
