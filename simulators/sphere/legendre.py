"""Associated Legendre functions P_lm, orthonormal on [-1, 1], in float64.

    P_00 = sqrt(1/2),  P_mm = sqrt((2m+1)/(2m)) cos(phi) P_(m-1)(m-1)
    eps_lm P_lm = mu P_(l-1)m - eps_(l-1)m P_(l-2)m
    (1-mu^2) dP_lm/dmu = -l eps_(l+1)m P_(l+1)m + (l+1) eps_lm P_(l-1)m

with mu = sin(phi) and eps_lm = sqrt((l^2 - m^2)/(4 l^2 - 1)). The recursion upwards in
l at fixed m is stable, but float64 would lose two digits next to the poles at T85: it
runs in extended precision where the platform has that, and the result is rounded.
"""

import numpy as np
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
    angle = latitude.cpu().numpy().astype(np.longdouble)
    mu, cosine = np.sin(angle), np.cos(angle)
    orders = np.arange(order + 1, dtype=np.longdouble)[:, None]
    table = np.zeros((degree + 1, order + 1, len(angle)))
    below, value = np.zeros((2, order + 1, len(angle)), np.longdouble)
    value[0] = np.sqrt(np.longdouble(0.5))
    table[0] = value
    for l in range(1, degree + 1):
        m = orders[:l]  # the recursion in l serves m = 0 .. l - 1
        eps, eps_below = (np.sqrt((k**2 - m**2) / (4 * k**2 - 1)) for k in (l, l - 1))
        later = np.zeros_like(value)
        later[:l] = (mu * value[:l] - eps_below * below[:l]) / eps
        if l <= order:
            later[l] = np.sqrt(1 + 1 / np.longdouble(2 * l)) * cosine * value[l - 1]
        below, value = value, later
        table[l] = value
    return torch.from_numpy(table).to(latitude.device)
