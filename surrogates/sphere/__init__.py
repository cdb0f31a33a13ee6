"""Surrogates of flows on the sphere: networks, one step of a flow, training."""

from surrogates.sphere.flow import (
    FlowNetwork,
    FlowScales,
    FlowShape,
    flow_network_of,
    flow_network_state,
    measure_scales,
    roll_out,
)
from surrogates.sphere.flow_training import (
    FlowSchedule,
    flow_pairs,
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
    "SphericalFourierOperator",
    "SphericalUNet",
    "corrected",
    "fit_linear_correction",
    "flow_network_of",
    "flow_network_state",
    "flow_pairs",
    "measure_scales",
    "one_step_skill",
    "relative_squared_error",
    "roll_out",
    "train_flow_network",
]
