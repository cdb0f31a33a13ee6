"""Creates an ensemble store: metadata and coordinates, without members.

A store with another layout is refused, so that no two experiments mix.
"""

import json
import shutil
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np

from data.durable_files import StagingError, sync_folder, sync_tree
from data.ensemble_store.hdf5 import write_index
from data.ensemble_store.layout import (
    Coordinate,
    Format,
    StoreLayout,
    Variable,
    read_record,
)
from data.ensemble_store.zarr_group import write_group


def create_store(  # noqa: PLR0913  # all by keyword: what a store is
    path: Path,
    *,
    n_members: int,
    block_size: int,
    variables: Sequence[Variable],
    coordinates: Mapping[str, Coordinate],
    attributes: Mapping[str, str | int | float],
    format: Format = "zarr",
    dimensions: Sequence[str] = ("cell",),
) -> StoreLayout:
    """Creates an ensemble store without members, or accepts one of the same layout.

    Any number of processes may call this at once: the store appears complete, by a
    rename, and the first one wins.

    Args:
        path: folder of the store; its parent exists.
        n_members: ensemble size.
        block_size: members per shard, written by one task.
        variables: fields over member and `dimensions`.
        coordinates: by name: dimension, values, attributes; one of them at least lies
            on each dimension and so gives its size. `member` is added.
        attributes: global attributes.
        format: of the files. Compression takes a quarter off smooth fields, and makes
            reads of single members slower.
        dimensions: of one member, in the order of its axes, such as time, lat, lon.

    Returns:
        The layout.

    Raises:
        ValueError: a size is not positive, or a dimension has no coordinate.
        StagingError: a store of another layout is there.
    """
    shape = tuple(_size_of(dimension, coordinates) for dimension in dimensions)
    if min(n_members, block_size, *shape, len(variables)) < 1:
        raise ValueError(
            "members, block size, sizes of dimensions and number of variables must be "
            f">= 1; got {n_members}, {block_size}, {shape}, {len(variables)}."
        )
    layout = StoreLayout(
        n_members, shape, block_size, tuple(variables), format, tuple(dimensions)
    )
    record = _describe(layout, coordinates, attributes)
    if not path.exists():
        _create(path, layout, record, coordinates, attributes)
    _check_same(path, record)
    return layout


def _size_of(dimension: str, coordinates: Mapping[str, Coordinate]) -> int:
    sizes = {len(c[1]) for c in coordinates.values() if c[0] == dimension}
    if len(sizes) != 1:
        raise ValueError(
            f"coordinates on the dimension {dimension} must give its size; got "
            f"{sorted(sizes)}. Pass for example x and y of the cells, or lat and lon."
        )
    return sizes.pop()


def _describe(
    layout: StoreLayout,
    coordinates: Mapping[str, Coordinate],
    attributes: Mapping[str, str | int | float],
) -> dict[str, Any]:
    """The layout as JSON values; two stores mix only if these are equal."""
    described = {
        name: {
            "dimension": dimension,
            "length": len(values),
            "crc32c": google_crc32c.value(np.ascontiguousarray(values)),
            "attributes": [dict(extra) for extra in more],
        }
        for name, (dimension, values, *more) in coordinates.items()
    }
    record = {
        **asdict(layout),
        "coordinates": described,
        "attributes": dict(attributes),
    }
    return dict(json.loads(json.dumps(record)))


def _check_same(path: Path, wanted: dict[str, Any]) -> None:
    stored, wanted = _by_coordinate(read_record(path)), _by_coordinate(wanted)
    for key in [*wanted, *stored]:
        if stored.get(key) != wanted.get(key):
            raise StagingError(
                f"{path} must have {key} = {wanted.get(key)}; it was created with "
                f"{stored.get(key)}. Take another folder or the stored settings."
            )


def _by_coordinate(record: dict[str, Any]) -> dict[str, Any]:
    """The record with an entry per coordinate, so that a refusal names one of them."""
    coordinates = record["coordinates"].items()
    return {
        **{key: value for key, value in record.items() if key != "coordinates"},
        **{f"coordinate {name}": described for name, described in coordinates},
    }


def _create(
    path: Path,
    layout: StoreLayout,
    record: dict[str, Any],
    coordinates: Mapping[str, Coordinate],
    attributes: Mapping[str, str | int | float],
) -> None:
    staging = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")
    everything = {"member": ("member", np.arange(layout.n_members)), **coordinates}
    if layout.format == "hdf5":
        write_index(staging, layout, record, everything, attributes)
    else:
        write_group(staging, layout, record, everything, attributes)
    sync_tree(staging)
    try:
        staging.rename(path)
    except OSError:
        # another process was faster; the caller compares the layouts
        shutil.rmtree(staging)
        if not path.exists():
            raise
    sync_folder(path.parent)
