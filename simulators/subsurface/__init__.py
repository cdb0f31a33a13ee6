"""Groundwater flow: confined, steady or transient, two-point-flux finite volumes."""

from simulators.subsurface.flow import (
    BoundaryFlows,
    Forcing,
    boundary_flows,
    energy,
    residual,
    transmissibility,
)
from simulators.subsurface.inversion import HEAD_ERROR_M, Inversion, invert_heads
from simulators.subsurface.mesh import FlowMesh
from simulators.subsurface.meshing import (
    SIDES,
    number_cells,
    outer_faces,
    structured_mesh,
    unstructured_mesh,
)
from simulators.subsurface.solver import FlowSolveError, FlowSolver
from simulators.subsurface.synthetic_site import synthetic_aquifer
from simulators.subsurface.transient import (
    StressPeriod,
    solve_transient,
    well_source,
)

__all__ = [
    "HEAD_ERROR_M",
    "SIDES",
    "BoundaryFlows",
    "FlowMesh",
    "FlowSolveError",
    "FlowSolver",
    "Forcing",
    "Inversion",
    "StressPeriod",
    "boundary_flows",
    "energy",
    "invert_heads",
    "number_cells",
    "outer_faces",
    "residual",
    "solve_transient",
    "structured_mesh",
    "synthetic_aquifer",
    "transmissibility",
    "unstructured_mesh",
    "well_source",
]
