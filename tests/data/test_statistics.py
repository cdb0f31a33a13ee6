"""Lazy ensemble statistics against numpy in float64; their memory."""

import subprocess
import sys
from pathlib import Path

import dask
import numpy as np
import pytest
import xarray as xr

from data.ensemble_store import Variable, create_store, open_ensemble, write_block
from data.statistics import (
    covariance_with_points,
    ensemble_mean,
    ensemble_quantiles,
    ensemble_standard_deviation,
)

ROOT = Path(__file__).parents[2]
N_MEMBERS, N_CELLS, BLOCK_SIZE = 1003, 37, 64  # ragged last block
FAILED = {3: "diverged", 64: "diverged", 1002: "lost"}
POINTS = [0, 36, 11]


def write_ensemble(path, values, failed, block_size=BLOCK_SIZE):
    layout = create_store(
        path,
        n_members=len(values),
        block_size=block_size,
        variables=[Variable("hydraulic_head", "m", "hydraulic head")],
        coordinates={"x": ("cell", np.arange(values.shape[1]), {"units": "m"})},
        attributes={},
    )
    for block in range(layout.n_blocks):
        members = layout.members(block)
        write_block(
            path,
            block,
            {"hydraulic_head": values[members.start : members.stop]},
            seeds=members,
            failed={m: why for m, why in failed.items() if m in members},
            provenance={},
        )


@pytest.fixture(scope="module")
def values():
    """Heads of 1e4 ± 1 m: the mean squared costs 8 of the 16 digits of float64."""
    generator = np.random.default_rng(5)
    factors = generator.standard_normal((N_MEMBERS, 4))
    modes = generator.standard_normal((4, N_CELLS))
    return (1e4 + factors @ modes).astype(np.float32)


@pytest.fixture(scope="module")
def heads(values, tmp_path_factory):
    path = tmp_path_factory.mktemp("statistics") / "ensemble.zarr"
    write_ensemble(path, values, FAILED)
    # small chunks: partial results of many blocks are merged
    return open_ensemble(path).hydraulic_head.chunk(member=100)


@pytest.fixture(scope="module")
def good(values):
    """The members with a result, in float64: the oracle's input."""
    return np.delete(values, [*FAILED], axis=0).astype(np.float64)


def test_mean_agrees_with_numpy(heads, good):
    mean = ensemble_mean(heads)
    np.testing.assert_allclose(mean.values, good.mean(axis=0), rtol=1e-14)
    assert mean.dtype == np.float64
    assert mean.attrs["units"] == "m"


def test_standard_deviation_agrees_with_numpy(heads, good):
    spread = ensemble_standard_deviation(heads)
    # deviations of 1 from a mean of 1e4, rounded to 1e-16 relative: 1e-12 of spread
    np.testing.assert_allclose(spread.values, good.std(axis=0, ddof=1), rtol=1e-11)


def test_covariance_agrees_with_numpy(heads, good):
    covariance = covariance_with_points(heads, POINTS)
    expected = np.cov(good, rowvar=False)[POINTS]
    np.testing.assert_allclose(
        covariance.values, expected, atol=1e-11 * np.abs(expected).max()
    )
    assert covariance.dims == ("point", "cell")
    assert covariance.point.values.tolist() == POINTS
    assert covariance.x.values.tolist() == [*range(N_CELLS)]


def test_covariance_of_a_point_with_itself_is_its_variance(heads):
    variance = np.diag(covariance_with_points(heads, POINTS).values[:, POINTS])
    spread = ensemble_standard_deviation(heads).values[POINTS]
    np.testing.assert_allclose(variance, spread**2, rtol=1e-10)


@pytest.mark.parametrize("strip_cells", [1, 5, 37, 1000])
def test_quantiles_are_exact_for_any_width_of_strip(heads, good, strip_cells):
    levels = [0.0, 0.05, 0.5, 0.95, 1.0]
    found = ensemble_quantiles(
        heads, levels, strip_bytes=strip_cells * heads.sizes["member"] * 4
    )
    assert found.dims == ("quantile", "cell")
    assert found["quantile"].values.tolist() == levels
    expected = np.quantile(good, levels, axis=0)
    # one float32 rounding of values near 1e4
    np.testing.assert_allclose(found.values, expected, rtol=6e-8)
    # an order statistic is a stored value: 1000 members, so 0 and 1 meet one exactly
    assert np.array_equal(found.values[[0, -1]], expected[[0, -1]])


def test_mean_spread_and_covariance_are_lazy(heads):
    for result in (
        ensemble_mean(heads),
        ensemble_standard_deviation(heads),
        covariance_with_points(heads, POINTS),
    ):
        assert dask.is_dask_collection(result)


def test_statistics_that_make_no_sense_are_refused(heads):
    with pytest.raises(ValueError, match="at least 2 members; got 1"):
        ensemble_standard_deviation(heads.isel(member=[0]))
    with pytest.raises(ValueError, match="at least 2 members; got 1"):
        covariance_with_points(heads.isel(member=[0]), [0])
    with pytest.raises(ValueError, match=r"0\.\.36; got 37"):
        covariance_with_points(heads, [0, 37])


def test_statistics_work_on_members_in_memory(good):
    field = xr.DataArray(good, dims=("member", "cell"))
    np.testing.assert_allclose(ensemble_mean(field), good.mean(axis=0), rtol=1e-14)
    expected = np.cov(good, rowvar=False)[[4]]
    np.testing.assert_allclose(
        covariance_with_points(field, [4]), expected, atol=1e-11 * expected.max()
    )


MEASURE = """
import sys
from pathlib import Path
from data.ensemble_store import open_ensemble
from data.statistics import *
import dask, xarray as xr
dask.config.set(num_workers=2)  # each thread holds copies of a chunk
heads = open_ensemble(Path(sys.argv[1])).hydraulic_head
def compute(field):
    xr.Dataset({
        "spread": ensemble_standard_deviation(field),
        "mean": ensemble_mean(field),
        "covariance": covariance_with_points(field, [0, 7]),
    }).compute()
    ensemble_quantiles(field, [0.05, 0.5, 0.95], strip_bytes=2**25)
def peak():
    # unlike ru_maxrss, not inherited from the process that started this one
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
compute(heads.isel(member=slice(0, 100)))
before = peak()
compute(heads)
print((peak() - before) * 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="peak memory is read from /proc"
)
def test_memory_does_not_grow_with_the_ensemble(tmp_path):
    generator = np.random.default_rng(0)
    n_cells = 1475
    used = []
    for n_members in (20_000, 80_000):  # 118 and 472 MB
        path = tmp_path / f"{n_members}.zarr"
        values = generator.random((n_members, n_cells), dtype=np.float32)
        write_ensemble(path, values, {7: "diverged"}, block_size=500)
        del values
        command = [sys.executable, "-c", MEASURE, str(path)]
        result = subprocess.run(
            command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=300
        )
        used.append(int(result.stdout))
    n_bytes = 80_000 * n_cells * 4
    assert used[0] > 0
    assert used[1] < n_bytes / 2, f"{used[1] / 1e6:.0f} MB for {n_bytes / 1e6:.0f} MB"
    assert used[1] < 2 * used[0], f"4 times the members took {used} bytes"
