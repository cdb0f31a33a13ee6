"""Provenance of a complete run as an RO-Crate: `ro-crate-metadata.json` in its folder.

RO-Crate 1.1 (w3id.org/ro/crate/1.1) with the profile Process Run Crate 0.5
(w3id.org/ro/wfrun/process/0.5), as plain JSON-LD: one flat list of entities that name
each other by `@id`. Files are named relative to the run folder, which may be moved. An
action stands for each start of the run: with which code, on which site, with which
settings and inputs; the last one has the results.
"""

import json
import mimetypes
import shlex
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from data.durable_files import write_durably
from workflows.engine.driving.journal import read_journal
from workflows.engine.files.artefacts import Artefact, artefact

CRATE = "ro-crate-metadata.json"

_CONTEXT = [
    "https://w3id.org/ro/crate/1.1/context",
    "https://w3id.org/ro/terms/workflow-run/context",
]
_SPECIFICATION = "https://w3id.org/ro/crate/1.1"
_PROFILE = "https://w3id.org/ro/wfrun/process/0.5"
_PASSING = {CRATE, "lock", "parsl", "failure.txt"}  # of no meaning to others
_WORDS = {
    "run.json": "what was asked for, with which code, and every continuation",
    "journal.jsonl": "finished tasks: key, artefacts, host, tries, times",
    "summary.json": "the answer for programs: metrics with intervals and baselines",
    "report.html": "the answer for people",
}

Entity = dict[str, Any]  # of JSON
Start = Mapping[str, Any]  # `run.json`, or a continuation in it


def write_crate(folder: Path) -> None:
    """Describe a run that has just ended; what the journal measured is not read again.

    Args:
        folder: with `run.json` and `summary.json`.
    """
    run = json.loads((folder / "run.json").read_bytes())
    summary = json.loads((folder / "summary.json").read_bytes())
    now = datetime.now(UTC).isoformat(timespec="seconds")
    files = [_describe_file(item) for item in _measured(folder)]
    inputs = [_ref(file) for file in files if file["@id"].startswith("inputs/")]
    settings = list(_describe_settings(run))
    metrics = [_describe_metric(*item) for item in summary["metrics"].items()]
    starts = [run, *run["continuations"]]
    actions = [
        _describe_start(run["workflow"], number, start, [*inputs, *map(_ref, settings)])
        for number, start in enumerate(starts)
    ]
    results = [_ref(file) for file in files if _ref(file) not in inputs]
    actions[-1] |= {
        "actionStatus": "http://schema.org/CompletedActionStatus",
        "endTime": now,
        "result": [*results, *map(_ref, metrics)],
    }
    software = [e for start in starts for e in _describe_code(run["workflow"], start)]
    sites = [_describe_site(start) for start in starts]
    graph = [
        *_describe_crate(run, now, files, actions),
        *files,
        *actions,
        *settings,
        *metrics,
        *{entity["@id"]: entity for entity in [*software, *sites]}.values(),
    ]
    text = json.dumps({"@context": _CONTEXT, "@graph": graph}, indent=1)
    write_durably(folder / CRATE, [text.encode()])


def _measured(folder: Path) -> Iterator[Artefact]:
    """Every file of the run that stays."""
    known = {
        item["path"]: Artefact(**item)
        for line in read_journal(folder / "journal.jsonl")
        for item in line["artefacts"].values()
    }
    for path in sorted(folder.rglob("*")):
        place = path.relative_to(folder)
        is_passing = place.parts[0] in _PASSING or path.name.endswith(".partial")
        if path.is_file() and not is_passing:
            yield known.get(place.as_posix()) or artefact(path, folder)


def _describe_crate(
    run: Start, now: str, files: Sequence[Entity], actions: Sequence[Entity]
) -> list[Entity]:
    return [
        {
            "@id": CRATE,
            "@type": "CreativeWork",
            "conformsTo": {"@id": _SPECIFICATION},
            "about": {"@id": "./"},
        },
        {
            "@id": "./",
            "@type": "Dataset",
            "name": f"{run['workflow']} {run['run_id']}",
            "description": f"A run of the headrace workflow {run['workflow']}, size "
            f"{run['size']}, seed {run['seed']}: inputs, fields, models, report.",
            "datePublished": now,
            "license": {"@id": "#licence"},
            "conformsTo": {"@id": _PROFILE},
            "hasPart": [_ref(file) for file in files],
            "mentions": [_ref(action) for action in actions],
        },
        {"@id": _SPECIFICATION, "@type": "CreativeWork", "name": "RO-Crate 1.1"},
        {
            "@id": _PROFILE,
            "@type": "CreativeWork",
            "name": "Process Run Crate",
            "version": "0.5",
        },
        {
            "@id": "#licence",
            "@type": "CreativeWork",
            "name": "no licence stated",
            "description": "Whoever made this run has stated no licence for it. Ask "
            "before use, or state one here before publishing.",
        },
    ]


def _describe_file(item: Artefact) -> Entity:
    entity: Entity = {
        "@id": quote(item.path),
        "@type": "File",
        "name": item.path,
        "contentSize": str(item.bytes),
        "sha256": item.sha256,
    }
    encoding = mimetypes.guess_type(item.path)[0]
    if encoding:
        entity["encodingFormat"] = encoding
    if item.path in _WORDS:
        entity["description"] = _WORDS[item.path]
    return entity


def _describe_settings(run: Start) -> Iterator[Entity]:
    yield _property("#seed", "seed", run["seed"])
    yield _property("#size", "size", run["size"])
    for key, value in _flat(run["config"]):
        yield _property(f"#config/{quote(key)}", key, value)


def _describe_metric(name: str, metric: Mapping[str, Any]) -> Entity:
    entity = _property(f"#metric/{quote(name)}", name, metric["value"])
    entity["unitText"] = metric["unit"]
    if metric["interval"]:
        entity["minValue"], entity["maxValue"] = metric["interval"]
    if metric["baselines"]:
        told = [f"{name} {value}" for name, value in metric["baselines"].items()]
        entity["description"] = f"to beat or to meet: {', '.join(told)}"
    return entity


def _describe_start(
    workflow: str, number: int, start: Start, objects: Sequence[Entity]
) -> Entity:
    """A start that was followed by another had been stopped, killed, or had failed.

    Or it was complete and done once more; then, too, its results are those of the last.
    """
    command = [*start["program"], *start["command_line"][1:]]
    return {
        "@id": f"#start/{number}",
        "@type": "CreateAction",
        "name": f"{'continuation' if number else 'start'} on {start['site']}",
        "description": shlex.join(command),
        "startTime": start["time"],
        "instrument": {"@id": _code_id(workflow, start)},
        "object": [*objects, {"@id": _site_id(start)}],
    }


def _describe_code(workflow: str, start: Start) -> list[Entity]:
    """The workflow as it was then, and what it stands on."""
    versions, git = start["versions"], start["git"]
    below = [
        {
            "@id": f"#software/{name}-{quote(version)}",
            "@type": "SoftwareApplication",
            "name": name,
            "softwareVersion": version,
        }
        for name, version in versions.items()
        if version and name != "headrace"
    ]
    commit = git["commit"] + (" with changes" if git["is_dirty"] else "") if git else ""
    code = {
        "@id": _code_id(workflow, start),
        "@type": "SoftwareApplication",
        "name": f"headrace workflow {workflow}",
        "softwareVersion": versions["headrace"] or "unknown",
        "version": commit or "no checkout",
        "softwareRequirements": [_ref(entity) for entity in below],
    }
    return [code, *below]


def _describe_site(start: Start) -> Entity:
    entity = _property(_site_id(start), "site", start["site"])
    digest = start["site_sha256"]
    entity["description"] = f"site file of SHA-256 {digest}, driver on {start['host']}"
    return entity


def _code_id(workflow: str, start: Start) -> str:
    git = start["git"] or {"commit": "", "is_dirty": False}
    state = f"{git['commit'][:12]}{'-changed' if git['is_dirty'] else ''}"
    return quote(f"#workflow/{workflow}-{start['versions']['headrace']}-{state}", "#/")


def _site_id(start: Start) -> str:
    return quote(f"#site/{start['site']}-{start['site_sha256'][:12]}", "#/")


def _property(identifier: str, name: str, value: object) -> Entity:
    is_plain = isinstance(value, str | int | float)
    return {
        "@id": identifier,
        "@type": "PropertyValue",
        "name": name,
        "value": value if is_plain else json.dumps(value),
    }


def _flat(section: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in section.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _ref(entity: Entity) -> Entity:
    return {"@id": entity["@id"]}
