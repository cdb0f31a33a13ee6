"""Surrogates of flows on the sphere: networks, conservation, loss."""

from surrogates.sphere.conservation import (
    CHANNELS,
    area_weighted_squared_error,
    conserve,
)
from surrogates.sphere.sfno import SphericalFourierOperator
from surrogates.sphere.unet import SphericalUNet

__all__ = [
    "CHANNELS",
    "SphericalFourierOperator",
    "SphericalUNet",
    "area_weighted_squared_error",
    "conserve",
]
