"""An aquifer record as one NumPy archive: a run carries what it was computed from."""

import io
import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from data.sources.aquifer import Aquifer

_SETS = "observation_set_"


def pack_aquifer(aquifer: Aquifer) -> bytes:
    """The content of the archive; equal records are equal bytes."""
    arrays: dict[str, Any] = {}
    plain: dict[str, Any] = {}
    for field in fields(Aquifer):
        value = getattr(aquifer, field.name)
        if isinstance(value, np.ndarray):
            arrays[field.name] = value
        elif field.name == "observation_sets":
            arrays |= {f"{_SETS}{count}": sets for count, sets in value.items()}
        else:
            plain[field.name] = dict(value) if field.name == "digests" else value
    buffer = io.BytesIO()
    np.savez(buffer, **{**arrays, "plain": np.array(json.dumps(plain))})
    return buffer.getvalue()


def read_aquifer(path: Path) -> Aquifer:
    """Reads a record that `pack_aquifer` packed; it is validated again.

    Raises:
        ValueError: the content is not a valid aquifer.
        FileNotFoundError: there is no such file.
    """
    with np.load(path, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files if name != "plain"}
        plain = json.loads(str(archive["plain"]))
    sets = {
        int(name.removeprefix(_SETS)): arrays.pop(name)
        for name in list(arrays)
        if name.startswith(_SETS)
    }
    return Aquifer(observation_sets=sets, **arrays, **plain)
