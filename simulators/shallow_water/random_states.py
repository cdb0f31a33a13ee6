"""Random initial states whose height balances their wind.

The vorticity of a member is Gaussian with a given spectrum of kinetic energy; there is
no divergence. The geopotential solves the nonlinear balance equation, the divergence
equation without divergence and its change,

    Laplacian(Phi) = curl((zeta + f) V) - Laplacian(|V|^2/2),

so that gravity waves stay small. Form of the spectrum after Cho and Polvani (1996),
Phys. Fluids 8, 1531: E(l) ~ l^(g/2)/(l + l0)^g, with its peak at l0.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from simulators.shallow_water.equations import coriolis_coefficients
from simulators.shallow_water.state import State
from simulators.sphere import SphericalHarmonics, change_truncation

_STEEPNESS = 20.0  # g of the spectrum


def peaked_spectrum(wind: float, peak: int, highest: int) -> Tensor:
    """Kinetic energy per unit mass of degrees 0..`highest` [m2/s2], (highest + 1,).

    Args:
        wind: root mean square of the wind [m/s]; the energies sum to wind^2/2.
        peak: degree l0 with the most energy.
        highest: degree above which there is none.

    Raises:
        ValueError: if the peak is not within 1..highest.
    """
    if not 1 <= peak <= highest:
        raise ValueError(f"peak must be within 1..{highest} = highest; got {peak}.")
    l = torch.arange(highest + 1, dtype=torch.float64)
    # (l/l0)^(g/2)/(1 + l/l0)^g keeps the powers in range
    shape = (l / peak) ** (_STEEPNESS / 2) / (1 + l / peak) ** _STEEPNESS
    return wind**2 / 2 * shape / shape.sum()


def random_vorticity(
    transform: SphericalHarmonics,
    generators: Sequence[torch.Generator],
    energy: Tensor,
) -> Tensor:
    """Gaussian vorticity [1/s], (member, l, m), of the expected energy spectrum.

    A member has the same large scales at every truncation: as many numbers are drawn,
    on the CPU and from its own generator, as the spectrum has degrees.

    Args:
        transform: of the coefficients.
        generators: one per member.
        energy: kinetic energy of each degree [m2/s2], (degrees,), at most T + 1.

    Raises:
        ValueError: if the spectrum reaches beyond the truncation.
    """
    n = len(energy)
    if n > transform.truncation + 1:
        raise ValueError(
            f"the spectrum must end at the truncation {transform.truncation}; got "
            f"degrees up to {n - 1}."
        )
    draws = torch.stack(
        [torch.randn(n, n, 2, generator=g, dtype=torch.float64) for g in generators]
    )
    l = torch.arange(n, dtype=torch.float64)
    # a degree holds 2 l + 1 real numbers, and |zeta|^2 = l(l+1)/a^2 |V|^2
    square = 2 * energy.double() * l * (l + 1) / transform.radius**2
    scale = (2 * square / (2 * l + 1)).sqrt()[:, None]
    draws = draws * scale[..., None] / math.sqrt(2)
    draws[..., 0, :] *= torch.tensor(
        [math.sqrt(2), 0.0], dtype=torch.float64
    )  # m = 0: real
    vorticity = change_truncation(
        torch.view_as_complex(draws).tril(), transform.truncation
    )
    return vorticity.to(dtype=transform.dtype.to_complex(), device=transform.device)


def balanced_state(
    transform: SphericalHarmonics, vorticity: Tensor, mean_geopotential: float
) -> State:
    """The state of a vorticity (..., l, m), without divergence, in nonlinear balance.

    Args:
        transform: of the coefficients.
        vorticity: [1/s].
        mean_geopotential: area mean of g times the depth [m2/s2].

    Raises:
        ValueError: if the fluid would not cover the sphere.
    """
    divergence = torch.zeros_like(vorticity)
    u, v = transform.wind(vorticity, divergence)
    absolute = transform.synthesise(vorticity + coriolis_coefficients(transform))
    curl, _ = transform.vorticity_divergence(absolute * u, absolute * v)
    bernoulli = transform.analyse((u**2 + v**2) / 2)
    geopotential = transform.inverse_laplacian(curl) - bernoulli
    geopotential[..., 0, 0] = math.sqrt(2) * mean_geopotential
    lowest = float(transform.synthesise(geopotential).min())
    if not lowest > 0:
        raise ValueError(
            "the fluid must cover the sphere; the balanced geopotential falls to "
            f"{lowest:.4g} m2/s2 at a mean of {mean_geopotential:.4g}. Raise the mean "
            "or lower the wind."
        )
    return State(vorticity, divergence, geopotential)
