"""The sphere: grids, spherical harmonic transforms, spectra, regridding."""

from simulators.sphere.grid import (
    Grid,
    check_dealiasing,
    equiangular_grid,
    gauss_grid,
    gauss_grid_for,
)
from simulators.sphere.harmonics import EARTH_RADIUS, SphericalHarmonics
from simulators.sphere.regridding import regrid_conservatively
from simulators.sphere.spectra import change_truncation, power_spectrum, without_mean

__all__ = [
    "EARTH_RADIUS",
    "Grid",
    "SphericalHarmonics",
    "change_truncation",
    "check_dealiasing",
    "equiangular_grid",
    "gauss_grid",
    "gauss_grid_for",
    "power_spectrum",
    "regrid_conservatively",
    "without_mean",
]
