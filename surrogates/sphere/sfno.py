"""Spherical Fourier neural operator on this project's own harmonic transform.

Blocks x ← x + MLP(K x + W x), where W acts on the channels of every point and K is a
spectral convolution, (K x)_lm = K_l x_lm: one matrix between channels per degree l,
the same for all orders m. Form after Bonev et al. (2023), arXiv:2306.03838.
"""

import torch
from torch import Tensor, nn

from simulators.sphere import SphericalHarmonics
from surrogates.sphere.layers import LatitudeChannel, convolution


class SpectralConvolution(nn.Module):
    """(K x)_lm = K_l x_lm with complex matrices K_l (out, in) for m ≥ 0.

    Real parts of K_l commute with all rotations. Imaginary parts shift each zonal wave
    by a quarter of its length, and so commute with rotations about the polar axis only:
    the symmetry of a rotating sphere, on which waves travel east or west. Degrees above
    the truncation of the transform are dropped.

    Args:
        harmonics: sets the grid, the truncation, the dtype and the device of fields.
        in_channels: of the fields (batch, in_channels, lat, lon).
        out_channels: of the result (batch, out_channels, lat, lon).
        generator: of the weights, on the CPU.
    """

    def __init__(
        self,
        harmonics: SphericalHarmonics,
        in_channels: int,
        out_channels: int,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.harmonics = harmonics
        # pairs of reals: casts, optimisers and collectives need not know complex ones
        shape = (harmonics.truncation + 1, out_channels, in_channels, 2)
        scale = (2 * in_channels) ** -0.5  # keeps the variance of a white input
        self.weight = nn.Parameter(torch.randn(shape, generator=generator) * scale)

    def forward(self, fields: Tensor) -> Tensor:
        """Fields (batch, out_channels, lat, lon)."""
        coefficients = self.harmonics.analyse(fields)
        weight = torch.view_as_complex(self.weight)
        # the synthesis ignores what becomes imaginary at m = 0
        mixed = torch.einsum("loi,bilm->bolm", weight, coefficients)
        return self.harmonics.synthesise(mixed)


class SphericalFourierOperator(nn.Module):
    """Network from fields (batch, in_channels, lat, lon) to (batch, out_channels, ...).

    It knows the latitude through an own input channel sin(φ). A rotation of the input
    about the polar axis rotates the output. Weights do not depend on the grid: those of
    one truncation load into a network on any grid that holds it. All are float32 on the
    CPU at first; `.to(...)` must match the dtype and the device of the transform.

    Args:
        harmonics: sets the grid and the truncation, which may be below the grid's.
        in_channels: of the input, sin(φ) not counted.
        out_channels: of the output.
        width: channels within.
        n_blocks: number of blocks.
        generator: of the initial weights, on the CPU.
    """

    def __init__(
        self,
        harmonics: SphericalHarmonics,
        in_channels: int,
        out_channels: int,
        width: int,
        n_blocks: int,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.latitude = LatitudeChannel(harmonics.grid)
        self.encoder = convolution(in_channels + 1, width, 1, generator)
        self.blocks = nn.Sequential(
            *(_Block(harmonics, width, generator) for _ in range(n_blocks))
        )
        self.decoder = convolution(width, out_channels, 1, generator)

    def forward(self, fields: Tensor) -> Tensor:
        """Output fields.

        Raises:
            ValueError: if the fields do not lie on the grid of the transform.
            TypeError: if their dtype is not that of the transform.
        """
        result: Tensor = self.decoder(self.blocks(self.encoder(self.latitude(fields))))
        return result


class _Block(nn.Module):
    """x + MLP(K x + W x), the MLP at each point with twice the width inside."""

    def __init__(
        self, harmonics: SphericalHarmonics, width: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.spectral = SpectralConvolution(harmonics, width, width, generator)
        self.pointwise = convolution(width, width, 1, generator)
        self.mlp = nn.Sequential(
            nn.GELU(),
            convolution(width, 2 * width, 1, generator),
            nn.GELU(),
            convolution(2 * width, width, 1, generator),
        )

    def forward(self, fields: Tensor) -> Tensor:
        change: Tensor = self.mlp(self.spectral(fields) + self.pointwise(fields))
        return fields + change
