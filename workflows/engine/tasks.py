"""Tasks: a plain step, the role that runs it, and the version of what it computes.

`run_step` is the only function that Parsl ever runs. It finds the step by import, in a
thread as in a process of another node, hands it the record and the manifests of earlier
tasks, and notes start, finish and failure among the events. Records cross as JSON on
every site: what works on threads works on processes.
"""

import importlib
import json
import os
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from workflows.engine.artefacts import Manifest
from workflows.engine.events import event_log

TIERS = "HEADRACE_TIERS"  # environment variable with the tiers of the site, as JSON

Inputs = Mapping[str, Manifest | Sequence[Manifest]]


@dataclass(frozen=True, slots=True)
class Task:
    """A step `step(record, folder, log, **inputs) -> Manifest` and where it runs.

    Attributes:
        step: module-level function of an importable module; it never imports parsl.
        role: `sim`, `train` or `io`; the site says which executor plays it.
        version: to be raised whenever the step computes something else.
    """

    step: Callable[..., Manifest]
    role: str
    version: str


@dataclass(frozen=True, slots=True)
class Call:
    """One task as a worker receives it: names and JSON.

    The tiers are those of the site; like label and folder they are no part of the key.
    """

    label: str
    step: str
    version: str
    record_type: str
    record: str
    seed: int
    folder: str
    tiers: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a worker sends back."""

    manifest: Manifest
    host: str
    started: float
    finished: float


def run_step(call: Call, manifests: Inputs) -> Outcome:
    """Run one step in this process; the body of every Parsl task.

    Parsl claims an argument named `inputs` for its own files, hence `manifests`.
    """
    folder, started = Path(call.folder), time.time()
    log = event_log(folder)
    place = {"task": call.label, "host": socket.gethostname(), "pid": os.getpid()}
    log({"event": "start", **place})
    os.environ[TIERS] = call.tiers
    try:
        step = _with_one_thread(call.step)
        record = adapter_of(call.record_type).validate_json(call.record)
        returned = step(
            record, folder, lambda fact: log({"task": call.label, **fact}), **manifests
        )
        manifest = _checked_manifest(returned, call.step)
    except Exception as error:
        log({"event": "fail", **place, "error": f"{type(error).__name__}: {error}"})
        raise
    log({"event": "finish", **place})
    return Outcome(manifest, socket.gethostname(), started, time.time())


def name_of(thing: Callable[..., object]) -> str:
    """The `module:name` under which every worker can import a step or a record class.

    Raises:
        ValueError: if no worker could: defined in a program or inside a function.
    """
    module, name = thing.__module__, thing.__qualname__
    if module == "__main__" or "<" in name:
        raise ValueError(
            "steps and their records must be at the top level of an importable "
            f"module; got {module}:{name}. Move it to the workflow's steps.py."
        )
    return f"{module}:{name}"


def record_to_json(record: object) -> str:
    """Canonical JSON of a frozen dataclass or pydantic model.

    Raises:
        ValueError: if the record changes on the way (arrays, NaN, objects).
    """
    adapter = adapter_of(name_of(type(record)))
    try:
        values = adapter.dump_python(record, mode="json")
        text = json.dumps(values, sort_keys=True, allow_nan=False)
        survives = adapter.validate_json(text) == record
    except ValueError as error:
        raise ValueError(f"{_RECORD_RULE}; got {record!r} ({error}).") from error
    if not survives:
        raise ValueError(f"{_RECORD_RULE}; got {record!r}.")
    return text


_RECORD_RULE = "a record must hold finite JSON values only (paths as strings)"


@lru_cache
def adapter_of(record_type: str) -> TypeAdapter[Any]:
    """The pydantic reader and writer of a record class, built once."""
    return TypeAdapter(find_object(record_type))


def find_object(name: str) -> Any:  # noqa: ANN401  # a function or a class
    """Import what `name_of` named."""
    module, _, qualname = name.partition(":")
    found: Any = importlib.import_module(module)
    for part in qualname.split("."):
        found = getattr(found, part)
    return found


def _with_one_thread(name: str) -> Callable[..., object]:
    """Import a step such that its numerics use one thread.

    Results must not depend on the thread count, and workers share the cores. The
    variable reaches libraries that are not loaded yet, the call those that are; torch
    keeps the count per thread, so it is set for each task.
    """
    os.environ["OMP_NUM_THREADS"] = "1"
    step: Callable[..., object] = find_object(name)
    if "torch" in sys.modules:
        import torch  # waits, where another thread is importing it

        torch.set_num_threads(1)
    return step


def _checked_manifest(returned: object, step: str) -> Manifest:
    """The manifest with facts as JSON gives them back, the same fresh or from disk."""
    if not isinstance(returned, Manifest):
        raise TypeError(f"{step} must return a Manifest; got {returned!r}.")
    try:
        facts = json.loads(json.dumps(dict(returned.facts), allow_nan=False))
        timings = json.loads(json.dumps(dict(returned.timings), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"facts and timings of {step} must be finite JSON values; "
            f"got {returned.facts!r}, {returned.timings!r} ({error})."
        ) from error
    return Manifest(dict(returned.artefacts), facts, timings)
