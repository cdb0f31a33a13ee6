"""U-Net on a latitude-longitude grid that knows that the grid closes around a sphere.

Convolutions see across longitude 0 and across the poles: beyond a pole lies the row as
far from it on the other side, half the longitudes away. Grids without a point at the
pole keep that property under means over 2 x 2 points. Form after Ronneberger et al.
(2015), arXiv:1505.04597; padding and sizes are this project's own.
"""

import torch
from torch import Tensor, nn

from simulators.sphere import Grid
from surrogates.sphere.layers import LatitudeChannel, convolution

HE_GAIN = 2**0.5  # keeps the variance through rectifiers


def pad_sphere(fields: Tensor) -> Tensor:
    """Scalars (..., lat, lon) with one more point on each side, (..., lat+2, lon+2).

    Components of vectors would change sign across the pole; scalars do not. The number
    of longitudes must be even.
    """
    half = fields.shape[-1] // 2
    north, south = fields[..., :1, :], fields[..., -1:, :]
    rows = (north.roll(half, -1), fields, south.roll(half, -1))
    tall = torch.cat(rows, dim=-2)
    return torch.cat((tall[..., -1:], tall, tall[..., :1]), dim=-1)


class SphericalUNet(nn.Module):
    """Network from fields (batch, in_channels, lat, lon) to (batch, out_channels, ...).

    All channels are scalars (vorticity, divergence, geopotential; no wind components).
    It knows the latitude through an own input channel sin(φ). Shifting the input by a
    multiple of 2^n_levels longitudes shifts the output.

    Args:
        grid: of the fields.
        in_channels: of the input, sin(φ) not counted.
        out_channels: of the output.
        width: channels at the finest level; they double at each coarser one.
        n_levels: number of halvings of the resolution.
        generator: of the initial weights, on the CPU.

    Raises:
        ValueError: if the grid cannot be halved so often.
    """

    def __init__(
        self,
        grid: Grid,
        in_channels: int,
        out_channels: int,
        width: int,
        n_levels: int,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        _check_halvings(grid, n_levels)
        self.latitude = LatitudeChannel(grid)
        widths = [width * 2**level for level in range(n_levels + 1)]
        inputs = [in_channels + 1, *widths[:-1]]
        self.down = nn.ModuleList(
            _Convolutions(*sizes, generator)
            for sizes in zip(inputs, widths, strict=True)
        )
        self.up = nn.ModuleList(
            _Convolutions(fine + coarse, fine, generator)
            for fine, coarse in zip(widths[-2::-1], widths[:0:-1], strict=True)
        )
        self.decoder = convolution(width, out_channels, 1, generator)

    def forward(self, fields: Tensor) -> Tensor:
        """Output fields.

        Raises:
            ValueError: if the fields do not lie on the grid.
        """
        x = self.down[0](self.latitude(fields))
        finer = []
        for level in self.down[1:]:
            finer.append(x)
            x = level(nn.functional.avg_pool2d(x, 2))
        for level in self.up:
            x = nn.functional.interpolate(x, scale_factor=2, mode="nearest")
            x = level(torch.cat((finer.pop(), x), dim=1))
        result: Tensor = self.decoder(x)
        return result


class _Convolutions(nn.Module):
    """Two 3 x 3 convolutions, each followed by a GELU."""

    def __init__(
        self, in_channels: int, out_channels: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.first = convolution(in_channels, out_channels, 3, generator, HE_GAIN)
        self.second = convolution(out_channels, out_channels, 3, generator, HE_GAIN)

    def forward(self, fields: Tensor) -> Tensor:
        for layer in (self.first, self.second):
            fields = nn.functional.gelu(layer(pad_sphere(fields)))
        return fields


def _check_halvings(grid: Grid, n_levels: int) -> None:
    n_lat, n_lon = grid.shape
    factor = 2**n_levels
    # the coarsest rows must still be even in length: the padding takes half of them
    if n_lat % factor or n_lon % (2 * factor):
        raise ValueError(
            f"{n_levels} levels need latitudes in multiples of {factor} and longitudes "
            f"in multiples of {2 * factor}; got {n_lat} x {n_lon}. Use fewer levels."
        )
