"""The published aquifer where it can be had, else the synthetic one."""

import os
from pathlib import Path

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
