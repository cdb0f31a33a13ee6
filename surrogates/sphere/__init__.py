"""Surrogates of flows on the sphere: networks, what they add to, training."""

from surrogates.sphere.advection import PotentialVorticityAdvection
from surrogates.sphere.flow import (
    FlowNetwork,
    FlowScales,
    FlowShape,
    carry_ahead,
    flow_network_of,
    flow_network_state,
    measure_scales,
    pairs_of,
    roll_out,
)
from surrogates.sphere.flow_training import (
    FlowSchedule,
    one_step_skill,
    relative_squared_error,
    train_flow_network,
)
from surrogates.sphere.linear_correction import (
    LinearCorrection,
    corrected,
    fit_linear_correction,
)
from surrogates.sphere.sfno import SphericalFourierOperator
from surrogates.sphere.unet import SphericalUNet

__all__ = [
    "FlowNetwork",
    "FlowScales",
    "FlowSchedule",
    "FlowShape",
    "LinearCorrection",
    "PotentialVorticityAdvection",
    "SphericalFourierOperator",
    "SphericalUNet",
    "carry_ahead",
    "corrected",
    "fit_linear_correction",
    "flow_network_of",
    "flow_network_state",
    "measure_scales",
    "one_step_skill",
    "pairs_of",
    "relative_squared_error",
    "roll_out",
    "train_flow_network",
]
