"""Sensors: where fields are read, groups that are read at once, and their readings.

Sensors of one group are read at the same instants, so their joint law is known; between
groups that are read at different times only the laws of each are. Readings are scaled
per sensor, x = asinh((r - median) / spread) with the spread half of the 16 to 84 %
range: heads have tails that would else decide everything.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from scipy.cluster.vq import kmeans2
from torch import Tensor

from surrogates.generative_metrics import robust_spread
from surrogates.pigan.limits import MIN_SNAPSHOTS, snapshots_needed

Fields = Mapping[str, Tensor]

OVERLAP = 1.4  # a sensor belongs to a subdomain up to this times its nearest distance


@dataclass(frozen=True, slots=True, eq=False)
class SensorGroup:
    """Sensors that are read at the same instants.

    Attributes:
        cells: by name of the field, the cells in which it is read, (m,) each.
    """

    cells: Mapping[str, Tensor]

    @property
    def n_sensors(self) -> int:
        """Number of sensors, all fields together."""
        return sum(len(cells) for cells in self.cells.values())

    def read(self, fields: Fields) -> Tensor:
        """Readings (..., sensors) of fields (..., cells), field after field."""
        parts = [
            fields[name].index_select(-1, cells).float()
            for name, cells in self.cells.items()
        ]
        return torch.cat(parts, dim=-1)

    def columns(self, name: str) -> slice:
        """Which of the readings are those of a field."""
        names = list(self.cells)
        before = names[: names.index(name)]
        start = sum(len(self.cells[other]) for other in before)
        return slice(start, start + len(self.cells[name]))

    def locations(self, points: Tensor) -> Tensor:
        """Coordinates (sensors, d) of the sensors, from those of all cells."""
        return torch.cat([points[cells] for cells in self.cells.values()])


@dataclass(frozen=True, slots=True, eq=False)
class Snapshots:
    """Readings (snapshots, sensors) of one group, as `SensorGroup.read` orders them."""

    group: SensorGroup
    readings: Tensor

    @property
    def scale(self) -> "ReadingScale":
        """The scale that belongs to these readings."""
        median, spread = self.readings.median(0).values, robust_spread(self.readings)
        return ReadingScale(median, spread.to(median))


@dataclass(frozen=True, slots=True, eq=False)
class ReadingScale:
    """Median and robust spread of each sensor, (sensors,)."""

    median: Tensor
    spread: Tensor

    def squash(self, readings: Tensor) -> Tensor:
        """Dimensionless readings (..., sensors), with logarithmic tails."""
        return torch.asinh((readings - self.median) / self.spread)


@dataclass(frozen=True, slots=True, eq=False)
class SensorData:
    """What is known of a site: readings, by group, and where its cells are.

    Attributes:
        points: coordinates of the cells (cells, d).
        training: snapshots to learn from, one entry per group of sensors.
        held_out: further snapshots of the same groups, which decide nothing.

    Raises:
        ValueError: no sensors, a sensor outside the mesh or named twice in a group,
            readings of the wrong shape, not finite or constant, or too few snapshots.
    """

    points: Tensor
    training: Sequence[Snapshots]
    held_out: Sequence[Snapshots]

    def __post_init__(self) -> None:
        for what, parts in (("training", self.training), ("held-out", self.held_out)):
            if not parts or not all(part.group.n_sensors for part in parts):
                raise ValueError(
                    f"every group must have sensors; got {len(parts)} {what} groups "
                    f"with {[part.group.n_sensors for part in parts]}."
                )
            for number, part in enumerate(parts):
                for name, cells in part.group.cells.items():
                    what_sensors = f"{name} sensors of group {number}"
                    _check_cells(what_sensors, cells, len(self.points))
                _check_readings(f"{what} readings of group {number}", part)
        ours, theirs = (
            [{n: c.tolist() for n, c in part.group.cells.items()} for part in parts]
            for parts in (self.training, self.held_out)
        )
        if ours != theirs:
            raise ValueError(
                "held-out snapshots must be of the same groups of sensors as those of "
                f"training, in the same order; got {len(ours)} and {len(theirs)} groups"
                " that differ. Read both with the same SensorGroup."
            )


def _check_cells(what: str, cells: Tensor, n_cells: int) -> None:
    outside = cells[(cells < 0) | (cells >= n_cells)]
    if len(outside):
        raise ValueError(
            f"{what} must lie in cells 0 to {n_cells - 1}; got cell {int(outside[0])} "
            f"({len(outside)} outside). Check the index base."
        )
    unique, count = torch.unique(cells, return_counts=True)
    if len(unique) < len(cells):
        raise ValueError(
            f"{what} must be in different cells; got cell {int(unique[count > 1][0])} "
            f"{int(count.max())} times. Average sensors of one cell."
        )


def _check_readings(what: str, snapshots: Snapshots) -> None:
    readings, n_sensors = snapshots.readings, snapshots.group.n_sensors
    if readings.ndim != 2 or readings.shape[1] != n_sensors:  # noqa: PLR2004  # a table
        raise ValueError(
            f"{what} must have shape (snapshots, {n_sensors}), one column per sensor; "
            f"got {tuple(readings.shape)}."
        )
    bad = (~torch.isfinite(readings)).nonzero()
    if len(bad):
        row, column = bad[0].tolist()
        raise ValueError(
            f"{what} must be finite; got {float(readings[row, column])} in snapshot "
            f"{row}, sensor {column} ({len(bad)} such values). Leave them out."
        )
    needed = snapshots_needed(n_sensors)
    if len(readings) < needed:
        raise ValueError(
            f"{what} must be of {needed} snapshots or more, one for four of the "
            f"{n_sensors} sensors and {MIN_SNAPSHOTS} at least; got {len(readings)}. "
            "Use more snapshots or fewer sensors."
        )
    constant = (robust_spread(readings) <= 0).nonzero().flatten()
    if len(constant):
        raise ValueError(
            f"{what} must vary at every sensor; sensor {int(constant[0])} reads "
            f"{float(readings[0, constant[0]])} in most snapshots ({len(constant)} do)."
            " Leave such sensors out, or give their values as known."
        )


def subdomains(locations: Tensor, n: int, seed: int) -> list[Tensor]:
    """Sensors of n overlapping subdomains: neighbours of k-means centres.

    A sensor belongs to every subdomain whose centre is not further away than 1.4 times
    its nearest one.

    Args:
        locations: (sensors, d).
        n: number of subdomains; with one, all sensors.
        seed: of the k-means start.

    Raises:
        ValueError: fewer places than subdomains.
    """
    if n == 1:
        return [torch.arange(len(locations))]
    n_places = len(torch.unique(locations, dim=0))
    if n_places < n:
        raise ValueError(
            f"{n} subdomains must have {n} places with sensors or more; got {n_places}."
            " Lower n_subdomains."
        )
    centres, _ = kmeans2(locations.numpy(), n, seed=seed, minit="++", missing="raise")
    distance = torch.cdist(locations.double(), torch.from_numpy(centres).double())
    nearest = distance.amin(1, keepdim=True)
    return [member.nonzero().flatten() for member in (distance <= OVERLAP * nearest).T]
