import shutil

import pytest

from workflows.hanford.site_data import VARIABLE, describe, find_aquifer, user_cache


@pytest.fixture(autouse=True)
def no_data_of_the_user(monkeypatch, tmp_path):
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def silent(sentence):
    raise AssertionError(sentence)


def test_without_data_the_synthetic_aquifer_steps_in_and_says_so():
    aquifer = find_aquifer(None, fetch=False, say=silent)
    assert aquifer.is_synthetic
    assert "SYNTHETIC" in describe(aquifer)


def test_named_folder_comes_before_variable_before_cache(
    hanford_folder, monkeypatch, tmp_path
):
    shutil.copytree(hanford_folder, user_cache())
    assert not find_aquifer(None, fetch=False, say=silent).is_synthetic
    monkeypatch.setenv(VARIABLE, str(tmp_path / "of-the-variable"))
    with pytest.raises(FileNotFoundError, match="of-the-variable"):
        find_aquifer(None, fetch=False, say=silent)
    assert not find_aquifer(hanford_folder, fetch=False, say=silent).is_synthetic


def test_an_incomplete_cache_counts_as_none(hanford_folder):
    user_cache().mkdir(parents=True)
    shutil.copy(hanford_folder / "bc_1x.mat", user_cache())
    assert find_aquifer(None, fetch=False, say=silent).is_synthetic


def test_an_altered_file_is_refused_with_both_hashes(hanford_folder, tmp_path):
    shutil.copytree(hanford_folder, tmp_path / "data")
    path = tmp_path / "data" / "bc_1x.mat"
    path.chmod(0o644)
    altered = bytearray(path.read_bytes())
    altered[-1] ^= 1
    path.write_bytes(altered)
    with pytest.raises(
        ValueError, match=r"bc_1x\.mat must have sha256 ac7c7b39.*--data DIR"
    ):
        find_aquifer(tmp_path / "data", fetch=False, say=silent)
