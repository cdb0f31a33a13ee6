"""Most probable ln T given heads in some cells: Gauss-Newton with adjoint Jacobians.

With Y ~ N(m, C), C = L L', heads h(Y) in w cells, observed d = h(Y) + N(0, r2 I) and
G = dh/dY, an iteration solves the linearised problem in the space of the data:

    Y_new = m + L S' (S S' + r2 I)^-1 (d - h(Y) + G (Y - m)),    S = G L.

Source: form after Tarantola (2005), doi:10.1137/1.9780898717921, chapter 3; the
schedule of r and the length of steps were found on the Hanford problem.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from simulators.subsurface.flow import Forcing, check_values
from simulators.subsurface.solver import FlowSolver

# r [m]: what the fit may leave at a well, for heads without an error of their own too
HEAD_ERROR_M = 0.01
# in the first iterations r is half of the rms misfit if that is more: far from the
# solution the linearisation is worth no more
_N_RELAXED = 10
_MAX_ITERATIONS = 15
_LARGEST_CHANGE = 3.0  # of ln T in one cell and step
# rms change, as a share of the prior deviation, that ends the search: at Hanford ln T
# then moves by 0.016 rms or less any more, where its error is 0.65
_LEAST_CHANGE = 0.02


@dataclass(frozen=True, slots=True, eq=False)
class Inversion:
    """The optimum of one inversion.

    Attributes:
        log_transmissivity: ln T, T in m2/d, shape (n_cells,).
        head: its heads [m], shape (n_cells,).
        misfit_m: rms difference to the observed heads [m].
        n_iterations: Gauss-Newton steps made, at most 15.
    """

    log_transmissivity: Tensor
    head: Tensor
    misfit_m: float
    n_iterations: int


@torch.no_grad()
def invert_heads(
    solver: FlowSolver,
    forcing: Forcing,
    prior_mean: Tensor,
    prior_factor: Tensor,
    cells: Tensor,
    observed_head: Tensor,
    *,
    start: Tensor | None = None,
) -> Inversion:
    """Most probable ln T given the heads in some cells and a Gaussian prior.

    The last step is made with r = 0.01 m. Data on ln T enter through a prior that is
    conditioned on them: for `kriged` from `krige` and
    `prior = karhunen_loeve(kriged.mean, kriged.covariance)`, the factor is
    `prior.modes * prior.eigenvalues.sqrt()`.

    With a draw m + L xi as `prior_mean`, and a draw of N(0, r2 I), r = `HEAD_ERROR_M`,
    added to the heads, the result is an approximate draw of the posterior (randomised
    maximum likelihood), exact where heads are linear in ln T: form after Kitanidis
    (1995), doi:10.1029/95WR01945, and Oliver, He and Reynolds (1996), Conditioning
    permeability fields to pressure data, ECMOR V.

    Args:
        solver: of the mesh.
        forcing: heads and flows of one member.
        prior_mean: m, shape (n_cells,), float64.
        prior_factor: L with L L' = C, shape (n_cells, k), float64. A step costs
            O(w n k) and w adjoint solves: truncate it where k is to be small.
        cells: the w cells with observed heads, none twice.
        observed_head: d [m], shape (w,), float64.
        start: first iterate (n_cells,), the prior mean if absent.

    Raises:
        ValueError: if a shape does not fit the mesh, a cell is unknown or repeated,
            or the factor or a head is not finite.
        TypeError: if an input is not float64, or cells are not integers.
        FlowSolveError: as for `FlowSolver.solve`.
    """
    _check_prior(solver.mesh.n_cells, prior_mean, prior_factor)
    _check_data(solver.mesh.n_cells, cells, observed_head)
    log_t = prior_mean if start is None else start
    head = _solve_one(solver, log_t, forcing)
    least_change = _LEAST_CHANGE * _rms(prior_factor.norm(dim=-1))
    n_iterations, is_converged, change = 0, False, torch.zeros_like(log_t)
    while n_iterations < _MAX_ITERATIONS and not is_converged:
        misfit = observed_head - head[cells]
        relaxed = _rms(misfit) / 2 if n_iterations < _N_RELAXED else 0.0
        error = max(HEAD_ERROR_M, relaxed)
        jacobian = solver.head_jacobian(log_t, forcing, cells)  # (w, n_cells)
        data = misfit + jacobian @ (log_t - prior_mean)
        target = prior_mean + _correction(jacobian, prior_factor, data, error)
        previous, change = change, target - log_t
        log_t = log_t + _step_length(change, previous) * change
        head = _solve_one(solver, log_t, forcing)
        n_iterations += 1
        # r is least only where the misfit is at most 2 r, or after ten iterations
        is_converged = error == HEAD_ERROR_M and _rms(change) <= least_change
    return Inversion(log_t, head, _rms(observed_head - head[cells]), n_iterations)


def _correction(jacobian: Tensor, factor: Tensor, data: Tensor, error: float) -> Tensor:
    """L S' (S S' + r2 I)^-1 data, shape (n_cells,), with S = G L; C G' is not formed.

    Args:
        jacobian: G (w, n_cells) [m].
        factor: L (n_cells, k).
        data: (w,) [m].
        error: r [m].
    """
    sensitivity = jacobian @ factor  # (w, k)
    covariance = sensitivity @ sensitivity.mT  # (w, w)
    covariance.diagonal().add_(error**2)
    weights = torch.cholesky_solve(data[:, None], torch.linalg.cholesky(covariance))
    return (factor @ (sensitivity.mT @ weights))[:, 0]


def _step_length(change: Tensor, previous: Tensor) -> float:
    """Share of a change of ln T to make, at most 3 in a cell.

    Half where it turns back: near the optimum single cells may go to and fro for ever
    (0.4 in ln T), and what alternates is gone with a half step.
    """
    length = _LARGEST_CHANGE / max(float(change.abs().max()), _LARGEST_CHANGE)
    return min(length, 0.5) if float(change @ previous) < 0 else length


def _rms(values: Tensor) -> float:
    return float(values.square().mean().sqrt())


def _solve_one(solver: FlowSolver, log_t: Tensor, forcing: Forcing) -> Tensor:
    head = solver.solve(log_t, forcing)
    if head.ndim > 1:
        raise ValueError(
            "ln T and forcing must be of one member; got batch shape "
            f"{tuple(head.shape[:-1])}. Call once per member."
        )
    return head


def _check_prior(n_cells: int, mean: Tensor, factor: Tensor) -> None:
    """Refuse what is not a mean (n_cells,) and a finite factor (n_cells, k)."""
    check_values("prior_mean", mean, n_cells)
    if factor.ndim != 2 or len(factor) != n_cells or not factor.numel():  # noqa: PLR2004  # a matrix
        raise ValueError(
            f"prior_factor must have shape ({n_cells}, k), one row per cell; got "
            f"{tuple(factor.shape)}."
        )
    check_values("prior_factor", factor, factor.shape[1])
    _check_finite("prior_factor", factor)


def _check_data(n_cells: int, cells: Tensor, observed_head: Tensor) -> None:
    """Refuse what are not distinct cells of the mesh with one finite head each."""
    if cells.dtype != torch.int64:
        raise TypeError(f"cells must be int64; got {cells.dtype}. Call .long().")
    if cells.ndim != 1 or not len(cells):
        raise ValueError(
            f"cells must have shape (w,), w >= 1; got {tuple(cells.shape)}."
        )
    outside = cells[(cells < 0) | (cells >= n_cells)]
    if len(outside):
        raise ValueError(
            f"cells must be 0 to {n_cells - 1}; got {int(outside[0])} ({len(outside)} "
            "such cells). Number them from 0."
        )
    repeated = (torch.bincount(cells) > 1).nonzero()
    if len(repeated):
        raise ValueError(
            f"cells must be distinct; got {int(repeated[0])} more than once "
            f"({len(repeated)} such cells). Average the heads of a cell."
        )
    if observed_head.shape != cells.shape:
        raise ValueError(
            f"observed_head must have shape ({len(cells)},), one per cell; got "
            f"{tuple(observed_head.shape)}."
        )
    check_values("observed_head", observed_head, len(cells))
    _check_finite("observed_head", observed_head)


def _check_finite(name: str, values: Tensor) -> None:
    bad = values[~torch.isfinite(values)]
    if len(bad):
        raise ValueError(
            f"{name} must be finite; got {float(bad[0])} ({len(bad)} such values). "
            "Leave such cells out."
        )
