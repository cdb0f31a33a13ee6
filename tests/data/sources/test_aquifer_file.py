from dataclasses import fields

import numpy as np
import pytest

from data.sources.aquifer import Aquifer
from data.sources.aquifer_file import pack_aquifer, read_aquifer
from simulators.subsurface.synthetic_site import synthetic_aquifer


@pytest.fixture(scope="module")
def aquifer():
    return synthetic_aquifer()


def test_every_field_comes_back(aquifer, tmp_path):
    (tmp_path / "a.npz").write_bytes(pack_aquifer(aquifer))
    again = read_aquifer(tmp_path / "a.npz")
    for field in fields(Aquifer):
        before, after = getattr(aquifer, field.name), getattr(again, field.name)
        if field.name == "observation_sets":
            assert before.keys() == after.keys()
            assert all(np.array_equal(before[k], after[k]) for k in before)
        else:
            assert np.array_equal(before, after), field.name


def test_equal_records_are_equal_bytes(aquifer):
    assert pack_aquifer(aquifer) == pack_aquifer(synthetic_aquifer())
