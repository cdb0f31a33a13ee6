"""Power spectra and changes of triangular truncation of spherical harmonics."""

import torch
from torch import Tensor


def power_spectrum(coefficients: Tensor) -> Tensor:
    """Share of each total wavenumber l in the area mean of the squared field.

    (1/2) (|c_l0|^2 + 2 sum_{m=1}^{l} |c_lm|^2), which sums to the area mean of f^2.

    Args:
        coefficients: (..., T+1 (l), T+1 (m)), complex, of any unit.

    Returns:
        (..., T+1), real, in the square of that unit.
    """
    triangle = coefficients.tril()
    power = triangle.real**2 + triangle.imag**2
    return power.sum(dim=-1) - power[..., 0] / 2


def change_truncation(coefficients: Tensor, truncation: int) -> Tensor:
    """Coefficients (..., T'+1, T'+1) cut, or padded with zeros, to the truncation T'.

    Raises:
        ValueError: if the truncation is negative.
    """
    if truncation < 0:
        raise ValueError(f"truncation must be at least 0; got {truncation}.")
    kept = min(truncation + 1, coefficients.shape[-1])
    result = coefficients.new_zeros(
        *coefficients.shape[:-2], truncation + 1, truncation + 1
    )
    result[..., :kept, :kept] = coefficients[..., :kept, :kept]
    return result


def without_mean(coefficients: Tensor) -> Tensor:
    """Coefficients (..., l, m) of a field less its area mean; differentiable."""
    first = torch.zeros_like(coefficients)
    first[..., 0, 0] = 1
    return coefficients * (1 - first)
