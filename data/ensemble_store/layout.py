"""What an ensemble store holds, variables, members, blocks, and in which files.

The layout is fixed when the store is created, and kept in its manifest.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from data.durable_files import StagingError
from data.ensemble_store.shards import Codec, ShardShape

MANIFEST = "manifest"
CHUNK_BYTES = 2**20

# a Zarr group of sharded arrays, with inner chunks as they are or compressed by
# blosc-lz4; or an HDF5 file per block and a virtual data set over them
Format: TypeAlias = Literal["zarr", "zarr-lz4", "hdf5"]

# dimension, values and, optionally, attributes such as units: as xarray takes them
Coordinate: TypeAlias = (
    tuple[str, NDArray[Any]] | tuple[str, NDArray[Any], Mapping[str, str]]
)


@dataclass(frozen=True, slots=True)
class Variable:
    """A field of members, named as CF does (`hydraulic_head`, not `head`)."""

    name: str
    units: str
    long_name: str
    dtype: Literal["float32", "float64"] = "float32"


@dataclass(frozen=True, slots=True)
class StoreLayout:
    """Sizes and variables of a store; block b holds members b·block_size and on.

    Attributes:
        n_members: ensemble size.
        shape: sizes of one member.
        block_size: members per block.
        variables: fields over member and `dimensions`.
        format: of the files.
        dimensions: names of the axes of `shape`.
    """

    n_members: int
    shape: tuple[int, ...]
    block_size: int
    variables: tuple[Variable, ...]
    format: Format = "zarr"
    dimensions: tuple[str, ...] = ("cell",)

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

    def file_of(self, variable: str, block: int) -> str:
        """Name of the file with a variable of a block, relative to the store."""
        if self.format == "hdf5":
            return f"blocks/{block}.h5"
        return f"{variable}/c/{block}" + "/0" * len(self.shape)

    def shard_shape(self, variable: Variable) -> ShardShape:
        """Shape of the shards of a variable: inner chunks of about 1 MiB."""
        dtype = np.dtype(variable.dtype).newbyteorder("<")
        row_bytes = math.prod(self.shape) * dtype.itemsize
        # an inner chunk has to divide the shard: the divisor nearest to 1 MiB, so that
        # a prime block size does not end in chunks of single small members
        chunk_members = min(
            _divisors(self.block_size),
            key=lambda count: abs(np.log(count * row_bytes / CHUNK_BYTES)),
        )
        n_chunks = self.block_size // chunk_members
        codec: Codec = "blosc-lz4" if self.format == "zarr-lz4" else "none"
        return ShardShape(n_chunks, chunk_members, self.shape, dtype, codec)


def read_layout(path: Path) -> StoreLayout:
    """The layout of a store.

    Raises:
        StagingError: there is no store.
    """
    record = read_record(path)
    variables = tuple(Variable(**variable) for variable in record["variables"])
    return StoreLayout(
        record["n_members"],
        tuple(record["shape"]),
        record["block_size"],
        variables,
        record["format"],
        tuple(record["dimensions"]),
    )


def read_record(path: Path) -> dict[str, Any]:
    """The layout as JSON values, with a crc32c of each coordinate.

    Raises:
        StagingError: there is no store.
    """
    file = record_file(path, "hdf5")
    try:
        if file.exists():
            record = dict(json.loads(file.read_bytes()))
        else:
            file = record_file(path, "zarr")
            record = json.loads(file.read_bytes())["attributes"]["layout"]
    except (FileNotFoundError, NotADirectoryError, KeyError, ValueError) as error:
        raise StagingError(
            f"{path} must be an ensemble store; got no readable layout in {file}. "
            "Create it by create_store, in a folder of its own."
        ) from error
    if "n_cells" in record:  # early stores knew no other dimension
        record |= {"shape": [record.pop("n_cells")], "dimensions": ["cell"]}
    return {"format": "zarr", **record}  # the first ones do not say


def record_file(path: Path, form: Format) -> Path:
    """Where a store of that format keeps its layout."""
    return path / MANIFEST / ("layout.json" if form == "hdf5" else "zarr.json")


def _divisors(number: int) -> list[int]:
    small = [d for d in range(1, int(number**0.5) + 1) if number % d == 0]
    return sorted({*small, *(number // d for d in small)})
