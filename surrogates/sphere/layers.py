"""Layers that the networks on the sphere share."""

import torch
from torch import Tensor, nn

from simulators.sphere import Grid


def convolution(
    in_channels: int,
    out_channels: int,
    kernel: int,
    generator: torch.Generator,
    gain: float = 1.0,
) -> nn.Conv2d:
    """Unpadded convolution; weights N(0, gain²/fan_in) of the generator, zero bias.

    Args:
        in_channels: of the fields (batch, in_channels, lat, lon).
        out_channels: of the result.
        kernel: points along each side.
        generator: on the CPU.
        gain: 1 keeps the variance of a white input, √2 also that through a ReLU.
    """
    # built without storage: its own initialisation would draw from the global generator
    layer = nn.Conv2d(in_channels, out_channels, kernel, device="meta")
    layer.to_empty(device="cpu")
    scale = gain / (in_channels * kernel**2) ** 0.5
    with torch.no_grad():
        layer.weight.normal_(0, scale, generator=generator)
    layer.bias = nn.Parameter(torch.zeros(out_channels))
    return layer


class LatitudeChannel(nn.Module):
    """Appends sin(latitude), which the Coriolis parameter 2Ω sin(φ) is made of.

    (batch, channels, lat, lon) to (batch, channels + 1, lat, lon).

    Raises:
        ValueError: if the fields do not lie on the grid.
    """

    sine: Tensor

    def __init__(self, grid: Grid) -> None:
        super().__init__()
        # belongs to the grid: weights may be loaded into a network on another one
        sine = grid.latitude.sin()[:, None].float()
        self.register_buffer("sine", sine, persistent=False)
        self.grid = grid

    def forward(self, fields: Tensor) -> Tensor:
        """Fields with the channel."""
        if fields.shape[2:] != self.grid.shape:
            raise ValueError(
                "fields must be (batch, channels, lat, lon) on the network's grid, "
                f"{' x '.join(map(str, self.grid.shape))}; got {tuple(fields.shape)}."
            )
        sine = self.sine.to(fields).expand(len(fields), 1, *self.grid.shape)
        return torch.cat((fields, sine), dim=1)
