"""Checkpoints: complete or absent, read without unpickling code.

A checkpoint is one `torch.save` of nested dictionaries of tensors, numbers and strings;
`weights_only` reading refuses anything else, so that a file from elsewhere cannot run.
"""

import fcntl
import io
import pickle
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from data.durable_files import write_durably


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Writes a checkpoint durably; a kill leaves the old one or the new one."""
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    write_durably(path, [buffer.getvalue()])


@contextmanager
def sole_writer(path: Path) -> Iterator[int]:
    """Waits until no other attempt trains into this checkpoint, then holds it.

    A training whose driver was killed may outlive it for an instant; were both to
    write, the older could replace the checkpoint of the younger after its end. Gives a
    descriptor: the lock lasts until the last process to which it is passed has ended,
    and all ranks of one attempt share it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f"{path.name}.lock").open("a") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield stream.fileno()


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Reads a checkpoint.

    Raises:
        FileNotFoundError: there is none.
        ValueError: the file is damaged or holds more than tensors and plain values.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                archive.read(name)  # checks the sum of the part, which torch does not
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, zipfile.BadZipFile, pickle.UnpicklingError) as error:
        raise ValueError(
            f"a checkpoint must be a complete file of tensors and plain values; {path} "
            f"is not ({error.__class__.__name__}). Remove it to train from the start."
        ) from error
    return dict(state)
