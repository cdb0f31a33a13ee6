"""The report is one self-contained file; a summary holds finite numbers only."""

import json
import re

import matplotlib.pyplot as plt
import pytest
from pydantic import ValidationError

from workflows.engine.pages.report import (
    Grid,
    Illustration,
    Metric,
    Section,
    Summary,
    complete_summary,
    describe_provenance,
    figure_style,
    write_report,
    write_summary,
)

SUMMARY = Summary(
    workflow="little",
    run_id="20260101-000000-smoke",
    status="complete",
    aquifer="Hanford",
    metrics={
        "head_error": Metric(
            value=0.123456, unit="m", interval=(0.1, 0.2), baselines={"kriging": 0.5}
        ),
        "coverage": Metric(value=0.9, unit="1"),
    },
    timings={"train_seconds": 12.5},
)


def write(folder):
    with figure_style():
        figure, axes = plt.subplots()
        axes.plot([0.0, 1.0], [2.0, 3.0])
        axes.set_xlabel("time [h]")
    write_report(
        folder / "report.html",
        title="Heads & <plumes>",
        lead=["How far does it go?"],
        summary=SUMMARY,
        sections=[
            Section(
                "Ensemble",
                text=["Sixteen members."],
                figures=[Illustration("heads", figure, "Heads over time.")],
                tables=[Grid(["cell", "head [m]"], [["a", 1.23456]], "Heads.")],
            )
        ],
        provenance={"seed": "7"},
    )
    return (folder / "report.html").read_text()


def test_report_is_self_contained(tmp_path):
    html = write(tmp_path)
    addresses = re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?([^"')\s>]+)""", html)
    assert len(addresses) == 1
    assert addresses[0].startswith("data:image/png;base64,iVBOR")
    assert not re.search(r"https?://|<script|@import", html)


def test_report_shows_metrics_with_units_intervals_and_baselines(tmp_path):
    html = write(tmp_path)
    row = re.search(r"<tr><td>head error</td>.*?</tr>", html).group()
    for cell in ["0.1235", "m", "0.1 to 0.2", "kriging&nbsp;0.5"]:
        assert f">{cell}</td>" in row
    assert "<td>1.235</td>" in html
    assert "Heads &amp; &lt;plumes&gt;" in html


def test_figures_are_saved_beside_the_report_and_released(tmp_path):
    before = plt.get_fignums()
    write(tmp_path)
    assert (tmp_path / "figures" / "heads.png").read_bytes().startswith(b"\x89PNG")
    assert plt.get_fignums() == before


def test_summary_has_the_form_that_programs_expect(tmp_path):
    write_summary(tmp_path / "summary.json", SUMMARY)
    stored = json.loads((tmp_path / "summary.json").read_text())
    assert stored["aquifer"] == "Hanford"
    assert stored["metrics"]["coverage"] == {
        "value": 0.9,
        "unit": "1",
        "interval": None,
        "baselines": {},
    }
    assert stored["metrics"]["head_error"]["interval"] == [0.1, 0.2]
    assert set(stored) == {
        *("workflow", "run_id", "status", "aquifer", "metrics", "timings")
    }


@pytest.mark.parametrize(
    "wrong",
    [
        {"value": float("nan"), "unit": "m"},
        {"value": 1.0},
        {"value": 1.0, "unit": "m", "interval": (2.0, 1.0)},
        {"value": 1.0, "unit": "m", "baselines": {"kriging": float("inf")}},
        {"value": 1.0, "unit": "m", "error": 0.1},
    ],
)
def test_metric_that_is_no_finite_number_with_a_unit_is_refused(wrong):
    with pytest.raises(ValidationError):
        Metric(**wrong)


START = {
    "time": "2026-01-01T00:00:00+00:00",
    "git": {"commit": "abc", "is_dirty": True},
    "program": ["python", "-m", "little"],
    "command_line": ["__main__.py", "--set", "title=a b"],
    "site": "laptop",
}
RUN = {
    "workflow": "little",
    "run_id": "20260101-000000-smoke",
    "seed": 7,
    "versions": {"torch": "2.9", "parsl": None},
    **START,
    "continuations": [{**START, "time": "2026-01-02T00:00:00+00:00", "git": None}],
}


def test_provenance_tells_each_start_with_its_words_site_and_commit():
    words = "python -m little --set 'title=a b' (site laptop, commit "
    assert describe_provenance(RUN, {"data.mat": "0" * 64}) == {
        "started 2026-01-01T00:00:00+00:00": f"{words}abc with changes)",
        "continued 2026-01-02T00:00:00+00:00": f"{words}no checkout)",
        "seed": "7",
        "torch": "2.9",
        "parsl": "None",
        "SHA-256 of data.mat": "0" * 64,
    }


def test_the_summary_of_a_run_says_which_one_and_its_facts():
    summary = complete_summary(RUN, SUMMARY.metrics, {"train_s": 2.0}, grid="64x128")
    told = json.loads(summary.model_dump_json())
    fixed = ("workflow", "run_id", "status", "seed", "grid")
    assert [told[key] for key in fixed] == [
        *("little", RUN["run_id"], "complete", 7, "64x128")
    ]
    assert told["timings"] == {"train_s": 2.0}
    assert summary.metrics == SUMMARY.metrics
    with pytest.raises(ValidationError, match="finite"):
        complete_summary(RUN, {}, {"train_s": float("nan")})
