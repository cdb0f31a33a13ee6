"""A user's own measurements of log-transmissivity: a table of cells and values.

Comma-separated text with the header `cell,log_transmissivity`: 0-based cell ids, and
ln T with T in m²/d.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

HEADER = ["cell", "log_transmissivity"]
LEAST = 4  # a covariance cannot be fitted to fewer


@dataclass(frozen=True, slots=True, eq=False)
class Measurements:
    """Cells (n,) and ln T measured in them (n,) [ln(m²/d)]; no cell twice."""

    cells: NDArray[np.int64]
    log_transmissivity: NDArray[np.float64]


def parse_measurements(text: str, n_cells: int) -> Measurements:
    """Reads the table and checks it against a mesh of `n_cells` cells.

    A byte-order mark, which spreadsheets write before the header, is left out.

    Raises:
        ValueError: the header is another one, a row is not a cell id and a number, a
            cell is outside the mesh or stands twice, a value is not finite, or there
            are fewer than four rows. Names the line.
    """
    rows = list(csv.reader(text.removeprefix("\ufeff").splitlines()))
    if not rows or [word.strip() for word in rows[0]] != HEADER:
        raise ValueError(
            f"measurements must begin with the line {','.join(HEADER)}; got "
            f"{','.join(rows[0]) if rows else 'nothing'}."
        )
    found: dict[int, float] = {}
    for line, row in enumerate(rows[1:], start=2):
        if row:
            cell, value = _parsed(row, line)
            _check(cell, value, line, n_cells, found)
            found[cell] = value
    if len(found) < LEAST:
        raise ValueError(f"at least {LEAST} measurements are needed; got {len(found)}.")
    return Measurements(np.array([*found]), np.array([*found.values()]))


def _parsed(row: Sequence[str], line: int) -> tuple[int, float]:
    try:
        cell, value = row
        return int(cell), float(value)
    except ValueError:
        raise ValueError(
            f"a measurement must be a cell id and ln T; line {line} is {','.join(row)}."
        ) from None


def _check(
    cell: int, value: float, line: int, n_cells: int, found: dict[int, float]
) -> None:
    if not 0 <= cell < n_cells:
        raise ValueError(
            f"cells must lie in the mesh, 0 to {n_cells - 1}; line {line} has {cell}. "
            "Ids are 0-based."
        )
    if cell in found:
        raise ValueError(
            f"a cell must stand once; line {line} has cell {cell} again. Keep one "
            "value, or the mean."
        )
    if not np.isfinite(value):
        raise ValueError(f"ln T must be finite; line {line} has {value}.")
