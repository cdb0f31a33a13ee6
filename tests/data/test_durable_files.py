"""Files that are complete or absent."""

import errno
import os
import uuid

import pytest

from data.durable_files import sweep_partial_files, write_durably


def test_parts_become_one_file(tmp_path):
    write_durably(tmp_path / "a", [b"one", memoryview(b"two"), b""])
    assert (tmp_path / "a").read_bytes() == b"onetwo"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_refused_write_keeps_the_old_file_and_names_the_new_one(
    tmp_path, monkeypatch
):
    write_durably(tmp_path / "a", [b"old"])

    def refuse(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match=r"No space left.*a\..*\.partial") as caught:
        write_durably(tmp_path / "a", [b"new"])
    assert caught.value.errno == errno.ENOSPC
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_bytes() == b"old"


def test_the_bytes_are_synced_before_the_name_and_the_name_at_last(
    tmp_path, monkeypatch
):
    states = []
    sync = os.fsync

    def observe(descriptor):
        states.append([path.suffix for path in tmp_path.iterdir()])
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", observe)
    write_durably(tmp_path / "a", [b"new"])
    assert states == [[".partial"], [""]]


def test_sweep_removes_partial_files_and_folders_alone(tmp_path):
    (tmp_path / "deep").mkdir()
    file = tmp_path / "deep" / f"0.{uuid.uuid4().hex}.partial"
    folder = tmp_path / "deep" / f"store.zarr.{uuid.uuid4().hex}.partial"
    file.touch()
    (folder / "manifest").mkdir(parents=True)
    (folder / "manifest" / f"0.json.{uuid.uuid4().hex}.partial").touch()
    others = {"0", "of_a_user.partial", f"{uuid.uuid4().hex}.partial"}
    for name in others:
        (tmp_path / "deep" / name).touch()
    assert sweep_partial_files(tmp_path) == sorted([file, folder])
    assert {path.name for path in (tmp_path / "deep").iterdir()} == others


def test_sweep_follows_no_link(tmp_path):
    mine, other = tmp_path / "mine", tmp_path / "other"
    mine.mkdir()
    other.mkdir()
    kept = other / f"0.{uuid.uuid4().hex}.partial"
    kept.touch()
    (mine / "fields").symlink_to(other)
    link = mine / f"1.{uuid.uuid4().hex}.partial"
    link.symlink_to(other)
    assert sweep_partial_files(mine) == [link]
    assert sweep_partial_files(mine / "fields") == []
    assert kept.exists()
