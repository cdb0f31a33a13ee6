"""The contract that every site file keeps, and what is said of files that do not."""

import sys
from pathlib import Path

import pytest

from workflows.engine.driving.journal import Journal
from workflows.engine.driving.parsl_setup import parsl_config
from workflows.engine.sites import site as site_module
from workflows.engine.sites.site import ROLES, known_sites, load_site

CHECKOUT = Path(__file__).parents[3]

SITE_TEXT = """
from parsl.executors import ThreadPoolExecutor
from workflows.engine.sites.site import Site
SITE = Site("own", "a test", 1, 0, {roles})
def executors():
    return [ThreadPoolExecutor(label="threads")]
"""


def test_site_modules_are_private_names():
    load_site("laptop")
    assert "_headrace_site_laptop" in sys.modules
    assert "laptop" not in sys.modules


def test_every_site_of_the_checkout_is_known():
    assert set(known_sites()) == {
        p.stem for p in (CHECKOUT / "site-configs").glob("*.py")
    }


def test_installed_copy_serves_where_there_is_no_checkout(tmp_path, monkeypatch):
    installed = tmp_path / "site_configs"
    installed.mkdir()
    roles = dict.fromkeys(ROLES, "threads")
    (installed / "own.py").write_text(SITE_TEXT.format(roles=roles))
    monkeypatch.setattr(site_module, "_FOLDERS", (tmp_path / "no", installed))
    assert load_site("own").path == (installed / "own.py").resolve()


def test_unknown_site_names_the_known_ones():
    with pytest.raises(
        FileNotFoundError, match=r"no site sumit; known.*laptop, laptop_"
    ):
        load_site("sumit")


def test_file_without_site_is_told_what_to_define(tmp_path):
    path = tmp_path / "half.py"
    path.write_text("SITE = 3")
    with pytest.raises(ValueError, match=r"must define SITE .* and executors\(\)"):
        load_site(str(path))


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("import nothing_at_all", "ModuleNotFoundError: No module named"),
        ("1/0", "ZeroDivisionError: division by zero"),
        ("SITE = (", r"SyntaxError: '\(' was never closed"),
    ],
)
def test_error_inside_a_file_names_file_and_cause(tmp_path, text, cause):
    path = tmp_path / "own.py"
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"own.py must load .*; got {cause}"):
        load_site(str(path))


def test_missing_role_is_refused(tmp_path):
    path = tmp_path / "own.py"
    path.write_text(SITE_TEXT.format(roles={"sim": "threads"}))
    with pytest.raises(ValueError, match="must map sim, train, io"):
        load_site(str(path))


def test_role_without_executor_is_refused(tmp_path):
    path = tmp_path / "own.py"
    path.write_text(SITE_TEXT.format(roles=dict.fromkeys(ROLES, "gpu")))
    journal = Journal(tmp_path / "journal.jsonl")
    try:
        with pytest.raises(ValueError, match=r"must name executors .* threads"):
            parsl_config(load_site(str(path)), journal, tmp_path)
    finally:
        journal.finish()
