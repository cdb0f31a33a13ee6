"""Files that are complete or absent."""

import errno
import os

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


def test_sweep_removes_partial_files_alone(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "0.123.partial").touch()
    (tmp_path / "deep" / "0").touch()
    assert sweep_partial_files(tmp_path) == [tmp_path / "deep" / "0.123.partial"]
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["0"]
