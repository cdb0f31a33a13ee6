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

FORMAT = 1  # of `network_state`; raised when its content changes
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


@dataclass(frozen=True, slots=True, eq=False)
class NetworkConstants:
    """What a network takes from the linear prediction and the mean field, float32.

    Attributes:
        mean_field: (n,) [ln(m²/d)].
        mean_head: (n,) [m].
        matrix: of the linear prediction (n, n) [m].
        mean_diagonal: of the flow operator of the mean field (n,) [m²/d].
        coarse_modes: V diag(λ)^(-1/2) (n, n_coarse), see `network_constants`.
        log_transmissivity_scale: [-].
        head_scale_m: [m].
    """

    mean_field: Tensor
    mean_head: Tensor
    matrix: Tensor
    mean_diagonal: Tensor
    coarse_modes: Tensor
    log_transmissivity_scale: float
    head_scale_m: float


def network_constants(
    mesh: FlowMesh, skip: LinearSkip, n_coarse: int
) -> NetworkConstants:
    """Constants of a network with `n_coarse` coarse modes.

    With the flow operator A of the mean field and its diagonal D, the modes V are the
    smoothest eigenvectors of D^(-1/2) A D^(-1/2), λ their eigenvalues; then
    r → D^(-1/2) V λ⁻¹ V' D^(-1/2) r solves A exactly in their span.
    """
    mean = flow_operator(mesh, skip.mean_log_transmissivity.double())
    matrix = mean.apply(torch.eye(mesh.n_cells, dtype=torch.float64))
    root = mean.diagonal.rsqrt()
    values, vectors = torch.linalg.eigh(root[:, None] * matrix * root)
    modes = vectors[:, :n_coarse] * values[:n_coarse].rsqrt()
    return NetworkConstants(
        mean_field=skip.mean_log_transmissivity.float(),
        mean_head=skip.mean_head.float(),
        matrix=skip.matrix.float(),
        mean_diagonal=mean.diagonal.float(),
        coarse_modes=modes.float(),
        log_transmissivity_scale=skip.log_transmissivity_scale,
        head_scale_m=skip.head_scale_m,
    )


class HeadNetwork(nn.Module):
    """Head (batch, n) [m] from log-transmissivity (batch, n), in its weights' dtype.

    Heads at head faces and inflows are those of `forcing`, the same for all members.

    Raises:
        ValueError: the mesh has cells of fixed head, which the steps do not know.
    """

    mean_field: Tensor
    mean_head: Tensor
    matrix: Tensor
    mean_diagonal: Tensor
    coarse_modes: Tensor

    def __init__(
        self,
        mesh: FlowMesh,
        forcing: Forcing,
        constants: NetworkConstants,
        shape: NetworkShape,
    ) -> None:
        super().__init__()
        if len(mesh.fixed_cell):
            raise ValueError(
                "the network takes fixed heads at faces, not in cells; got "
                f"{len(mesh.fixed_cell)} fixed cells."
            )
        self.mesh, self.forcing = mesh, forcing
        self.constants, self.shape = constants, shape
        for field in fields(NetworkConstants):
            constant = getattr(constants, field.name)
            if isinstance(constant, Tensor):
                self.register_buffer(field.name, constant, persistent=False)
        self.encoder = nn.Linear(3, shape.width)
        self.steps = nn.ModuleList(
            _Step(shape.width, constants.head_scale_m) for _ in range(shape.n_steps)
        )

    def forward(self, log_transmissivity: Tensor) -> Tensor:
        """Head (batch, n) [m] of a batch of fields (batch, n)."""
        field = log_transmissivity.to(self.encoder.weight.dtype)
        operator = flow_operator(self.mesh, field)
        deviation = field - self.mean_field
        head = self.mean_head + deviation @ self.matrix
        features = (
            deviation / self.constants.log_transmissivity_scale,
            (operator.diagonal / self.mean_diagonal).log(),
            (head - self.mean_head) / self.constants.head_scale_m,
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


def network_state(network: HeadNetwork) -> dict[str, Any]:
    """All that is needed to use the network again, as tensors and plain values."""
    return {
        "format": FORMAT,
        "mesh": {f.name: getattr(network.mesh, f.name) for f in fields(FlowMesh)},
        "forcing": {f.name: getattr(network.forcing, f.name) for f in fields(Forcing)},
        "constants": {
            f.name: getattr(network.constants, f.name) for f in fields(NetworkConstants)
        },
        "shape": asdict(network.shape),
        "parameters": network.state_dict(),
        "units": {"log_transmissivity": "ln(m2/d)", "head": "m"},
    }


def network_from_state(state: Mapping[str, Any]) -> HeadNetwork:
    """The network that `network_state` described.

    Raises:
        ValueError: the description has another format.
    """
    if state.get("format") != FORMAT:
        raise ValueError(
            f"a network's description must have format {FORMAT}; got "
            f"{state.get('format')}. Train it again with this version."
        )
    network = HeadNetwork(
        FlowMesh(**state["mesh"]),
        Forcing(**state["forcing"]),
        NetworkConstants(**state["constants"]),
        NetworkShape(**state["shape"]),
    )
    network.load_state_dict(state["parameters"])
    return network
