"""Tasks: a plain step, the role that runs it, and the version of what it computes.

`run_step` is the only function that Parsl ever runs. It finds the step by import, in a
thread as in a process of another node, hands it the record and the manifests of earlier
tasks, and notes start, finish and failure among the events. Calls and outcomes cross as
JSON on every site: what works on threads works on processes, and Parsl's pickles, which
take longer than all the rest of a small task, find only strings.
"""

import json
import os
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from pydantic import TypeAdapter

from data.calls import call as call_elsewhere
from workflows.engine.files.artefacts import Artefact, Manifest
from workflows.engine.files.program import importable_name
from workflows.engine.files.staging import TIERS
from workflows.engine.sites.site import SITE_MODULE
from workflows.engine.watching.events import DRIVING_EVENTS, Log, event_log

_FINITE = json.JSONEncoder(allow_nan=False)
_CANONICAL = json.JSONEncoder(allow_nan=False, sort_keys=True)

Inputs = Mapping[str, Manifest | Sequence[Manifest]]
_INPUTS = f"{__name__}:Inputs"


@dataclass(frozen=True, slots=True)
class Task:
    """A step `step(record, folder, log, **inputs) -> Manifest` and where it runs.

    Attributes:
        step: module-level function of an importable module; it never imports parsl.
        role: `sim`, `train` or `io`; the site says which executor plays it.
        version: to be raised whenever the step computes something else.
        time_limit_s: seconds after which a step that hangs is killed; it then runs in a
            process of its own. For steps with no end of their own to rely on.
    """

    step: Callable[..., Manifest]
    role: str
    version: str
    time_limit_s: float | None = None


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
    time_limit_s: float | None
    tiers: str

    def to_json(self) -> str:
        """The call as `call_of` reads it."""
        return json.dumps({name: getattr(self, name) for name in self.__slots__})


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a worker sends back."""

    manifest: Manifest
    host: str
    started: float
    finished: float

    def to_record(self) -> dict[str, object]:
        """JSON values, from which `outcome_of` builds an equal outcome."""
        artefacts = self.manifest.artefacts
        return {
            "artefacts": {name: asdict(item) for name, item in artefacts.items()},
            "facts": dict(self.manifest.facts),
            "timings": dict(self.manifest.timings),
            "host": self.host,
            "started": self.started,
            "finished": self.finished,
        }


def call_of(text: str) -> Call:
    """The inverse of `Call.to_json`."""
    return Call(**json.loads(text))


def outcome_of(record: Mapping[str, Any]) -> Outcome:
    """The inverse of `Outcome.to_record`; further keys are ignored."""
    artefacts = {n: Artefact(**a) for n, a in record["artefacts"].items()}
    manifest = Manifest(artefacts, record["facts"], record["timings"])
    return Outcome(manifest, record["host"], record["started"], record["finished"])


def run_step(call_text: str, manifests: Inputs) -> str:
    """Run one step in this process; the body of every Parsl task.

    Parsl claims an argument named `inputs` for its own files, hence `manifests`.

    Args:
        call_text: a `Call` as JSON.
        manifests: what earlier tasks left, by the name of the step's argument.

    Returns:
        The record of the `Outcome` as JSON.
    """
    call = call_of(call_text)
    _, log, host = _surroundings(call.folder)
    place = {"task": call.label, "host": host, "pid": os.getpid()}
    log({"event": "start", **place})
    os.environ[TIERS] = call.tiers
    try:
        if call.time_limit_s is None:
            outcome = compute(call_text, manifests)
        else:
            outcome = _compute_within(call, manifests)
    except Exception as error:
        log({"event": "fail", **place, "error": f"{type(error).__name__}: {error}"})
        raise
    log({"event": "finish", **place})
    return outcome


def compute(call_text: str, inputs: Mapping[str, object]) -> str:
    """Run the step of a call here and now; the record of its outcome as JSON.

    Manifests among the inputs may be JSON values.
    """
    started, call = time.time(), call_of(call_text)
    folder, log, host = _surroundings(call.folder)
    step = _with_one_thread(call.step)
    record = adapter_of(call.record_type).validate_json(call.record)
    manifests = adapter_of(_INPUTS).validate_python(inputs)
    returned = step(record, folder, _log_of_task(log, call.label), **manifests)
    return _outcome_to_json(returned, host, started, call.step)


def _compute_within(call: Call, manifests: Inputs) -> str:
    """The same in a new process, killed with all that it started at its limit."""
    inputs = adapter_of(_INPUTS).dump_python(manifests, mode="json")
    with tempfile.TemporaryDirectory(prefix="headrace-") as folder:
        outcome: str = call_elsewhere(
            f"{__name__}:compute",
            {"call_text": call.to_json(), "inputs": inputs},
            Path(folder),
            name=call.step,
            time_limit_s=call.time_limit_s,
        )
    return outcome


def _log_of_task(log: Log, label: str) -> Log:
    """What a step logs, under its task; apart if it would pass for the engine's own."""

    def log_fact(fact: Mapping[str, object]) -> None:
        is_apart = fact.get("event") in DRIVING_EVENTS or "time" in fact
        named = {"event": "fact", "fact": dict(fact)} if is_apart else fact
        log({**named, "task": label})

    return log_fact


@lru_cache
def _surroundings(folder: str) -> tuple[Path, Log, str]:
    """What all tasks of a run share in this process: folder, log, host."""
    return Path(folder), event_log(Path(folder)), socket.gethostname()


def name_of(thing: Callable[..., object]) -> str:
    """The `module:name` under which every worker can import a step or a record class.

    Raises:
        ValueError: if no worker could: defined in a prompt, in a site file or inside a
            function.
    """
    module, name = importable_name(thing.__module__), thing.__qualname__
    if module is None or module.startswith(SITE_MODULE) or "<" in name:
        raise ValueError(
            "steps and their records must be at the top level of an importable "
            f"module; got {thing.__module__}:{name}. Move it to one."
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
        text = _CANONICAL.encode(values)
        survives = adapter.validate_json(text) == record
    except ValueError as error:
        raise ValueError(f"{_RECORD_RULE}; got {record!r} ({error}).") from error
    if not survives:
        raise ValueError(f"{_RECORD_RULE}; got {record!r}.")
    return text


_RECORD_RULE = "a record must hold finite JSON values only (paths as strings)"


@lru_cache
def adapter_of(record_type: str) -> TypeAdapter[Any]:
    """The pydantic reader and writer of a type, built once."""
    return TypeAdapter(resolve_name(record_type))


def _with_one_thread(name: str) -> Callable[..., object]:
    """Import a step such that its numerics use one thread.

    Results must not depend on the thread count, and workers share the cores. The
    variable reaches libraries that are not loaded yet, the call those that are; torch
    keeps the count per thread, so it is set for each task.
    """
    os.environ["OMP_NUM_THREADS"] = "1"
    step: Callable[..., object] = resolve_name(name)
    if "torch" in sys.modules:
        import torch  # waits, where another thread is importing it

        torch.set_num_threads(1)
    return step


def _outcome_to_json(returned: object, host: str, started: float, step: str) -> str:
    if not isinstance(returned, Manifest):
        raise TypeError(f"{step} must return a Manifest; got {returned!r}.")
    record = Outcome(returned, host, started, time.time()).to_record()
    try:
        return _FINITE.encode(record)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"facts and timings of {step} must be finite JSON values; "
            f"got {returned.facts!r}, {returned.timings!r} ({error})."
        ) from error
