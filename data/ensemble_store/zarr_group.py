"""The Zarr 3 group of an ensemble store, which xarray opens."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from data.ensemble_store.layout import MANIFEST, Coordinate, StoreLayout
from data.ensemble_store.shards import BLOSC_LEVEL, Codec


def write_group(
    path: Path,
    layout: StoreLayout,
    record: dict[str, Any],
    coordinates: Mapping[str, Coordinate],
    attributes: Mapping[str, str | int | float],
) -> None:
    """Writes the group of a store: its arrays without members, and its coordinates."""
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
            shape=(layout.n_members, *layout.shape),
            chunks=(shape.chunk_members, *layout.shape),
            shards=(layout.block_size, *layout.shape),
            dtype=shape.dtype,
            compressors=_compressors(shape.codec),
            filters=None,
            fill_value=np.nan,
            dimension_names=("member", *layout.dimensions),
            attributes={
                "units": variable.units,
                "long_name": variable.long_name,
                **({"coordinates": names} if names else {}),
            },
        )
    for name, (dimension, values, *more) in coordinates.items():
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


def _compressors(codec: Codec) -> Any:  # noqa: ANN401  # a codec of zarr, imported late
    if codec == "none":
        return None
    from zarr.codecs import BloscCodec

    return BloscCodec(cname="lz4", clevel=BLOSC_LEVEL, shuffle="shuffle")
