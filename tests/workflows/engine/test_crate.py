"""A complete run carries its provenance as an RO-Crate that keeps the rules of 1.1."""

import hashlib
import json
import os
import subprocess
import sys
import zlib
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

import pytest

from workflows.engine.pages.crate import CRATE, write_crate

PROGRAMS = Path(__file__).parent / "programs"
CHECKOUT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with an input, moved to a folder with a space, and done once more."""
    place = tmp_path_factory.mktemp("crate")
    (place / "table.txt").write_text("1 2 3")
    path = f"{PROGRAMS}{os.pathsep}{CHECKOUT}"

    def start(*words):
        program = [sys.executable, "-m", "little_workflow", *words]
        environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
        environment.pop("HEADRACE_SITE", None)
        subprocess.run(program, cwd=place, env=environment, check=True)

    words = ["--size", "smoke", "--seed", "7", "--data", "table.txt"]
    start("--run-dir", "run", *words)
    moved = (place / "run").rename(place / "my run")
    start("--run-dir", "my run", "--site", "laptop")
    return moved


@pytest.fixture(scope="module")
def entities(run):
    crate = json.loads((run / CRATE).read_text())
    assert crate["@context"][0] == "https://w3id.org/ro/crate/1.1/context"
    assert set(crate) == {"@context", "@graph"}
    found = {entity["@id"]: entity for entity in crate["@graph"]}
    assert len(found) == len(crate["@graph"]), "an @id stands for one entity"
    return found


def references(value, *, is_top=True):
    """Every `{"@id": ...}` inside of an entity."""
    if isinstance(value, list):
        return [ref for item in value for ref in references(item, is_top=False)]
    if not isinstance(value, dict):
        return []
    if not is_top:
        assert set(value) == {"@id"}, "entities are not nested"
        return [value["@id"]]
    return [r for item in value.values() for r in references(item, is_top=False)]


def of_type(entities, kind):
    return [entity for entity in entities.values() if entity["@type"] == kind]


def test_descriptor_and_root_are_as_the_specification_demands(entities):
    descriptor = entities[CRATE]
    assert descriptor["@type"] == "CreativeWork"
    assert descriptor["conformsTo"] == {"@id": "https://w3id.org/ro/crate/1.1"}
    root = entities[descriptor["about"]["@id"]]
    assert (root["@id"], root["@type"]) == ("./", "Dataset")
    assert {"name", "description", "datePublished", "license"} <= set(root)
    assert entities[root["license"]["@id"]]["description"]
    assert root["conformsTo"]["@id"].startswith("https://w3id.org/ro/wfrun/process/")


def test_every_reference_is_to_an_entity_of_the_crate(entities):
    named = {ref for entity in entities.values() for ref in references(entity)}
    assert named <= set(entities)
    assert set(entities) - named == {CRATE}, "all are reached from another"
    assert all("@type" in entity for entity in entities.values())


def test_files_are_parts_by_relative_path_with_size_and_digest(run, entities):
    files = of_type(entities, "File")
    parts = {part["@id"] for part in entities["./"]["hasPart"]}
    assert {file["@id"] for file in files} == parts
    for file in files:
        path = PurePosixPath(unquote(file["@id"]))
        assert not path.is_absolute()
        assert ".." not in path.parts
        content = (run / path).read_bytes()
        assert file["contentSize"] == str(len(content))
        assert file["sha256"] == hashlib.sha256(content).hexdigest()
    assert {
        *("run.json", "journal.jsonl", "summary.json", "report.html"),
        *("inputs/table.txt", "fields/0.txt", "fields/1.txt", "total.txt"),
    } <= parts
    assert not {"lock", CRATE} & parts
    assert str(run) not in json.dumps(files)


def test_actions_tell_start_and_continuation_with_code_settings_and_results(entities):
    first, last = (entities[action["@id"]] for action in entities["./"]["mentions"])
    command = "python -m little_workflow --run-dir run --size smoke"
    assert first["description"].startswith(command)
    assert first["startTime"] <= last["startTime"] <= last["endTime"]
    assert "actionStatus" not in first
    assert last["actionStatus"].endswith("/CompletedActionStatus")
    objects = [entities[ref["@id"]] for ref in first["object"]]
    values = {e["name"]: e["value"] for e in objects if e["@type"] == "PropertyValue"}
    assert values["seed"] == 7
    assert values["site"] == "laptop"
    assert values["ensemble.members"] == 2
    assert values["ensemble.names"] == '["a"]'
    assert {"@id": "inputs/table.txt"} in first["object"]
    results = {ref["@id"] for ref in last["result"]}
    assert {"fields/0.txt", "report.html", "#metric/total"} <= results
    assert "inputs/table.txt" not in results
    metric = entities["#metric/total"]
    assert (metric["value"], metric["unitText"], metric["maxValue"]) == (1, "1", 9)
    code = entities[last["instrument"]["@id"]]
    assert code["@type"] == "SoftwareApplication"
    assert code["softwareVersion"]
    below = {entities[r["@id"]]["name"] for r in code["softwareRequirements"]}
    assert {"python", "parsl", "numpy", "torch"} <= below


def test_names_are_quoted_and_digests_of_the_journal_are_taken(tmp_path):
    known = {"path": "fields/a b.npz", "bytes": 5, "sha256": 64 * "f"}
    head = {"key": "a", "task": "square[0]", "artefacts": {"field": known}}
    body = (json.dumps(head)[1:] + "\n").encode()
    line = f'{{"crc32": "{zlib.crc32(body):08x}", '.encode() + body
    (tmp_path / "journal.jsonl").write_bytes(line)
    (tmp_path / "fields").mkdir()
    (tmp_path / "fields" / "a b.npz").write_text("field")
    run = {"workflow": "little", "run_id": "1", "size": "smoke", "seed": 0}
    run |= {"config": {}, "time": "2026-01-01T00:00:00+00:00", "host": "a"}
    run |= {
        "program": ["python"],
        "command_line": ["x"],
        "site": "laptop",
        "site_sha256": "0",
    }
    run |= {"versions": {"headrace": None}, "git": None, "continuations": []}
    (tmp_path / "run.json").write_text(json.dumps(run))
    (tmp_path / "summary.json").write_text('{"metrics": {}}')
    write_crate(tmp_path)
    graph = json.loads((tmp_path / CRATE).read_text())["@graph"]
    [field] = [e for e in graph if e["@id"] == "fields/a%20b.npz"]
    assert field["sha256"] == 64 * "f"
