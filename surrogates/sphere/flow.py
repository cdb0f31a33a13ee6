"""A network that carries a shallow-water flow ahead by one interval.

    x(t + D) = B x(t) + R N(x(t), B x(t))

x are spectral coefficients of vorticity, divergence and geopotential, N is a network on
their grid fields in units of their deviation. B is what is known without learning:
vorticity that moves with the wind, or a coarse solver; the network learns the rest. R
brings its output to the size of what it learns, cuts it at the truncation, and leaves
out l = 0: mean vorticity and divergence stay zero, and mass stays that of the first
state to the bit.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from simulators.sphere import SphericalHarmonics, without_mean
from surrogates.sphere.sfno import SphericalFourierOperator
from surrogates.sphere.unet import SphericalUNet

CHANNELS = 3  # vorticity [1/s], divergence [1/s], geopotential of the depth [m2/s2]
Advance = Callable[[Tensor], Tensor]  # coefficients (batch, 3, l, m) an interval later
AT_ONCE = 64  # states that a model carries ahead
FIRST_GAIN = 0.01  # of the output layer: at first the network is nearly its base


@dataclass(frozen=True, slots=True)
class FlowShape:
    """What the network is, apart from its weights and the model below it.

    Attributes:
        network: `sfno` (spherical Fourier operator) or `unet`.
        width: channels within.
        depth: blocks of the operator, levels of the U-Net.
        interval_s: D [s].
        base: B, `advection` of vorticity or a `solver`.
    """

    network: Literal["sfno", "unet"]
    width: int
    depth: int
    interval_s: float
    base: Literal["advection", "solver"]


@dataclass(frozen=True, slots=True, eq=False)
class FlowScales:
    """Sizes of what goes in and comes out, per channel, (3,), in the channels' units.

    Attributes:
        mean: area mean of the fields.
        deviation: of the fields from it, root mean square.
        residual: root mean square of x(t + D) - B x(t).
    """

    mean: Tensor
    deviation: Tensor
    residual: Tensor


def pairs_of(flows: Tensor) -> tuple[Tensor, Tensor]:
    """x(t) and x(t + D), each (pairs, 3, l, m), of flows (members, times, 3, l, m)."""
    return flows[:, :-1].flatten(0, 1), flows[:, 1:].flatten(0, 1)


def carry_ahead(advance: Advance, states: Tensor) -> Tensor:
    """What a model makes of states (n, 3, l, m), some at a time."""
    return torch.cat([advance(part) for part in torch.split(states, AT_ONCE)])


def measure_scales(
    harmonics: SphericalHarmonics, before: Tensor, base: Tensor, after: Tensor
) -> FlowScales:
    """The scales of pairs of states, measured on the grid.

    Args:
        harmonics: of the coefficients.
        before: x(t), (pairs, 3, l, m).
        base: B x(t), likewise.
        after: x(t + D), likewise.

    Raises:
        ValueError: if nothing is left to learn in a channel.
    """
    # P_00 = sqrt(1/2): a constant k has the coefficient sqrt(2) k
    mean = before[..., 0, 0].real.mean(0) / math.sqrt(2)
    around = before.clone()
    around[..., 0, 0] -= math.sqrt(2) * mean
    deviation, residual = (_size(harmonics, x) for x in (around, after - base))
    if not bool((torch.stack((deviation, residual)) > 0).all()):
        raise ValueError(
            "fields and their changes must vary in every channel; got deviations "
            f"{deviation.tolist()} and changes {residual.tolist()}."
        )
    return FlowScales(mean.float(), deviation.float(), residual.float())


def _size(harmonics: SphericalHarmonics, coefficients: Tensor) -> Tensor:
    """Root mean square (3,) of fields (pairs, 3, l, m)."""
    fields = (harmonics.synthesise(part) for part in torch.split(coefficients, AT_ONCE))
    squares = [harmonics.grid.area_mean(field**2) for field in fields]
    return torch.cat(squares).mean(0).sqrt()


class FlowNetwork(nn.Module):
    """One step of a flow, on coefficients (batch, 3, l, m) of its harmonics.

    Args:
        harmonics: float32; sets grid and truncation.
        shape: of the network.
        scales: of what it learns.
        base: B.
        generator: of the initial weights, on the CPU.
    """

    mean: Tensor
    deviation: Tensor
    residual: Tensor

    def __init__(
        self,
        harmonics: SphericalHarmonics,
        shape: FlowShape,
        scales: FlowScales,
        base: Advance,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.harmonics, self.shape, self.base = harmonics, shape, base
        for name in ("mean", "deviation", "residual"):
            scale = getattr(scales, name)[:, None, None]
            self.register_buffer(name, scale.to(harmonics.device))
        n_in, n_out = 2 * CHANNELS, CHANNELS
        if shape.network == "sfno":
            self.network: nn.Module = SphericalFourierOperator(
                harmonics, n_in, n_out, shape.width, shape.depth, generator
            )
        else:
            self.network = SphericalUNet(
                harmonics.grid, n_in, n_out, shape.width, shape.depth, generator
            )
        with torch.no_grad():
            self.network.decoder.weight.mul_(FIRST_GAIN)
        self.network.to(harmonics.device)

    def output(self, state: Tensor, base: Tensor) -> Tensor:
        """N: fields (batch, 3, lat, lon) in units of the residual."""
        fields = [
            (self.harmonics.synthesise(x) - self.mean) / self.deviation
            for x in (state, base)
        ]
        result: Tensor = self.network(torch.cat(fields, dim=1))
        return result

    def target(self, base: Tensor, after: Tensor) -> Tensor:
        """What the output should be, without its area mean."""
        return self.harmonics.synthesise(without_mean(after - base)) / self.residual

    def change(self, output: Tensor) -> Tensor:
        """R N: what an output adds to the base, coefficients."""
        return without_mean(self.harmonics.analyse(output * self.residual))

    def forward(self, state: Tensor) -> Tensor:
        """Coefficients an interval later."""
        base = self.base(state)
        return base + self.change(self.output(state, base))


def flow_network_state(network: FlowNetwork) -> dict[str, Any]:
    """Tensors and plain values from which `flow_network_of` builds it again."""
    return {
        "shape": asdict(network.shape),
        "grid": list(network.harmonics.grid.shape),
        "truncation": network.harmonics.truncation,
        "weights": network.state_dict(),
    }


def flow_network_of(
    state: Mapping[str, Any], harmonics: SphericalHarmonics, base: Advance
) -> FlowNetwork:
    """The network of a checkpoint, for flows on the same grid, above its base.

    Raises:
        ValueError: if it was trained on another grid or truncation.
    """
    here = [list(harmonics.grid.shape), harmonics.truncation]
    if [state["grid"], state["truncation"]] != here:
        raise ValueError(
            f"a checkpoint must be of the grid {here[0]} at truncation {here[1]}; it "
            f"is of {state['grid']} at {state['truncation']}. Train a network for this "
            "grid, or regrid the flows."
        )
    weights = state["weights"]
    scales = {n: weights[n].flatten() for n in ("mean", "deviation", "residual")}
    network = FlowNetwork(
        harmonics,
        FlowShape(**state["shape"]),
        FlowScales(**scales),
        base,
        torch.Generator(),
    )
    network.load_state_dict(weights)
    return network


def roll_out(advance: Advance, first: Tensor, n_steps: int) -> Tensor:
    """Flows (members, n_steps + 1, 3, l, m) of a model, from the first states.

    A member that the model cannot follow is NaN from then on.
    """
    states = [first]
    with torch.no_grad():
        for _ in range(n_steps):
            states.append(advance(states[-1]))
    return torch.stack(states, dim=1)
