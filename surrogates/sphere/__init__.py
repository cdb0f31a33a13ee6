"""Surrogates of flows on the sphere: networks, conservation, loss, training."""

from surrogates.sphere.conservation import (
    CHANNELS,
    area_weighted_squared_error,
    conserve,
)
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
    train_flow_network,
)
from surrogates.sphere.sfno import SphericalFourierOperator
from surrogates.sphere.unet import SphericalUNet

__all__ = [
    "CHANNELS",
    "FlowNetwork",
    "FlowScales",
    "FlowSchedule",
    "FlowShape",
    "SphericalFourierOperator",
    "SphericalUNet",
    "area_weighted_squared_error",
    "conserve",
    "flow_network_of",
    "flow_network_state",
    "flow_pairs",
    "measure_scales",
    "one_step_skill",
    "roll_out",
    "train_flow_network",
]
