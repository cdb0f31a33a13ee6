"""The HDF5 files of an ensemble store.

    blocks/<block>.h5   variables (member, ...) of a block, contiguous, without filters
    index.h5            the same variables over all blocks, virtual, and coordinates

`index.h5` follows the conventions of netCDF-4, so that xarray opens it where h5netcdf
or netCDF4 is installed. Blocks are found relative to it: a store can be moved. A block
that is not there reads as NaN; the manifest says which are.
"""

import io
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from data.durable_files import StagingError
from data.ensemble_store.layout import (
    Coordinate,
    StoreLayout,
    read_record,
    record_file,
)
from data.ensemble_store.shards import ShardShape

if TYPE_CHECKING:
    import h5py
    import xarray as xr

INDEX = "index.h5"
LIBRARY = ("v110", "v110")  # readable since HDF5 1.10, the first with virtual data sets


def block_image(
    layout: StoreLayout, fields: Mapping[str, NDArray[np.floating]]
) -> bytes:
    """The file of a block, equal bytes for equal fields (members, n_cells)."""
    import h5py

    n_bytes = sum(rows.nbytes for rows in fields.values()) + 2**16
    with h5py.File(
        uuid.uuid4().hex,  # not on disk, but no two open files may share a name
        "w",
        driver="core",
        backing_store=False,
        block_size=n_bytes,
        libver=LIBRARY,
    ) as file:
        for variable in layout.variables:
            values = fields[variable.name].reshape(-1, *layout.shape)
            dataset = file.create_dataset(variable.name, data=values)
            dataset.attrs["units"] = variable.units
            dataset.attrs["long_name"] = variable.long_name
        file.flush()
        return bytes(file.id.get_file_image())


def field_offset(
    descriptor: int, path: Path, variable: str, rows: int, shape: ShardShape
) -> int:
    """Where the members of a variable begin in the open file of a block.

    Raises:
        StagingError: the file is damaged or holds something else.
    """
    import h5py

    try:
        with (
            io.FileIO(descriptor, closefd=False) as stream,
            h5py.File(stream, "r") as file,
        ):
            dataset = file[variable]
            found = (dataset.shape, dataset.dtype, dataset.chunks)
            offset = dataset.id.get_offset()
    except (OSError, KeyError, RuntimeError) as error:
        raise StagingError(
            f"{path} must be an HDF5 file with {variable}; got {error}. "
            "Write the block again."
        ) from error
    wanted = ((rows, *shape.member_shape), shape.dtype, None)
    if found != wanted or offset is None:
        raise StagingError(
            f"{variable} of {path} must have shape, type and chunks {wanted}; got "
            f"{found}. Write the block again."
        )
    return int(offset)


def write_index(
    path: Path,
    layout: StoreLayout,
    record: dict[str, Any],
    coordinates: Mapping[str, Coordinate],
    attributes: Mapping[str, str | int | float],
) -> None:
    """Writes the folder of a store: its index without blocks, and its layout."""
    import h5py

    record_file(path, "hdf5").parent.mkdir(parents=True)
    record_file(path, "hdf5").write_text(json.dumps(record))
    names = " ".join(name for name, (dim, *_) in coordinates.items() if dim != name)
    with h5py.File(path / INDEX, "w", libver=LIBRARY) as file:
        file.attrs.update({"Conventions": "CF-1.11", **attributes})
        for name, (_, values, *more) in coordinates.items():
            file[name] = values
            file[name].attrs.update(more[0] if more else {})
        _make_dimension(file, "member", layout.n_members)
        for dimension, size in zip(layout.dimensions, layout.shape, strict=True):
            _make_dimension(file, dimension, size)
        for name, (dimension, *_) in coordinates.items():
            if name != dimension:
                file[name].dims[0].attach_scale(file[dimension])
        for variable in layout.variables:
            shape = layout.shard_shape(variable)
            source = _virtual_source(layout, variable.name, shape)
            # of its type: netCDF accepts no other
            fill = np.array(np.nan, dtype=shape.dtype)
            dataset = file.create_virtual_dataset(variable.name, source, fillvalue=fill)
            dataset.attrs["_FillValue"] = fill
            dataset.attrs["units"] = variable.units
            dataset.attrs["long_name"] = variable.long_name
            if names:
                dataset.attrs["coordinates"] = names
            for axis, dimension in enumerate(("member", *layout.dimensions)):
                dataset.dims[axis].attach_scale(file[dimension])


def open_index(path: Path, layout: StoreLayout, chunk_members: int) -> "xr.Dataset":
    """The store as a lazy dataset, in dask chunks of that many whole members."""
    import dask.array
    import h5py
    import xarray as xr

    dims = ("member", *layout.dimensions)
    described = read_record(path)["coordinates"]
    with h5py.File(path / INDEX, "r", locking=False) as file:
        coordinates: dict[str, Any] = {"member": ("member", file["member"][:], {})}
        for name, known in described.items():
            extra = dict(*known["attributes"])
            coordinates[name] = (known["dimension"], file[name][:], extra)
        attributes = dict(file.attrs)
    fields = {
        variable.name: (
            dims,
            dask.array.from_array(  # type: ignore[no-untyped-call]  # dask
                _LazyVariable(
                    path / INDEX,
                    variable.name,
                    (layout.n_members, *layout.shape),
                    layout.shard_shape(variable).dtype,
                ),
                chunks=(chunk_members, *layout.shape),
                asarray=False,
            ),
            {"units": variable.units, "long_name": variable.long_name},
        )
        for variable in layout.variables
    }
    return xr.Dataset(fields, coordinates, attributes)


@dataclass(frozen=True, slots=True)
class _LazyVariable:
    """A variable of the index that is opened anew for every part that is read."""

    path: Path
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[np.floating]

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __getitem__(self, key: tuple[slice, ...]) -> NDArray[np.floating]:
        import h5py

        # a file that is never written again needs no lock, which some devices lack
        with h5py.File(self.path, "r", locking=False) as file:
            values: NDArray[np.floating] = file[self.name][key]
            return values


def _virtual_source(
    layout: StoreLayout, name: str, shape: ShardShape
) -> "h5py.VirtualLayout":
    import h5py

    whole = (layout.n_members, *layout.shape)
    virtual = h5py.VirtualLayout(shape=whole, dtype=shape.dtype)
    for block in range(layout.n_blocks):
        members = layout.members(block)
        part = (len(members), *layout.shape)
        file = layout.file_of(name, block)
        source = h5py.VirtualSource(file, name, shape=part, dtype=shape.dtype)
        virtual[members.start : members.stop] = source
    return virtual


def _make_dimension(file: "h5py.File", name: str, size: int) -> None:
    """A dimension as netCDF-4 knows it: a coordinate of that name, or only a length."""
    label = name
    if name not in file:
        file.create_dataset(name, shape=(size,), dtype=">f4")
        label = f"This is a netCDF dimension but not a netCDF variable.{size:10d}"
    file[name].make_scale(label)
