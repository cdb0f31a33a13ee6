"""Training of a network in a process of its own, and what it leaves.

A step calls `train_in_process`; the new process calls the training function and writes
`checkpoints/<name>.pt`: the digest of the data, and the description of the network that
the function returns. The state to go on from lies apart, in `<name>.training.pt`: an
altered result is made again from intact state.

A training that stops itself would stop again. Its model has failed, as a member of an
ensemble may: the manifest states the cause in place of a checkpoint (`failure_of`), and
the run goes on without the model.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, TypeAlias

from pydantic import TypeAdapter

from surrogates.distributed.checkpoint import save_checkpoint, sole_writer
from surrogates.distributed.launcher import launch
from surrogates.training import StoppedTrainingError
from workflows.engine.files.artefacts import Manifest, artefact
from workflows.engine.files.program import importable_name
from workflows.engine.watching.events import Log, event_log

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


_FAILED = "failed"  # the fact that holds the cause


@dataclass(frozen=True, slots=True)
class Training:
    """Where a training function works, whatever it trains.

    Attributes:
        folder: of the run.
        checkpoint: the state to go on from; nobody else writes it meanwhile.
        data_digest: identifies the data; a checkpoint of others is to be refused.
        log: of the run.
    """

    folder: Path
    checkpoint: Path
    data_digest: str
    log: Log


# what to keep of the network, tensors and plain values; and facts, JSON values
Trained: TypeAlias = tuple[Mapping[str, Any], Mapping[str, Any]]


def train_in_process(
    function: Callable[..., Trained],
    record: "DataclassInstance",
    folder: Path,
    name: str,
    *,
    arguments: Mapping[str, Any],
    data_digest: str,
    n_threads: int,
) -> Manifest:
    """Calls `function(record, training, **arguments)` in a process of its own.

    Args:
        function: of an importable module.
        record: the settings; a frozen dataclass of JSON values.
        folder: of the run.
        name: of the checkpoint; one training at a time may have it.
        arguments: further JSON values, such as paths of earlier results.
        data_digest: identifies the data.
        n_threads: of the process.

    Returns:
        The artefact `checkpoint`, the facts, and the seconds `<name>_training_s`; of a
        training that stopped itself no artefact, and the cause as a fact.

    Raises:
        TrainingError: the process failed; ends with its last error.
    """
    path = folder / "checkpoints" / f"{name}.pt"
    began = time.perf_counter()
    with sole_writer(path.with_suffix(".training.pt")) as lock:
        facts = launch(
            "workflows.engine.driving.training:train_rank",
            {
                "function": _name_of(function),
                "record_type": _name_of(type(record)),
                "record": asdict(record),
                "folder": str(folder),
                "name": name,
                "data_digest": data_digest,
                "arguments": dict(arguments),
            },
            n_threads=n_threads,
            folder=path.parent,
            pass_fds=(lock,),
        )
    timings = {f"{name}_training_s": time.perf_counter() - began}
    if _FAILED in facts:
        return Manifest({}, facts, timings)
    return Manifest({"checkpoint": artefact(path, folder)}, facts, timings)


def failure_of(trained: Manifest) -> str | None:
    """Why a training left no model; None if it left one."""
    cause = trained.facts.get(_FAILED)
    return None if cause is None else str(cause)


def train_rank(
    *,
    function: str,
    record_type: str,
    record: Mapping[str, Any],
    folder: str,
    name: str,
    data_digest: str,
    arguments: Mapping[str, Any],
) -> dict[str, Any]:
    """What the new process does; returns the facts."""
    run, path = Path(folder), Path(folder, "checkpoints", f"{name}.pt")
    state, log = path.with_suffix(".training.pt"), _log_of(run, name)
    told = TypeAdapter(resolve_name(record_type)).validate_python(record)
    training = Training(run, state, data_digest, log)
    try:
        description, facts = resolve_name(function)(told, training, **arguments)
    except StoppedTrainingError as error:
        log({"event": "model failed", "key": name, "cause": str(error)})
        return {_FAILED: str(error)}
    save_checkpoint(path, {"data_digest": data_digest, "description": description})
    return dict(facts)


def _log_of(run: Path, name: str) -> Log:
    """The log of the run; a training of the same label has another checkpoint."""
    log = event_log(run)
    return lambda record: log({**record, "checkpoint": name})


def _name_of(thing: Callable[..., object]) -> str:
    return f"{importable_name(thing.__module__)}:{thing.__qualname__}"
