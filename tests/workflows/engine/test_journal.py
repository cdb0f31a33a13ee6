"""The journal: what is finished is never computed twice, and never believed wrongly."""

import errno
import os

import pytest

from workflows.engine.driving.campaign import gather
from workflows.engine.driving.journal import invalidate, read_journal
from workflows.engine.driving.tasks import Task
from workflows.engine.watching.events import read_events


@pytest.fixture
def run_squares(tmp_path, campaign_on):
    """Run five squares and their total; returns the facts and what was computed."""
    import little_steps as steps

    def run(*, version="1", seed=0, members=5):
        before = len(read_events(tmp_path / "run"))
        with campaign_on(seed=seed) as campaign:
            squares = [
                campaign.submit(Task(steps.square, "sim", version), steps.Number(i))
                for i in range(members)
            ]
            last = campaign.submit(
                Task(steps.total, "io", "1"), steps.Numbers(), squares=squares
            )
            [manifest] = gather([last])
        events = read_events(tmp_path / "run")[before:]
        return manifest, [e["task"] for e in events if e.get("event") == "start"]

    return run


def test_finished_tasks_are_not_computed_again(run_squares):
    first, computed = run_squares()
    assert len(computed) == 6
    again, computed = run_squares()
    assert computed == []
    assert again == first


def test_more_members_compute_only_the_new_ones(run_squares):
    run_squares(members=5)
    assert run_squares(members=7)[1] == ["square[5]", "square[6]", "total[0]"]


def test_version_and_seed_are_part_of_the_key(run_squares):
    run_squares()
    assert len(run_squares(seed=1)[1]) == 6
    # the squares have the same artefacts and facts as before, so the total stands
    assert sorted(run_squares(version="2")[1]) == [f"square[{i}]" for i in range(5)]


@pytest.mark.parametrize("harm", ["missing", "altered", "shortened"])
def test_artefact_that_is_not_intact_is_computed_again(tmp_path, run_squares, harm):
    first, _ = run_squares()
    path = tmp_path / "run" / "fields" / "4.txt"
    if harm == "missing":
        path.unlink()
    else:
        path.write_text("17" if harm == "altered" else "1")
    again, computed = run_squares()
    assert computed == ["square[4]"]
    assert path.read_text() == "16"
    assert again.facts == first.facts


@pytest.mark.parametrize("n_bytes", [1, 2, 7, 100])
def test_torn_tail_costs_one_task_and_is_removed(tmp_path, run_squares, n_bytes):
    run_squares()
    path = tmp_path / "run" / "journal.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-n_bytes])
    assert run_squares()[1] == ["total[0]"]
    assert len(read_journal(path)) == 6
    assert path.read_bytes().count(b"\n") == 6


def test_flipped_bit_never_yields_another_record(tmp_path, run_squares):
    run_squares(members=2)
    path = tmp_path / "run" / "journal.jsonl"
    whole, records = path.read_bytes(), read_journal(path)
    assert len(records) == 3
    for position in range(len(whole)):
        flipped = bytearray(whole)
        flipped[position] ^= 1 << position % 8
        path.write_bytes(flipped)
        left = read_journal(path)
        # a flipped line end also spoils the line after it
        assert 1 <= len(left) <= 2, position
        assert all(record in records for record in left), position


def test_result_is_announced_after_its_line_is_durable(
    tmp_path, campaign_on, monkeypatch
):
    import little_steps as steps

    durable, announced = [0], []
    path = tmp_path / "run" / "journal.jsonl"
    sync = os.fsync

    def noting_sync(descriptor):
        sync(descriptor)
        if os.fstat(descriptor).st_ino == path.stat().st_ino:
            durable.append(os.fstat(descriptor).st_size)

    def check(future):
        task = f'"value": {future.result().facts["value"]}'
        announced.append(task in path.read_bytes()[: durable[-1]].decode())

    with campaign_on() as campaign:
        monkeypatch.setattr(os, "fsync", noting_sync)
        futures = [
            campaign.submit(Task(steps.square, "sim", "1"), steps.Number(i))
            for i in range(50)
        ]
        for future in futures:
            future.add_done_callback(check)
        gather(futures)
    assert announced == [True] * 50


def test_result_that_cannot_be_made_durable_is_not_announced(campaign_on, monkeypatch):
    import little_steps as steps

    def full_disk(descriptor):
        raise OSError(errno.ENOSPC, "no space left on device")

    def pipeline():
        with campaign_on() as campaign:
            monkeypatch.setattr(os, "fsync", full_disk)
            gather(
                [campaign.submit(Task(steps.return_empty, "sim", "1"), steps.Numbers())]
            )

    with pytest.raises(OSError, match="no space left on device"):
        pipeline()


@pytest.fixture
def journal(tmp_path):
    return tmp_path / "run" / "journal.jsonl"


def test_damaged_record_is_told_and_computed_again(run_squares, journal, capsys):
    run_squares()
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines)[:-5])
    run_squares()
    assert capsys.readouterr().err == "", "a torn tail is usual after a kill"
    lost = read_journal(journal)[1]["task"]
    journal.write_bytes(b"".join([lines[0], b"garbage\n", *lines[2:]]))
    assert run_squares()[1] == [lost]
    assert "journal.jsonl is damaged in line 2; a task" in capsys.readouterr().err


def test_invalidated_step_and_all_that_uses_it_are_computed_again(run_squares, journal):
    first, computed = run_squares()
    everything = sorted(computed)
    assert invalidate(journal, ["little_steps:total"]) == 1
    assert run_squares()[1] == ["total[0]"]
    # the squares come out as they were, so the key of the total is the same
    assert invalidate(journal, ["square"]) == 6
    again, computed = run_squares()
    assert sorted(computed) == everything
    assert again.artefacts == first.artefacts
    assert run_squares()[1] == [], "what was computed since then stands"


def test_step_that_has_no_finished_task_is_not_invalidated(run_squares, journal):
    run_squares(members=1)
    before = journal.read_bytes()
    with pytest.raises(ValueError, match=r"got cube\. There are: square, total\."):
        invalidate(journal, ["square", "cube"])
    assert journal.read_bytes() == before


def test_torn_tail_does_not_spoil_an_invalidation(run_squares, journal):
    run_squares(members=2)
    journal.write_bytes(journal.read_bytes() + b'{"crc32": "')
    assert invalidate(journal, ["square"]) == 3
    assert len(run_squares(members=2)[1]) == 3
