"""What every flow of shallow water conserves, imposed on predictions, and their loss.

The area mean of the fluid's geopotential is its mass and never changes; vorticity and
divergence are a curl and a divergence, whose area means vanish on the sphere. Uniform
shifts are the smallest changes, in the area-weighted L2 norm, that restore this.
"""

import torch
from torch import Tensor

from simulators.sphere import Grid

CHANNELS = ("vorticity", "divergence", "geopotential")  # [1/s], [1/s], [m²/s²]


def conserve(prediction: Tensor, state: Tensor, grid: Grid) -> Tensor:
    """The prediction, shifted to the mass of the state and no mean curl or divergence.

    Args:
        prediction: (..., 3, lat, lon) in the order of `CHANNELS`; geopotential of the
            fluid's depth, mountains not counted. Units are free, but the same as those
            of `state`, and zero must stay zero.
        state: the input of the prediction, of the same shape; in a rollout its first
            state, lest the rounding of many steps add up.
        grid: of both.

    Returns:
        With the shape and dtype of `prediction`; means hold to its rounding.

    Raises:
        ValueError: if the shapes differ or are not those of the channels on the grid.
    """
    expected = (len(CHANNELS), *grid.shape)
    if prediction.shape != state.shape or prediction.shape[-3:] != expected:
        raise ValueError(
            f"prediction and state must both be (..., {', '.join(map(str, expected))})"
            f"; got {tuple(prediction.shape)} and {tuple(state.shape)}."
        )
    mass = grid.area_mean(state[..., 2:, :, :])
    target = torch.cat((mass.new_zeros(*mass.shape[:-1], 2), mass), dim=-1)
    # the difference of means in float64: it is far smaller than a mean geopotential
    shift = target - grid.area_mean(prediction)  # (..., 3)
    return prediction + shift[..., None, None].to(prediction.dtype)


def area_weighted_squared_error(
    prediction: Tensor, target: Tensor, grid: Grid
) -> Tensor:
    """Mean over leading dimensions of the area mean of (prediction - target)².

    Args:
        prediction: (..., lat, lon), in units that make channels comparable.
        target: of the same shape.
        grid: of both; its weights are those of the area mean.

    Returns:
        Scalar, float64.

    Raises:
        ValueError: if the shapes differ, which would broadcast silently.
    """
    if prediction.shape != target.shape:
        raise ValueError(
            "prediction and target must have one shape; got "
            f"{tuple(prediction.shape)} and {tuple(target.shape)}."
        )
    return grid.area_mean((prediction - target) ** 2).mean()
