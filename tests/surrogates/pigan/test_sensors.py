import re

import pytest
import torch

from surrogates.pigan.sensors import (
    ReadingScale,
    SensorData,
    SensorGroup,
    Snapshots,
    subdomains,
)

POINTS = torch.stack([torch.arange(10.0), torch.zeros(10)], dim=1)


def group_of(**cells):
    return SensorGroup({name: torch.tensor(c) for name, c in cells.items()})


def draw(n, n_sensors, seed=0):
    return torch.randn(n, n_sensors, generator=torch.Generator().manual_seed(seed))


def test_readings_come_field_after_field_in_the_order_of_the_cells():
    group = group_of(head=[7, 2], source=[4])
    fields = {"source": 100 + torch.arange(10.0), "head": torch.arange(10.0)[None]}
    fields["source"] = fields["source"][None]
    assert group.read(fields).tolist() == [[7.0, 2.0, 104.0]]
    assert group.locations(POINTS)[:, 0].tolist() == [7.0, 2.0, 4.0]
    assert group.n_sensors == 3


def test_squashing_is_blind_to_the_unit_and_the_zero_of_each_sensor():
    readings = draw(60, 3).double()
    other = readings * torch.tensor([0.3048, 1e4, 1e-3]) + torch.tensor([9.0, -2.0, 5])
    group = group_of(head=[0, 1, 2])
    squashed = Snapshots(group, readings).scale.squash(readings)
    again = Snapshots(group, other).scale.squash(other)
    # a shift of 1e4 standard deviations costs four of sixteen digits
    torch.testing.assert_close(again, squashed, rtol=0, atol=1e-10)


def test_the_scale_is_the_median_and_half_of_the_16_to_84_percent_range():
    readings = torch.arange(101.0)[:, None].expand(-1, 2) * torch.tensor([1.0, 3.0])
    scale = Snapshots(group_of(head=[0, 1]), readings).scale
    torch.testing.assert_close(scale.median, torch.tensor([50.0, 150.0]))
    torch.testing.assert_close(scale.spread, torch.tensor([34.0, 102.0]))


def test_squashing_is_odd_linear_in_the_middle_and_logarithmic_in_the_tails():
    scale = ReadingScale(torch.tensor([20.0]), torch.tensor([2.0]))
    x = torch.tensor([1e-3, 1.0, 1e3])[:, None]
    squashed = scale.squash(20 + 2 * x.double())
    torch.testing.assert_close(scale.squash(20 - 2 * x.double()), -squashed)
    assert float(squashed[0]) == pytest.approx(1e-3, rel=1e-6)
    # asinh x = ln 2x + 1/4x² + ...
    assert float(squashed[2]) == pytest.approx(torch.tensor(2e3).log().item(), rel=1e-6)


def test_a_wild_snapshot_does_not_move_the_scale():
    readings = draw(200, 1)
    wild = readings.clone()
    wild[0] = 1e6
    group = group_of(head=[0])
    usual, moved = (Snapshots(group, r).scale.spread for r in (readings, wild))
    torch.testing.assert_close(moved, usual, rtol=0.05, atol=0)


def site(cells=(1, 4, 6), readings=None, n=30):
    group = group_of(head=list(cells))
    readings = draw(n, group.n_sensors) if readings is None else readings
    part = Snapshots(group, readings)
    return SensorData(POINTS, [part], [part])


def with_value(row, column, value):
    readings = draw(30, 3)
    readings[row, column] = value
    return readings


def test_good_readings_are_taken():
    assert site().training[0].group.n_sensors == 3


CONSTANT = draw(30, 3) * torch.tensor([1.0, 0.0, 1.0]) + 2.5


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"cells": (1, 4, 10)}, "cells 0 to 9; got cell 10 (1 outside). Check the ind"),
        ({"cells": (1, -2, 3)}, "cells 0 to 9; got cell -2 (1 outside). Check the ind"),
        ({"cells": (5, 1, 5)}, "got cell 5 2 times. Average sensors of one cell."),
        ({"readings": draw(30, 4)}, "(snapshots, 3), one column per sensor; got (30,"),
        ({"readings": draw(30, 3)[0]}, "(snapshots, 3), one column per sensor; got (3"),
        (
            {"readings": with_value(7, 2, torch.nan)},
            "got nan in snapshot 7, sensor 2 (1 such values). Leave them out.",
        ),
        (
            {"readings": with_value(3, 0, torch.inf)},
            "got inf in snapshot 3, sensor 0 (1 such values). Leave them out.",
        ),
        (
            {"readings": CONSTANT},
            "sensor 1 reads 2.5 in most snapshots (1 do). Leave such sensors out",
        ),
        ({"n": 19}, "20 snapshots or more, one for four of the 3 sensors and 20 at le"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_bad_input_is_named_with_its_value_and_the_fix(wrong, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        site(**wrong)


def test_many_sensors_need_a_snapshot_for_four_of_them():
    points = torch.rand(120, 2, generator=torch.Generator().manual_seed(2))
    group = group_of(head=list(range(100)))
    enough = Snapshots(group, draw(25, 100))
    SensorData(points, [enough], [enough])
    few = Snapshots(group, draw(24, 100))
    message = r"held-out .* of 25 snapshots or more.*got 24. Use more snapshots or few"
    with pytest.raises(ValueError, match=message):
        SensorData(points, [enough], [few])


@pytest.mark.parametrize("empty", ["no groups", "a group without sensors"])
def test_a_site_without_sensors_is_refused(empty):
    none = Snapshots(SensorGroup({}), torch.zeros(30, 0))
    parts = [] if empty == "no groups" else [none]
    with pytest.raises(ValueError, match="every group must have sensors; got"):
        SensorData(POINTS, parts, parts)


def locations(n=60):
    return torch.rand(n, 2, generator=torch.Generator().manual_seed(4))


def test_subdomains_cover_every_sensor_and_overlap():
    parts = subdomains(locations(), 5, seed=0)
    counts = torch.bincount(torch.cat(parts), minlength=60)
    assert len(parts) == 5
    assert (counts >= 1).all()
    # neither all apart nor all the same
    assert 60 < int(counts.sum()) < 2.5 * 60


def test_a_subdomain_holds_neighbours():
    where = locations()
    for part in subdomains(where, 6, seed=1):
        spread = where[part].var(0).sum()
        assert spread < 0.5 * where.var(0).sum()


def test_subdomains_are_decided_by_their_seed():
    first, again = (subdomains(locations(), 5, seed=7) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    other = subdomains(locations(), 5, seed=8)
    assert any(a.tolist() != b.tolist() for a, b in zip(first, other, strict=True))


def test_one_subdomain_is_the_whole_site():
    (part,) = subdomains(locations(), 1, seed=0)
    assert part.tolist() == list(range(60))
