"""Heads of generated transmissivities: by the flow solver, or by a network.

`SolverHead` solves the discrete equations inside the generator, so that every pair of
fields is consistent by construction. `NetworkHead` learns the map; what it misses of
the equations is measured, and may be penalised, by `scaled_residual`.
"""

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor, nn

from simulators.random_fields import KarhunenLoeve
from simulators.subsurface import FlowMesh, FlowSolver, Forcing
from simulators.subsurface.operator import flow_operator, forcing_load
from surrogates.pigan.generators import perceptron
from surrogates.pigan.sensors import Fields

LOG_TRANSMISSIVITY = "log_transmissivity"
SOURCE = "source"
HEAD = "hydraulic_head"


class SolverHead(nn.Module):
    """Heads (members, cells) [m] by the differentiable finite-volume solve, float64.

    Reads `log_transmissivity` and, where the generator makes it, `source` [m³/d].
    """

    def __init__(self, mesh: FlowMesh, forcing: Forcing) -> None:
        super().__init__()
        self.mesh, self.forcing, self.solver = mesh, forcing, FlowSolver(mesh)

    def forward(self, inputs: Fields) -> Tensor:
        """Heads of generated inputs."""
        forcing = self.forcing
        if SOURCE in inputs:
            forcing = replace(forcing, source=inputs[SOURCE].double())
        return self.solver.solve(inputs[LOG_TRANSMISSIVITY].double(), forcing)


@dataclass(frozen=True, slots=True, eq=False)
class HeadBasis:
    """What a network head is made of, n cells.

    Attributes:
        mean_log_transmissivity: m (n,) [ln(m²/d)].
        projector: P (n, k), scaled coordinates of ln T are (Y - m) P.
        mean_head: h₀ (n,) [m].
        skip: G' (n, n) [m], or None: linear part of the head, (Y - m) G'.
        basis: B (n_modes, n) [m], what the network's output multiplies.
    """

    mean_log_transmissivity: Tensor
    projector: Tensor
    mean_head: Tensor
    skip: Tensor | None
    basis: Tensor


class NetworkHead(nn.Module):
    """Heads h = h₀ + (Y - m) G' + MLP((Y - m) P) B (members, cells) [m].

    Args:
        basis: the constants of the map.
        width: of the two hidden layers.
        seed: of the initial weights.
    """

    mean_log_transmissivity: Tensor
    projector: Tensor
    mean_head: Tensor
    skip: Tensor | None
    basis: Tensor

    def __init__(self, basis: HeadBasis, width: int, seed: int = 0) -> None:
        super().__init__()
        self.constants, self.width = basis, width
        for field in fields(HeadBasis):
            constant = getattr(basis, field.name)
            constant = constant if constant is None else constant.float()
            self.register_buffer(field.name, constant, persistent=False)
        n_inputs, n_modes = basis.projector.shape[1], len(basis.basis)
        widths = (n_inputs, width, width, n_modes)
        self.network = perceptron(widths, torch.Generator().manual_seed(seed))

    def forward(self, inputs: Fields) -> Tensor:
        """Heads of generated inputs, float32."""
        deviation = inputs[LOG_TRANSMISSIVITY] - self.mean_log_transmissivity
        correction: Tensor = self.network(deviation @ self.projector)
        head = self.mean_head + correction @ self.basis
        return head if self.skip is None else head + deviation @ self.skip


def linearised_basis(
    solver: FlowSolver, forcing: Forcing, expansion: KarhunenLoeve, n_modes: int
) -> HeadBasis:
    """Head linearised about the mean field: h₀ = h(m), G = dh/dY by adjoints.

    The network adds what is not linear, in the span of the leading modes of the
    linearised head, scaled by their deviations.
    """
    mean = expansion.mean
    cells = torch.arange(len(mean))
    jacobian = solver.head_jacobian(mean, forcing, cells)  # (n, n)
    scaled = expansion.modes * expansion.eigenvalues.sqrt()
    vectors, values, _ = torch.linalg.svd(jacobian @ scaled, full_matrices=False)
    return HeadBasis(
        mean_log_transmissivity=mean,
        projector=_projector(expansion),
        mean_head=solver.solve(mean, forcing),
        skip=jacobian.mT,
        basis=(vectors * values)[:, :n_modes].mT,
    )


def generic_basis(expansion: KarhunenLoeve, head: KarhunenLoeve) -> HeadBasis:
    """No physics: any smooth head field, in the modes of an assumed covariance."""
    return HeadBasis(
        mean_log_transmissivity=expansion.mean,
        projector=_projector(expansion),
        mean_head=head.mean,
        skip=None,
        basis=(head.modes * head.eigenvalues.sqrt()).mT,
    )


def _projector(expansion: KarhunenLoeve) -> Tensor:
    return expansion.weights[:, None] * expansion.modes / expansion.eigenvalues.sqrt()


def scaled_residual(
    mesh: FlowMesh, forcing: Forcing, log_transmissivity: Tensor, head: Tensor
) -> Tensor:
    """Residual of each cell over the diagonal of its equation [m], (members, cells).

    (A(Y) h - b) / diag A(Y): by how much the head of a cell misses what its neighbours
    ask for. Differentiable in the scaling too: were the diagonal held fixed, small
    transmissivities would lower the residual of any head. Float64: A h - b is a small
    difference.

    It is no measure of the error of the head: smooth errors leave small residuals.
    """
    operator = flow_operator(mesh, log_transmissivity.double())
    load = forcing_load(mesh, operator, forcing)
    return (operator.apply(head.double()) - load) / operator.diagonal
