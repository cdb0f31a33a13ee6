"""The sphere: grids, transforms, spectra, and time steps of any model on it."""

from simulators.sphere.diffusion import Diffusion
from simulators.sphere.grid import (
    Grid,
    check_dealiasing,
    equiangular_grid,
    gauss_grid,
    gauss_grid_for,
)
from simulators.sphere.harmonics import EARTH_RADIUS, SphericalHarmonics
from simulators.sphere.integration import IntegrationError, Snapshot, integrate
from simulators.sphere.model import SphereModel, StartError
from simulators.sphere.noise import RedNoise, start_noise
from simulators.sphere.propagation import Propagator
from simulators.sphere.regridding import regrid_conservatively
from simulators.sphere.spectra import change_truncation, power_spectrum, without_mean
from simulators.sphere.stepping import RungeKutta4, Scheme, SemiImplicit

__all__ = [
    "EARTH_RADIUS",
    "Diffusion",
    "Grid",
    "IntegrationError",
    "Propagator",
    "RedNoise",
    "RungeKutta4",
    "Scheme",
    "SemiImplicit",
    "Snapshot",
    "SphereModel",
    "SphericalHarmonics",
    "StartError",
    "change_truncation",
    "check_dealiasing",
    "equiangular_grid",
    "gauss_grid",
    "gauss_grid_for",
    "integrate",
    "power_spectrum",
    "regrid_conservatively",
    "start_noise",
    "without_mean",
]
