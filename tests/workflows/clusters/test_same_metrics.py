"""The main job on every kind of site: the commands differ by `--site` alone."""

import json

import pytest

pytestmark = pytest.mark.cluster


def _metrics_on(site, command, tmp_path):
    done = command(
        *("workflows.hanford", "--size", "smoke", "--seed", 3),
        *("--run-dir", site, "--site", site),
    )
    assert done.returncode == 0, done.stderr
    return json.loads((tmp_path / site / "summary.json").read_text())["metrics"]


@pytest.mark.usefixtures("slurm", "lsf")
def test_threads_processes_slurm_and_lsf_give_the_same_metrics(command, tmp_path):
    on_threads = _metrics_on("laptop", command, tmp_path)
    assert len(on_threads) > 5
    for site in ("laptop_htex", "cori", "summit"):
        assert _metrics_on(site, command, tmp_path) == on_threads, site
