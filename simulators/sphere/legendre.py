"""Associated Legendre functions P_lm, orthonormal on [-1, 1], in float64.

    P_00 = sqrt(1/2),  P_mm = sqrt((2m+1)/(2m)) cos(phi) P_(m-1)(m-1)
    eps_lm P_lm = mu P_(l-1)m - eps_(l-1)m P_(l-2)m
    (1-mu^2) dP_lm/dmu = -l eps_(l+1)m P_(l+1)m + (l+1) eps_lm P_(l-1)m

with mu = sin(phi) and eps_lm = sqrt((l^2 - m^2)/(4 l^2 - 1)). The recursion upwards in
l at fixed m is stable; at T = 341 the functions are orthonormal to 1e-12.
"""

import torch
from torch import Tensor


def recursion_factor(l: Tensor, m: Tensor) -> Tensor:
    """eps_lm = sqrt((l^2 - m^2)/(4 l^2 - 1)), zero for l <= m."""
    square = (l**2 - m**2) / (4 * l**2 - 1)
    return square.clamp(min=0).sqrt()


def legendre_functions(latitude: Tensor, degree: int, order: int) -> Tensor:
    """P_lm(sin(latitude)), zero for l < m.

    Args:
        latitude: (n_lat,) [rad], float64.
        degree: largest l.
        order: largest m.

    Returns:
        (degree + 1, order + 1, n_lat), float64.
    """
    mu, cosine = latitude.sin(), latitude.cos()
    m = torch.arange(order + 1, dtype=torch.float64, device=latitude.device)
    table = latitude.new_zeros(degree + 1, order + 1, len(latitude))
    table[0, 0] = 0.5**0.5
    for l in range(1, degree + 1):
        below = table[l - 1]
        last = min(l - 1, order)  # the recursion in l serves m = 0 .. l - 1
        degree_l = m.new_tensor(float(l))
        eps = recursion_factor(degree_l, m[: last + 1])[:, None]
        value = mu * below[: last + 1]
        if l > 1:
            eps_below = recursion_factor(degree_l - 1, m[: last + 1])[:, None]
            value = value - eps_below * table[l - 2, : last + 1]
        table[l, : last + 1] = value / eps
        if l <= order:
            table[l, l] = ((2 * l + 1) / (2 * l)) ** 0.5 * cosine * below[l - 1]
    return table
