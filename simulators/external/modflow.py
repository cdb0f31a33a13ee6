"""MODFLOW 6 as a simulator of the flow problems of `simulators.subsurface`, by FloPy.

Any flow mesh is written as a DISU grid of cells of area 1 m2 and thickness 1 m, so that
K is the transmissivity and S_s the storage of a cell. With connection lengths 1/f and
width 1, MODFLOW's harmonic conductance T_a T_b/(T_a/f_b + T_b/f_a) is that of the mesh.
Head faces become general heads, fixed cells constant heads, all other flows wells.
Needs the extra `modflow` (FloPy) and, to run, an `mf6` on PATH.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from simulators.external.program import ExternalSimulator, Output, Parameters
from simulators.subsurface import FlowMesh, StressPeriod
from simulators.subsurface.flow import ForcingValues, forcing_values

_NAME = "flow"
_DIAGONAL = 0.0  # MODFLOW reads a value for each cell's connection with itself


def modflow_simulator(
    mesh: FlowMesh,
    periods: Sequence[StressPeriod],
    scratch: Path,
    time_limit_s: float,
    program: str = "mf6",
) -> ExternalSimulator:
    """MODFLOW 6 for one mesh and one sequence of stress periods.

    Its members have the parameters `log_transmissivity` (n_cells,) with T in m2/d,
    `initial_head` (n_cells,) [m] and, for transient flow, `storage` (n_cells,) [m2] as
    `solve_transient` takes it. Its output is `head` (steps, n_cells) [m].
    """
    return ExternalSimulator(
        command=(program,),
        read_output=read_modflow_heads,
        scratch=scratch,
        time_limit_s=time_limit_s,
        write_input=partial(write_modflow_input, mesh, tuple(periods)),
    )


def write_modflow_input(
    mesh: FlowMesh,
    periods: Sequence[StressPeriod],
    parameters: Parameters,
    folder: Path,
) -> None:
    """Write the input files of one member; parameters as for `modflow_simulator`.

    Raises:
        ValueError: if the mesh joins two cells twice, which MODFLOW cannot say, if a
            forcing has batch dimensions, or a parameter does not fit the mesh.
    """
    import flopy.mf6 as mf

    mesh = mesh.to("cpu")
    fields = {
        name: _cell_values(name, values, mesh.n_cells)
        for name, values in parameters.items()
    }
    transmissivity = np.exp(fields["log_transmissivity"])
    forcings = [_single(forcing_values(mesh, period.forcing)) for period in periods]
    simulation = mf.MFSimulation(
        sim_name=_NAME, sim_ws=str(folder), verbosity_level=0, write_headers=False
    )
    simulation.simulation_data.float_precision = 16
    simulation.simulation_data.float_characters = 24
    times = [(p.time_step * p.n_steps, p.n_steps, 1.0) for p in periods]
    mf.ModflowTdis(simulation, nper=len(periods), perioddata=times, time_units="days")
    mf.ModflowIms(
        simulation,
        linear_acceleration="bicgstab",
        outer_dvclose=1e-11,
        inner_dvclose=1e-12,
        rcloserecord=[1e-10, "strict"],
        inner_maximum=500,
    )
    flow = mf.ModflowGwf(simulation, modelname=_NAME)
    mf.ModflowGwfdisu(flow, **_grid(mesh))
    mf.ModflowGwfnpf(flow, icelltype=0, k=transmissivity)
    mf.ModflowGwfic(flow, strt=fields["initial_head"])
    if "storage" in fields:
        mf.ModflowGwfsto(flow, iconvert=0, ss=fields["storage"], transient={0: True})
    t_face = torch.from_numpy(transmissivity)[mesh.head_cell] * mesh.head_factor
    faces, fixed = mesh.head_cell.tolist(), mesh.fixed_cell.tolist()
    for package, rows in (
        (mf.ModflowGwfghb, [_rows(faces, f.head, t_face) for f in forcings]),
        (mf.ModflowGwfchd, [_rows(fixed, f.fixed_head) for f in forcings]),
        (mf.ModflowGwfwel, [_wells(mesh, f) for f in forcings]),
    ):
        if any(rows):
            longest = max(len(of_period) for of_period in rows)
            package(flow, maxbound=longest, stress_period_data=dict(enumerate(rows)))
    mf.ModflowGwfoc(flow, head_filerecord=f"{_NAME}.hds", saverecord=[("HEAD", "ALL")])
    simulation.write_simulation(silent=True)


def read_modflow_heads(folder: Path) -> Output:
    """`head` (steps, n_cells) [m] of a folder in which MODFLOW 6 has run."""
    from flopy.utils import HeadFile

    with HeadFile(folder / f"{_NAME}.hds") as heads:
        steps = heads.get_alldata()
    return {"head": steps.reshape(len(steps), -1)}


def _grid(mesh: FlowMesh) -> dict[str, Any]:
    """Arguments of a DISU package: each cell and then its neighbours, row by row."""
    a, b = mesh.cell_a.numpy(), mesh.cell_b.numpy()
    to_face_a, to_face_b = 1 / mesh.factor_a.numpy(), 1 / mesh.factor_b.numpy()
    every, n_conn = np.arange(mesh.n_cells), len(a)
    row, column = np.concatenate([every, a, b]), np.concatenate([every, b, a])
    is_joined = np.repeat([0, 1], [mesh.n_cells, 2 * n_conn])
    length = np.concatenate([np.full(mesh.n_cells, _DIAGONAL), to_face_a, to_face_b])
    order = np.lexsort((column, is_joined, row))
    row, column = row[order], column[order]
    is_twice = (np.diff(row) == 0) & (np.diff(column) == 0)
    if is_twice.any():
        i = int(np.flatnonzero(is_twice)[0])
        raise ValueError(
            "MODFLOW takes one connection between two cells; got two between cells "
            f"{row[i]} and {column[i]}."
        )
    return {
        "nodes": mesh.n_cells,
        "nja": len(row),
        "top": 1.0,
        "bot": 0.0,
        "area": 1.0,
        "iac": np.bincount(row),
        "ja": column,
        "ihc": is_joined[order],
        "cl12": length[order],
        "hwva": is_joined[order].astype(float),
    }


def _rows(cells: list[int], *values: Tensor) -> list[Any]:
    """Rows ((cell,), value, ...) of a stress package."""
    columns = zip(*(v.tolist() for v in values), strict=True)
    return [[(cell,), *row] for cell, row in zip(cells, columns, strict=True)]


def _wells(mesh: FlowMesh, forcing: ForcingValues) -> list[Any]:
    """All prescribed flows into cells whose head is not fixed."""
    rates = forcing.source.index_add(0, mesh.inflow_cell, forcing.inflow)
    rates = rates.index_fill(0, mesh.fixed_cell, 0.0)
    cells = rates.nonzero().ravel()
    return _rows(cells.tolist(), rates[cells])


def _single(forcing: ForcingValues) -> ForcingValues:
    """The values of one member on the CPU."""
    for name, values in zip(forcing._fields, forcing, strict=True):
        if values.ndim != 1:
            raise ValueError(
                f"forcing.{name} must be of one member; got shape "
                f"{tuple(values.shape)}. Make one simulator per forcing."
            )
    return ForcingValues(*(values.detach().cpu() for values in forcing))


def _cell_values(name: str, values: Any, n_cells: int) -> NDArray[np.float64]:  # noqa: ANN401  # array or tensor
    array = np.asarray(values, dtype=np.float64)
    if array.shape != (n_cells,) or not np.isfinite(array).all():
        raise ValueError(
            f"{name} must hold a finite value for each of {n_cells} cells; got shape "
            f"{array.shape}."
        )
    return array
