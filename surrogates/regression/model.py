"""A network from log-transmissivity to head that works with the mesh's own operator.

It starts from the ridge prediction h₀ and takes a few learned steps h ← h + α p towards
A(Y) h = b, the discrete flow equations of the mesh. The direction p sums a diagonal and
a coarse correction of the residual r = b - A h, both weighted cell by cell by a small
network; α = (p·r)/(p·Ap) minimises the discrete energy along p. The coarse correction
solves the symmetrically scaled equations of the mean field in the span of their
smoothest modes. A plain network does not beat ridge regression on the same members:
what helps is that the residual tells where a head field is still wrong.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from simulators.subsurface import FlowMesh, Forcing
from simulators.subsurface.operator import FlowOperator, flow_operator, forcing_load

MAX_LOG_WEIGHT = 3.0  # e³ in a residual weight is ample, and keeps float32 steps finite


@dataclass(frozen=True, slots=True)
class NetworkShape:
    """Size: number of steps, channels per cell, modes of the coarse correction."""

    n_steps: int = 3
    width: int = 16
    n_coarse: int = 128


@dataclass(frozen=True, slots=True, eq=False)
class LinearSkip:
    """Linear prediction h ≈ mean_head + (Y - mean_log_transmissivity) M, and scales.

    Attributes:
        mean_log_transmissivity: (n,) [ln(m²/d)].
        mean_head: (n,) [m].
        matrix: M (n, n) [m].
        log_transmissivity_scale: root mean square of Y - mean, over cells [-].
        head_scale_m: root mean square of head - mean, over cells [m].
    """

    mean_log_transmissivity: Tensor
    mean_head: Tensor
    matrix: Tensor
    log_transmissivity_scale: float
    head_scale_m: float


class HeadNetwork(nn.Module):
    """Head (batch, n) [m] from log-transmissivity (batch, n), in its weights' dtype.

    Heads at head faces and inflows are those of `forcing`, the same for all members.

    Raises:
        ValueError: the mesh has cells of fixed head, which the steps do not know.
    """

    coarse_modes: Tensor  # (n, n_coarse)
    mean_diagonal: Tensor  # (n,)
    mean_field: Tensor  # (n,)
    mean_head: Tensor  # (n,)
    matrix: Tensor  # (n, n)

    def __init__(
        self, mesh: FlowMesh, forcing: Forcing, skip: LinearSkip, shape: NetworkShape
    ) -> None:
        super().__init__()
        if len(mesh.fixed_cell):
            raise ValueError(
                "the network takes fixed heads at faces, not in cells; got "
                f"{len(mesh.fixed_cell)} fixed cells."
            )
        self.mesh, self.forcing, self.skip, self.shape = mesh, forcing, skip, shape
        mean_operator = flow_operator(mesh, skip.mean_log_transmissivity.double())
        constants = {
            "coarse_modes": _coarse_modes(mesh, mean_operator, shape.n_coarse),
            "mean_diagonal": mean_operator.diagonal,
            "mean_field": skip.mean_log_transmissivity,
            "mean_head": skip.mean_head,
            "matrix": skip.matrix,
        }
        for name, constant in constants.items():
            self.register_buffer(name, constant.float(), persistent=False)
        self.encoder = nn.Linear(3, shape.width)
        self.steps = nn.ModuleList(
            _Step(shape.width, skip.head_scale_m) for _ in range(shape.n_steps)
        )

    def forward(self, log_transmissivity: Tensor) -> Tensor:
        """Head (batch, n) [m] of a batch of fields (batch, n)."""
        field = log_transmissivity.to(self.encoder.weight.dtype)
        operator = flow_operator(self.mesh, field)
        deviation = field - self.mean_field
        head = self.mean_head + deviation @ self.matrix
        features = (
            deviation / self.skip.log_transmissivity_scale,
            (operator.diagonal / self.mean_diagonal).log(),
            (head - self.mean_head) / self.skip.head_scale_m,
        )
        state = self.encoder(torch.stack(features, dim=-1))  # (batch, n, width)
        residual = forcing_load(self.mesh, operator, self.forcing) - operator.apply(
            head
        )
        move = torch.zeros_like(head)
        for step in self.steps:
            inputs = (move, head - self.mean_head)
            state, direction = step(
                state, residual, operator, self.coarse_modes, inputs
            )
            image = operator.apply(direction)
            length = _energy_step(direction, residual, image)
            move = length * direction
            head, residual = head + move, residual - length * image
        return head


class _Step(nn.Module):
    """One learned direction from the residual; starts as the unweighted corrections."""

    def __init__(self, width: int, head_scale_m: float) -> None:
        super().__init__()
        self.head_scale_m = head_scale_m
        self.read = nn.Linear(width + 4, width)
        self.weigh = nn.Linear(width, 1)
        self.revise = nn.Linear(width + 2, width)
        self.direct = nn.Linear(width, 3)
        for layer in (self.weigh, self.direct):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(
        self,
        state: Tensor,
        residual: Tensor,
        operator: FlowOperator,
        coarse_modes: Tensor,
        inputs: tuple[Tensor, Tensor],
    ) -> tuple[Tensor, Tensor]:
        """New state (batch, n, width) and direction (batch, n) [m]."""
        root = operator.diagonal.rsqrt()
        scaled = residual * root
        fine = root * scaled

        def coarse(weight: Tensor | float) -> Tensor:
            solved = ((weight * scaled) @ coarse_modes) @ coarse_modes.mT
            return root * weight * solved

        state = self._update(state, self.read, (fine, coarse(1.0), *inputs))
        weight = self.weigh(state)[..., 0].clamp(-MAX_LOG_WEIGHT, MAX_LOG_WEIGHT).exp()
        smooth = coarse(weight)
        state = self._update(state, self.revise, (smooth, fine))
        on_smooth, on_fine, free = self.direct(state).unbind(-1)
        direction = (1 + on_smooth) * smooth + (1 + on_fine) * fine
        return state, direction + 0.1 * self.head_scale_m * free

    def _update(
        self, state: Tensor, layer: nn.Module, heads: tuple[Tensor, ...]
    ) -> Tensor:
        features = torch.stack(heads, dim=-1) / self.head_scale_m
        grown: Tensor = layer(torch.cat([state, features], dim=-1))
        return state + nn.functional.silu(grown)


def _energy_step(direction: Tensor, residual: Tensor, image: Tensor) -> Tensor:
    """α = (p·r)/(p·Ap) per member (batch, 1), safe where the residual is zero."""
    curvature = (direction * image).sum(-1, keepdim=True)
    gain = (direction * residual).sum(-1, keepdim=True)
    return gain / curvature.clamp(min=torch.finfo(curvature.dtype).tiny)


def _coarse_modes(mesh: FlowMesh, mean: FlowOperator, n_coarse: int) -> Tensor:
    """V diag(λ)^(-1/2) (n, n_coarse) of the scaled operator D^(-1/2) A D^(-1/2).

    The smoothest modes: r → D^(-1/2) V λ⁻¹ V' D^(-1/2) r solves A for them exactly.
    """
    matrix = mean.apply(torch.eye(mesh.n_cells, dtype=torch.float64))
    root = mean.diagonal.rsqrt()
    values, vectors = torch.linalg.eigh(root[:, None] * matrix * root)
    modes: Tensor = vectors[:, :n_coarse] * values[:n_coarse].rsqrt()
    return modes


def network_state(network: HeadNetwork) -> dict[str, Any]:
    """All that is needed to use the network again, as tensors and plain values."""
    return {
        "mesh": {f.name: getattr(network.mesh, f.name) for f in fields(FlowMesh)},
        "forcing": {f.name: getattr(network.forcing, f.name) for f in fields(Forcing)},
        "skip": {f.name: getattr(network.skip, f.name) for f in fields(LinearSkip)},
        "shape": asdict(network.shape),
        "parameters": network.state_dict(),
        "units": {"log_transmissivity": "ln(m2/d)", "head": "m"},
    }


def network_from_state(state: Mapping[str, Any]) -> HeadNetwork:
    """The network that `network_state` described."""
    network = HeadNetwork(
        FlowMesh(**state["mesh"]),
        Forcing(**state["forcing"]),
        LinearSkip(**state["skip"]),
        NetworkShape(**state["shape"]),
    )
    network.load_state_dict(state["parameters"])
    return network
