"""First-order conservative regridding between latitude-longitude grids.

A point stands for the cell around it: in sin(latitude) as wide as twice its weight of
the area mean, in longitude as the spacing. The new value is the mean of the old cells
over the new one, weighted by the area of overlap, so that a constant and the area mean
are preserved to rounding. Source: form after Jones (1999), first order,
doi:10.1175/1520-0493(1999)127<2204:FASOCR>2.0.CO;2.
"""

import torch
from torch import Tensor

from simulators.sphere.grid import Grid


def regrid_conservatively(field: Tensor, source: Grid, target: Grid) -> Tensor:
    """Means of a field (..., lat, lon) over the cells of another grid.

    Raises:
        ValueError: if the field does not lie on the source grid.
    """
    if field.shape[-2:] != source.shape:
        raise ValueError(
            f"field must lie on the source grid {source.shape}; got "
            f"{tuple(field.shape)}."
        )
    by_latitude = _overlap_means(_latitude_edges(source), _latitude_edges(target))
    n_source, n_target = source.shape[1], target.shape[1]
    # three turns of the source, so that a cell across longitude 0 finds its neighbours
    turns = (torch.arange(3 * n_source + 1).double() - 0.5) / n_source - 1
    edges = (torch.arange(n_target + 1).double() - 0.5) / n_target
    by_longitude = _overlap_means(turns, edges)
    by_longitude = by_longitude.reshape(n_target, 3, n_source).sum(dim=1)
    return by_latitude.to(field) @ field @ by_longitude.to(field).T


def _latitude_edges(grid: Grid) -> Tensor:
    """Cell edges as the share of the sphere north of them, (n_lat + 1,)."""
    edges = torch.cat((grid.weights.new_zeros(1), grid.weights.cumsum(0)))
    return edges / edges[-1]


def _overlap_means(source: Tensor, target: Tensor) -> Tensor:
    """Share of each source cell in each target cell, (n_target, n_source)."""
    above = torch.minimum(source[1:], target[1:, None])
    below = torch.maximum(source[:-1], target[:-1, None])
    overlap = (above - below).clamp(min=0)
    return overlap / overlap.sum(dim=1, keepdim=True)
