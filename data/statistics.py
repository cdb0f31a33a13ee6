"""Statistics over the members of an ensemble, in memory that does not grow with it.

Mean, standard deviation and covariance are lazy: one pass over the blocks, partial sums
in float64, merged as a tree by dask. Quantiles need all members of a cell at once; they
are computed strip of cells by strip of cells, one pass over the blocks each.
"""

from collections.abc import Sequence

import numpy as np
import xarray as xr

# all members of the cells of one strip; quantiles hold about three copies of it
STRIP_BYTES = 96 * 2**20


def ensemble_mean(field: xr.DataArray) -> xr.DataArray:
    """Mean over `member`, accumulated in float64; lazy, without that dimension."""
    return field.mean("member", dtype=np.float64, skipna=False, keep_attrs=True)


def ensemble_standard_deviation(field: xr.DataArray) -> xr.DataArray:
    """Standard deviation over `member` with divisor n - 1, in float64; lazy.

    Each block gives its mean and its sum of squared deviations; these are merged, so
    that heads far from zero lose no digits.

    Raises:
        ValueError: fewer than two members.
    """
    _check_two_members(field)
    return field.std("member", dtype=np.float64, ddof=1, skipna=False, keep_attrs=True)


def covariance_with_points(field: xr.DataArray, points: Sequence[int]) -> xr.DataArray:
    """Covariance of every cell with a few cells, divisor n - 1; lazy, (point, cell).

    cov(a, b) = (Σ a b - n ā b̄) / (n - 1) of the values minus those of one member. The
    shift keeps the digits that a mean far from zero would cost; subtracting the mean
    itself would need every block twice, and dask would keep them all in between.

    Args:
        field: dimensions member and cell.
        points: cell ids.

    Raises:
        ValueError: fewer than two members, or a point outside the mesh.
    """
    _check_two_members(field)
    wrong = [point for point in points if not 0 <= point < field.sizes["cell"]]
    if wrong:
        raise ValueError(
            f"points must be cell ids in 0..{field.sizes['cell'] - 1}; got {wrong[0]}."
        )
    n_members = field.sizes["member"]
    bare = field.drop_vars([*field.coords])
    shifted = bare.astype(np.float64) - bare.isel(member=0).astype(np.float64)
    at_points = shifted.isel(cell=[*points]).rename(cell="point")
    products = xr.dot(at_points, shifted, dim="member")  # (point, cell)
    means = at_points.mean("member", skipna=False) * shifted.mean(
        "member", skipna=False
    )
    covariance: xr.DataArray = (products - n_members * means) / (n_members - 1)
    cells = {name: c for name, c in field.coords.items() if c.dims == ("cell",)}
    return covariance.assign_coords({"point": [*points], **cells})


def ensemble_quantiles(
    field: xr.DataArray, levels: Sequence[float], strip_bytes: int = STRIP_BYTES
) -> xr.DataArray:
    """Quantiles over `member`, exact: order statistics, interpolated linearly.

    Computed here rather than lazily: in one graph over all strips dask would read each
    block once and keep every one of them until the last strip.

    Args:
        field: dimensions member and cell.
        levels: probabilities in [0, 1].
        strip_bytes: bytes of the cells taken at once; the blocks are read as many times
            as such strips are in the field.

    Returns:
        Quantiles, shape (quantile, cell), in memory.
    """
    cell_bytes = field.sizes["member"] * field.dtype.itemsize
    width = max(1, strip_bytes // cell_bytes)
    return xr.concat(
        [
            field.isel(cell=slice(start, start + width))
            .load()
            .quantile([*levels], dim="member", skipna=False, keep_attrs=True)
            for start in range(0, field.sizes["cell"], width)
        ],
        dim="cell",
    )


def _check_two_members(field: xr.DataArray) -> None:
    if field.sizes["member"] <= 1:
        raise ValueError(
            f"a spread needs at least 2 members; got {field.sizes['member']}."
        )
