"""Heads that others computed: the Hanford tables and MODFLOW 6."""

import h5py
import pytest
import torch

from simulators.subsurface import (
    FlowSolver,
    Forcing,
    boundary_flows,
    residual,
    structured_mesh,
)

# heads by cell id (1-based) [m]; they agree to 2.3e-12 m with those published in
# yeungyh/cklemap for the same mesh
HANFORD_HEADS = {
    1: 104.590360726,
    100: 117.385148583,
    250: 116.935163924,
    500: 108.345418736,
    750: 114.578349762,
    1000: 115.622541850,
    1250: 117.445138931,
    1475: 119.489861353,
}


def test_hanford_heads(hanford):
    head = hanford.solver.solve(hanford.log_t, hanford.forcing)
    for cell, expected in HANFORD_HEADS.items():
        assert float(head[cell - 1]) == pytest.approx(expected, abs=1e-8), cell
    assert float(head.min()) == pytest.approx(103.676615796, abs=1e-8)
    assert float(head.max()) == pytest.approx(126.537181535, abs=1e-8)
    assert float(head.mean()) == pytest.approx(115.421989565, abs=1e-8)
    at_wells = head[hanford.wells]
    assert float(at_wells.mean()) == pytest.approx(115.691363250, abs=1e-8)


def test_hanford_water_balance(hanford):
    head = hanford.solver.solve(hanford.log_t, hanford.forcing)
    flows = boundary_flows(hanford.mesh, hanford.log_t, head, hanford.forcing)
    net = -float(flows.head_faces.sum())
    assert net == pytest.approx(10_823.46, rel=1e-10)
    gross = float(flows.head_faces.clamp(min=0).sum())
    assert gross == pytest.approx(146_422.69, abs=0.01)
    left = residual(hanford.mesh, hanford.log_t, head, hanford.forcing)
    # round-off of flows near 1e5 m3/d per cell
    assert left.abs().max() < 1e-6


def test_modflow_confined_steady(modflow_file):
    with h5py.File(modflow_file) as f:
        k = torch.tensor(f["conductivity_m_per_day"][:])
        chd, wells = torch.tensor(f["chd"][:]), torch.tensor(f["wells"][:])
        heads, flows = torch.tensor(f["head_m"][:]), f["chd_flow_m3_per_day"][:]
        spacing = float(f.attrs["dy_m"]), float(f.attrs["dx_m"])
        thickness = float(f.attrs["thickness_m"])
    mesh = structured_mesh(tuple(k.shape), spacing, fixed_cells=chd[:, :2].long())
    source = torch.zeros_like(k)
    row, col = wells[:, :2].long().T
    source[row, col] = wells[:, 2]
    log_t = (k * thickness).log().ravel()
    forcing = Forcing(fixed_head=chd[:, 2], source=source.ravel())
    head = FlowSolver(mesh).solve(log_t, forcing)
    assert (head.reshape(k.shape) - heads).abs().max() < 1e-8
    into = boundary_flows(mesh, log_t, head, forcing).fixed_cells
    for side in (slice(0, 48), slice(48, 96)):
        total = float(into[side].sum())
        assert total == pytest.approx(float(flows[side].sum()), rel=1e-8)
    assert float(into.sum()) == pytest.approx(180.0, rel=1e-8)
