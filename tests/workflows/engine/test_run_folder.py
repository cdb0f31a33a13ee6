"""What counts as the folder of a run, and what of it is left alone."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from workflows.engine.files.run_folder import new_run_folder
from workflows.engine.sites.site import load_site, require_plain_path

RUN_KEYS = (
    '["workflow", "size", "seed", "config", "inputs", "versions", "git", '
    '"continuations"]'
)


def test_folder_of_something_else_is_refused(tmp_path, command):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").touch()
    refused = command("--run-dir", "thesis")
    assert refused.returncode == 2
    assert "holds chapter.tex and no run.json" in refused.stderr


def _make(folder, files):
    """Files with their content; a name that ends in `/` is an empty folder."""
    for name, content in files.items():
        path = folder / name
        (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            path.write_text(content)
    return {p: p.is_file() and p.read_bytes() for p in folder.rglob("*")}


@pytest.mark.parametrize(
    "files",
    [
        {"lock": "", "chapter.tex": ""},
        {"lock": "of a package manager"},
        {"lock/": ""},
        {"inputs/measured.txt": "1"},
        {"draft.partial": ""},
        {f"run.json.{32 * '0'}.partial": ""},
        {"lock": "", "inputs": "a file"},
        {"lock": "", "run.json.old.partial": ""},
        {"lock": "", "rank-1a2b_3c4/": ""},
    ],
)
def test_folder_that_only_looks_like_a_run_is_left_alone(tmp_path, command, files):
    before = _make(tmp_path / "thesis", files)
    refused = command("--run-dir", "thesis")
    assert refused.returncode == 2
    assert "and no run.json" in refused.stderr
    assert _make(tmp_path / "thesis", {}) == before


def test_folder_of_a_start_that_was_killed_is_taken(tmp_path, command):
    unfinished = f"{32 * '0'}.partial"
    names = [f"inputs/table.txt.{unfinished}", f"run.json.{unfinished}"]
    lock = {"lock": "process 1 on a-host\n"}
    _make(tmp_path / "run", dict.fromkeys(names, "") | lock)
    done = command("--run-dir", "run", "--size", "smoke")
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "run").rglob("*.partial")) == []


@pytest.mark.parametrize("target", ["thesis.tex", "."])
def test_lock_that_is_a_link_is_refused_and_its_target_kept(tmp_path, command, target):
    assert command("--run-dir", "run", "--size", "smoke").returncode == 0
    (tmp_path / "thesis.tex").write_text("chapter 1")
    lock = tmp_path / "run" / "lock"
    lock.unlink()
    lock.symlink_to(tmp_path / target)
    refused = command("--run-dir", "run")
    assert refused.returncode == 2
    assert "the lock of a run must be a file of its own; got" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    assert (tmp_path / "thesis.tex").read_text() == "chapter 1"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "run.json must be JSON; got Expecting property name"),
        ("[[]]", "run.json must be JSON; got"),
        (RUN_KEYS, "run.json must be JSON; got"),
        ("{}", "run.json must hold config, continuations, git, inputs, program"),
    ],
)
def test_damaged_run_is_refused_with_its_path(tmp_path, command, text, message):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text(text)
    refused = command("--run-dir", "run")
    assert refused.returncode == 2
    assert f"error: run/{message}" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


def test_runs_of_one_second_get_folders_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(new_run_folder, "little", "smoke") for _ in range(40)]
    assert len({future.result() for future in futures}) == 40


@pytest.mark.parametrize(
    "name",
    ["my run", *(f"a{c}b" for c in "$`'\"&;{}%*?#!|<>()[]~^\\\n\t"), "a$(touch b)"],
)
def test_path_that_a_shell_would_not_take_as_it_is_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match=r"path of a run on site laptop_htex must con"):
        require_plain_path(load_site("laptop_htex"), tmp_path / name)
    require_plain_path(load_site("laptop"), tmp_path / name)
    (tmp_path / "plain").symlink_to(tmp_path / name)
    with pytest.raises(ValueError, match=r"got .* in .*Choose another --run-dir"):
        require_plain_path(load_site("laptop_htex"), tmp_path / "plain")


def test_run_whose_path_no_worker_takes_is_refused_untouched(tmp_path, command):
    words = ["--run-dir", "a$(id>run_it)&{x}%'b", "--size", "smoke"]
    refused = command(*words, "--site", "laptop_htex")
    assert refused.returncode == 2
    assert "on site laptop_htex must consist of letters, digits" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
    done = command(*words)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == [words[1]]


def test_folder_that_is_a_link_to_itself_is_refused(tmp_path, command):
    (tmp_path / "circle").symlink_to("circle")
    refused = command("--run-dir", "circle")
    assert refused.returncode == 2
    assert len(refused.stderr.splitlines()) == 1


def test_workers_take_every_character_that_is_not_refused(tmp_path, command):
    words = ["--run-dir", "Zürich,run:=@+-.1_é", "--size", "smoke"]
    done = command(*words, "--site", "laptop_htex")
    assert done.returncode == 0, done.stderr
