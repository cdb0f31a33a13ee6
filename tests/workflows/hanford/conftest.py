"""The published aquifer where it can be had, else the synthetic one."""

import os
from pathlib import Path

import numpy as np
import pytest

from data.sources.aquifer_file import pack_aquifer
from data.sources.hanford import read_hanford
from simulators.subsurface.synthetic_site import synthetic_aquifer
from workflows.hanford.fields import AQUIFER

HANFORD = Path(
    os.environ.get("HEADRACE_HANFORD_DATA")
    or Path(__file__).parents[4] / "shared/reference/hanford/data"
)


@pytest.fixture(scope="session")
def hanford_folder():
    if not (HANFORD / "geom_1x.mat").exists():
        pytest.skip("the published Hanford data are not here (HEADRACE_HANFORD_DATA)")
    return HANFORD


@pytest.fixture(scope="session")
def aquifer():
    if (HANFORD / "geom_1x.mat").exists():
        return read_hanford(HANFORD)
    return synthetic_aquifer()


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory, aquifer):
    folder = tmp_path_factory.mktemp("run")
    (folder / "inputs").mkdir()
    (folder / AQUIFER).write_bytes(pack_aquifer(aquifer))
    return folder


@pytest.fixture(scope="session")
def small_site():
    """The synthetic aquifer, whether or not the published one is here."""
    return synthetic_aquifer()


@pytest.fixture(scope="session")
def generated_arrays(small_site):
    """What the evaluation of a generator writes for the report, of random numbers."""
    generator, n = np.random.default_rng(0), small_site.n_cells
    names, arrays = ("log_transmissivity", "hydraulic_head"), {}
    for name in names:
        for source in ("simulated", "generated"):
            for moment in ("mean", "deviation", "spread"):
                arrays[f"{moment}_{name}_{source}"] = generator.random(n)
            correlation = generator.uniform(-1, 1, n)
            arrays[f"correlation_{name}_{source}"] = correlation
        arrays[f"pairs_{name}"] = generator.random((3, n))
    arrays["sensors_log_transmissivity"] = np.arange(0, n, 20)
    arrays["sensors_hydraulic_head"] = small_site.well_cells
    arrays["correlation_cell"] = np.array(small_site.well_cells[0])
    return arrays
