"""What an ensemble store holds: variables, members, blocks; and its creation.

The layout is kept in `manifest/zarr.json`. It is fixed when the store is created; a
store with another layout is refused, so that no two experiments mix.
"""

import json
import shutil
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from data.durable_files import StagingError, sync_folder, sync_tree
from data.ensemble_store.shards import BLOSC_LEVEL, Codec, ShardShape

MANIFEST = "manifest"
CHUNK_BYTES = 2**20

# dimension, values and, optionally, attributes such as units: as xarray takes them
Coordinate: TypeAlias = (
    tuple[str, NDArray[Any]] | tuple[str, NDArray[Any], Mapping[str, str]]
)


@dataclass(frozen=True, slots=True)
class Variable:
    """A field over member and cell, named as CF does (`hydraulic_head`, not `head`)."""

    name: str
    units: str
    long_name: str
    dtype: Literal["float32", "float64"] = "float32"


@dataclass(frozen=True, slots=True)
class StoreLayout:
    """Sizes and variables of a store; block b holds members b·block_size and on."""

    n_members: int
    n_cells: int
    block_size: int
    variables: tuple[Variable, ...]
    codec: Codec = "none"

    @property
    def n_blocks(self) -> int:
        """Number of blocks, the last of which may be shorter."""
        return -(-self.n_members // self.block_size)

    def members(self, block: int) -> range:
        """Member ids of a block.

        Raises:
            ValueError: there is no such block.
        """
        if not 0 <= block < self.n_blocks:
            raise ValueError(f"block must lie in 0..{self.n_blocks - 1}; got {block}.")
        start = block * self.block_size
        return range(start, min(start + self.block_size, self.n_members))

    def variable(self, name: str) -> Variable:
        """The variable of that name.

        Raises:
            ValueError: there is no such variable.
        """
        for variable in self.variables:
            if variable.name == name:
                return variable
        known = ", ".join(variable.name for variable in self.variables)
        raise ValueError(f"no variable {name!r} in the store; known ones: {known}.")

    def shard_shape(self, variable: Variable) -> ShardShape:
        """Shape of the shards of a variable: inner chunks of about 1 MiB."""
        dtype = np.dtype(variable.dtype).newbyteorder("<")
        row_bytes = self.n_cells * dtype.itemsize
        # an inner chunk has to divide the shard: the divisor nearest to 1 MiB, so that
        # a prime block size does not end in chunks of single small members
        chunk_members = min(
            _divisors(self.block_size),
            key=lambda count: abs(np.log(count * row_bytes / CHUNK_BYTES)),
        )
        n_chunks = self.block_size // chunk_members
        return ShardShape(n_chunks, chunk_members, self.n_cells, dtype, self.codec)


def shard_file(variable: str, block: int) -> str:
    """Name of a shard file, relative to the store."""
    return f"{variable}/c/{block}/0"


def create_store(
    path: Path,
    *,
    n_members: int,
    block_size: int,
    variables: Sequence[Variable],
    coordinates: Mapping[str, Coordinate],
    attributes: Mapping[str, str | int | float],
    codec: Codec = "none",
) -> StoreLayout:
    """Creates an ensemble store without members, or accepts one of the same layout.

    Any number of processes may call this at once: the store appears complete, by a
    rename, and the first one wins.

    Args:
        path: folder of the store; its parent exists.
        n_members: ensemble size.
        block_size: members per shard, written by one task.
        variables: fields over (member, cell).
        coordinates: by name: dimension, values, attributes; one of them at least lies
            on `cell` and so gives the number of cells. `member` is added.
        attributes: global attributes.
        codec: compression of the fields. Without any, neighbouring members are one
            contiguous read; blosc-lz4 takes a quarter off smooth fields.

    Returns:
        The layout.

    Raises:
        ValueError: a size is not positive, or no coordinate lies on `cell`.
        StagingError: a store of another layout is there.
    """
    n_cells = _count_cells(coordinates)
    if min(n_members, block_size, n_cells, len(variables)) < 1:
        raise ValueError(
            "members, block size, cells and variables must be >= 1; got "
            f"{n_members}, {block_size}, {n_cells}, {len(variables)}."
        )
    layout = StoreLayout(n_members, n_cells, block_size, tuple(variables), codec)
    record = _describe(layout, coordinates, attributes)
    if not path.exists():
        _create(path, layout, record, coordinates, attributes)
    _check_same(path, record)
    return layout


def read_layout(path: Path) -> StoreLayout:
    """The layout of a store.

    Raises:
        StagingError: there is no store.
    """
    record = _read_record(path)
    variables = tuple(Variable(**variable) for variable in record["variables"])
    return StoreLayout(
        record["n_members"],
        record["n_cells"],
        record["block_size"],
        variables,
        record["codec"],
    )


def _divisors(number: int) -> list[int]:
    small = [d for d in range(1, int(number**0.5) + 1) if number % d == 0]
    return sorted({*small, *(number // d for d in small)})


def _count_cells(coordinates: Mapping[str, Coordinate]) -> int:
    sizes = {len(c[1]) for c in coordinates.values() if c[0] == "cell"}
    if len(sizes) != 1:
        raise ValueError(
            "coordinates on the dimension cell must give one number of cells; got "
            f"{sorted(sizes)}. Pass for example x and y of the cell centres."
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


def _read_record(path: Path) -> dict[str, Any]:
    file = path / MANIFEST / "zarr.json"
    try:
        # the default of what early stores do not say
        return {
            "codec": "none",
            **json.loads(file.read_bytes())["attributes"]["layout"],
        }
    except (FileNotFoundError, NotADirectoryError, KeyError, ValueError) as error:
        raise StagingError(
            f"{path} must be an ensemble store; got no readable layout in {file}. "
            "Create it by create_store, in a folder of its own."
        ) from error


def _check_same(path: Path, wanted: dict[str, Any]) -> None:
    stored = _read_record(path)
    for key in wanted.keys() | stored.keys():
        if stored.get(key) != wanted.get(key):
            raise StagingError(
                f"{path} must have {key} = {wanted.get(key)}; it was created with "
                f"{stored.get(key)}. Take another folder or the stored settings."
            )


def _create(
    path: Path,
    layout: StoreLayout,
    record: dict[str, Any],
    coordinates: Mapping[str, Coordinate],
    attributes: Mapping[str, str | int | float],
) -> None:
    staging = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")
    _write_metadata(staging, layout, record, coordinates, attributes)
    sync_tree(staging)
    try:
        staging.rename(path)
    except OSError:
        # another process was faster; the caller compares the layouts
        shutil.rmtree(staging)
        if not path.exists():
            raise
    sync_folder(path.parent)


def _compressors(codec: Codec) -> Any:  # noqa: ANN401  # a codec of zarr, imported late
    if codec == "none":
        return None
    from zarr.codecs import BloscCodec

    return BloscCodec(cname="lz4", clevel=BLOSC_LEVEL, shuffle="shuffle")


def _write_metadata(
    path: Path,
    layout: StoreLayout,
    record: dict[str, Any],
    coordinates: Mapping[str, Coordinate],
    attributes: Mapping[str, str | int | float],
) -> None:
    import zarr  # takes a second, which workers that only write blocks do not pay

    group = zarr.create_group(
        path, zarr_format=3, attributes={"Conventions": "CF-1.11", **attributes}
    )
    # a group of its own: Zarr warns of folders that it does not know
    group.create_group(MANIFEST, attributes={"layout": record})
    names = " ".join(name for name, (dim, *_) in coordinates.items() if dim != name)
    for variable in layout.variables:
        shape = layout.shard_shape(variable)
        group.create_array(
            variable.name,
            shape=(layout.n_members, layout.n_cells),
            chunks=(shape.chunk_members, layout.n_cells),
            shards=(layout.block_size, layout.n_cells),
            dtype=shape.dtype,
            compressors=_compressors(layout.codec),
            filters=None,
            fill_value=np.nan,
            dimension_names=("member", "cell"),
            attributes={
                "units": variable.units,
                "long_name": variable.long_name,
                "coordinates": names,
            },
        )
    members = np.arange(layout.n_members)
    everything = {"member": ("member", members), **coordinates}
    for name, (dimension, values, *more) in everything.items():
        group.create_array(
            name,
            data=np.ascontiguousarray(values),
            chunks=values.shape,
            compressors=None,
            filters=None,
            dimension_names=(dimension,),
            attributes=dict(more[0]) if more else {},
            # a coordinate of zeros would not be stored and read as a hole
            config={"write_empty_chunks": True},
        )
