"""The spherical harmonic transform as matrix products in one layout, for time loops.

On longitudes (j + 1/2) 2 pi/n_lon, the sets of even and odd m, of cosines and sines
and of harmonics even and odd about the equator are closed under a shift by pi, a
reflection in longitude and one in latitude. A field on an eighth of the sphere and its
seven mirror images are therefore the sums and differences of eight parts, and each
part is a product with a table that is eight times smaller. No transposition is left:

    rows (row, column) -> waves (8, m, lat/2, column) -> parts (8, lon/4, lat/2, column)

A row is one real number of the triangle, of every field and member (the columns), so
that all products are large. Rows are ordered in blocks of m that follow the triangle:
(block, part, m, l), where the three bits of a part are m odd, sine, l - m odd. They
hold degrees up to T + 1 for the sake of winds, see `harmonics`.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from simulators.sphere.grid import Grid
from simulators.sphere.legendre import legendre_functions

# bits of a part (m odd, sine, l - m odd), and of an image (shift by pi, reflection in
# longitude, reflection in latitude)
PARTS = [(a, b, c) for a in range(2) for b in range(2) for c in range(2)]


class PackedTransform:
    """Transforms of rows (n_rows, columns) of a truncation to parts of the sphere.

    Args:
        grid: its latitudes are used, and the number of its longitudes.
        truncation: T.
        dtype: float32 or float64.
        device: of the tables.

    Raises:
        ValueError: if latitudes are not a multiple of 2, or longitudes of 4.
    """

    def __init__(
        self,
        grid: Grid,
        truncation: int,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
    ) -> None:
        n_lat, n_lon = grid.shape
        if n_lat % 2 or n_lon % 4:
            raise ValueError(
                "the packed transform needs latitudes in multiples of 2 and longitudes "
                f"in multiples of 4; got {n_lat} x {n_lon}."
            )
        _keep_freed_memory()
        self.truncation = truncation
        self.grid, self.dtype, self.device = grid, dtype, torch.device(device)
        self._blocks = _blocks(truncation)
        self._n_pairs = self._blocks[-1].last  # of an even and an odd m
        self._build_rows()
        self._build_longitude_tables()
        self._build_latitude_tables()

    @property
    def shape(self) -> tuple[int, int]:
        """(lon/4, lat/2), of each part."""
        n_lat, n_lon = self.grid.shape
        return n_lon // 4, n_lat // 2

    def pack(self, coefficients: Tensor) -> Tensor:
        """Rows (n_rows, ...) of coefficients (..., T+1 (l), T+1 (m))."""
        values = torch.view_as_real(coefficients).flatten(-3)
        rows = torch.where(self._is_kept, values[..., self._place], 0)
        return rows.movedim(-1, 0)

    def unpack(self, rows: Tensor) -> Tensor:
        """Coefficients (..., T+1 (l), T+1 (m)) of rows (n_rows, ...)."""
        n = self.truncation + 1
        values = torch.where(self._is_inside, rows.movedim(0, -1)[..., self._row_of], 0)
        values = values.reshape(*values.shape[:-1], n, n, 2)
        return torch.view_as_complex(values.contiguous())

    def synthesise(self, rows: Tensor) -> Tensor:
        """Parts (8, lon/4, lat/2, columns) of rows (n_rows, columns)."""
        n_columns = rows.shape[1]
        pieces: list[list[Tensor]] = [[] for _ in range(8)]
        for block, (tables, _) in zip(self._blocks, self._legendre, strict=True):
            for part in range(8):
                wanted = rows[block.rows(part)].view(block.n_orders, -1, n_columns)
                pieces[part].append(torch.bmm(tables[part], wanted))
        waves = torch.cat([piece for part in pieces for piece in part])
        parts = torch.bmm(self._to_longitude, waves.view(8, self._n_pairs, -1))
        return parts.view(8, *self.shape, n_columns)

    def analyse(self, parts: Tensor) -> Tensor:
        """Rows (n_rows, columns) of parts (8, lon/4, lat/2, columns)."""
        n_columns = parts.shape[-1]
        waves = torch.bmm(self._from_longitude, parts.flatten(2))
        waves = waves.view(8, self._n_pairs, -1, n_columns)  # (part, m, lat/2, column)
        pieces = [
            torch.bmm(tables[part], waves[part, block.first : block.last])
            for block, (_, tables) in zip(self._blocks, self._legendre, strict=True)
            for part in range(8)
        ]
        return torch.cat([piece.view(-1, n_columns) for piece in pieces])

    def images(self) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """cos(latitude) (lat/2,), and (longitude, latitude) of the eight images.

        Longitudes are (lon/4, 1), latitudes (lat/2,).
        """
        latitude = self.grid.latitude[: self.shape[1]]
        longitude = self._octant_longitude()
        return latitude.cos(), [
            (
                (-longitude if reflected else longitude) + math.pi * shifted,
                -latitude if south else latitude,
            )
            for shifted, reflected, south in PARTS
        ]

    def _octant_longitude(self) -> Tensor:
        n_lon = self.grid.shape[1]
        j = torch.arange(n_lon // 4, dtype=torch.float64)[:, None]
        return (j + 0.5) * (2 * math.pi / n_lon)

    def _build_rows(self) -> None:
        """Degree, order and kind of every row, and where coefficients are kept."""
        degrees, orders, imaginary = [], [], []
        for block in self._blocks:
            pair = torch.arange(block.first, block.last)[:, None]
            for odd, sine, up in PARTS:
                m = (2 * pair + odd).expand(-1, block.n_degrees)
                degrees.append(m.flatten() + up)
                degrees[-1] += (2 * torch.arange(block.n_degrees)).repeat(len(pair))
                orders.append(m.flatten())
                imaginary.append(torch.full_like(orders[-1], sine))
        n = self.truncation + 1
        l, m, c = map(torch.cat, (degrees, orders, imaginary))
        is_wave = (m < n) & ~((m == 0) & (c == 1))
        self.is_row = is_wave & (l <= n)  # rows that a wind may use
        is_kept = is_wave & (l < n)
        place = torch.where(is_kept, (l * n + m) * 2 + c, 0)
        row_of = torch.full((2 * n * n,), -1)
        row_of[place[is_kept]] = torch.arange(len(l))[is_kept]
        self.degree, self.order, self.is_imaginary = l, m, c
        self.n_rows = len(l)
        to = self.device
        self._place, self._is_kept = place.to(to), is_kept.to(to)
        self._row_of, self._is_inside = row_of.clamp(min=0).to(to), (row_of >= 0).to(to)

    def find_rows(self, degree: Tensor, is_imaginary: Tensor) -> tuple[Tensor, Tensor]:
        """Row of the given degree and kind at each row's own order, if there is one.

        Returns:
            Rows (n_rows,), zero where there is none, and whether there is one.
        """
        n = self.truncation + 2
        rows = torch.arange(self.n_rows)
        keys = (self.degree * n + self.order) * 2 + self.is_imaginary
        row_of = torch.full((2 * n * (n + 1),), -1)
        row_of[keys[self.is_row]] = rows[self.is_row]
        inside = (degree >= 0) & (degree < n) & (self.order < n - 1)
        wanted = torch.where(inside, (degree * n + self.order) * 2 + is_imaginary, 0)
        found = torch.where(inside, row_of[wanted], -1)
        return found.clamp(min=0), found >= 0

    def _build_longitude_tables(self) -> None:
        """Cosines and sines on a quarter of the circle, (part, lon/4, m)."""
        longitude, n_lon = self._octant_longitude(), self.grid.shape[1]
        tables = []
        for odd, sine, _ in PARTS:
            m = 2 * torch.arange(self._n_pairs) + odd
            wave = -torch.sin(m * longitude) if sine else torch.cos(m * longitude)
            tables.append(wave * (m <= self.truncation))
        synthesis = torch.stack(tables) * 2
        synthesis[0:2, :, 0] /= 2  # m = 0 has no mirror image at -m
        self._to_longitude = self._table(synthesis)
        self._from_longitude = self._table(torch.stack(tables).mT / n_lon)

    def _build_latitude_tables(self) -> None:
        """Legendre functions of the northern latitudes, for each block and part."""
        half = self.shape[1]
        n = self.truncation + 1
        functions = legendre_functions(self.grid.latitude[:half], n, self.truncation)
        weights = 2 * self.grid.weights[:half]
        self._legendre = []
        for block in self._blocks:
            synthesis, analysis = [], []
            for part in range(8):
                l, m = self.degree[block.rows(part)], self.order[block.rows(part)]
                used = ((l <= n) & (m < n))[:, None]
                table = functions[l.clamp(max=n), m.clamp(max=n - 1)] * used
                table = table.view(block.n_orders, block.n_degrees, half)
                synthesis.append(self._table(table.mT))
                analysis.append(self._table(table * weights))
            self._legendre.append((synthesis, analysis))

    def _table(self, values: Tensor) -> Tensor:
        return values.to(dtype=self.dtype, device=self.device).contiguous()


def _keep_freed_memory() -> None:
    """Let the C library keep up to 64 MiB of freed memory instead of returning it.

    glibc returns what is free beyond twice the largest block that it has seen freed, at
    most 32 MiB. Intermediate results of a step are a few MiB each; faulting their pages
    in again costs as much as the step itself.
    """
    torch.empty(31 * 2**20, dtype=torch.uint8)


def mirror(parts: Tensor) -> Tensor:
    """Parts (8, ...) to values at the eight images, or values to parts of their sums.

    Sums and differences over the three bits of `PARTS`.
    """
    values = list(parts.unbind())
    for bit in (1, 2, 4):
        values = [
            values[i ^ bit] - values[i] if i & bit else values[i] + values[i ^ bit]
            for i in range(8)
        ]
    return torch.stack(values)


@dataclass(frozen=True, slots=True)
class _Block:
    """Orders 2 first .. 2 last - 1, with room for the degrees of the lowest."""

    first: int
    last: int
    n_degrees: int  # of one parity
    start: int  # its first row

    @property
    def n_orders(self) -> int:
        return self.last - self.first

    def rows(self, part: int) -> slice:
        size = self.n_orders * self.n_degrees
        return slice(self.start + part * size, self.start + (part + 1) * size)


def _blocks(truncation: int) -> list[_Block]:
    n_pairs = truncation // 2 + 1
    n_blocks = max(1, round(truncation / 21))
    edges = [round(i * n_pairs / n_blocks) for i in range(n_blocks + 1)]
    blocks, start = [], 0
    for first, last in pairwise(edges):
        n_degrees = (truncation + 1 - 2 * first) // 2 + 1
        blocks.append(_Block(first, last, n_degrees, start))
        start += 8 * (last - first) * n_degrees
    return blocks
