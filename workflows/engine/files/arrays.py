"""Named arrays in a NumPy archive: the small files that tasks of a run exchange."""

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from data.durable_files import write_durably

if TYPE_CHECKING:
    from torch import Tensor


def write_arrays(path: Path, **arrays: "NDArray[np.generic] | Tensor") -> None:
    """Writes named arrays as a NumPy archive, durably; equal arrays, equal bytes."""
    buffer = io.BytesIO()
    named: dict[str, Any] = {n: np.asarray(array) for n, array in arrays.items()}
    np.savez(buffer, **named)
    path.parent.mkdir(exist_ok=True)
    write_durably(path, [buffer.getvalue()])


def read_arrays(path: Path) -> dict[str, NDArray[np.float64]]:
    """Reads what `write_arrays` wrote."""
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}
