"""A run counts as complete only when its report is there."""

import json

import matplotlib.pyplot as plt
import pytest
from matplotlib.image import imread

from workflows.engine.pages.publishing import Answer, publish
from workflows.engine.pages.report import Illustration, Metric, Section, figure_style
from workflows.status.verdict import judge

RUN = {
    "workflow": "little",
    "run_id": "a",
    "seed": 7,
    "time": "2026-01-01T00:00:00+00:00",
    "git": None,
    "command_line": ["study"],
    "program": ["python", "study.py"],
    "site": "laptop",
    "versions": {},
    "continuations": [],
}


@pytest.fixture
def answer():
    with figure_style():
        figure, _ = plt.subplots(figsize=(7.0, 4.0))
    return Answer(
        title="Squares",
        lead=["How large are they?"],
        sections=[Section("Sizes", figures=[Illustration("sizes", figure, "Sizes.")])],
        metrics={"total": Metric(value=14.0, unit="1")},
        timings={"square_s": 0.5},
        closing=["total 14"],
        failed=[(3, 77, "negative depth")],
        facts={"numbers": 4},
    )


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps(RUN))
    (tmp_path / "events").mkdir()
    return tmp_path


def test_the_answer_is_published_with_its_failed_members(folder, answer):
    words = publish(folder, answer)
    assert words.splitlines() == ["total 14", f"report: {folder / 'report.html'}"]
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["metrics"]["failed_members"]["value"] == 1.0
    assert summary["metrics"]["total"]["value"] == 14.0
    assert (summary["numbers"], summary["timings"]) == (4, {"square_s": 0.5})
    html = (folder / "report.html").read_text()
    for shown in ("negative depth", "<td>77</td>", "How the run went", "Sizes."):
        assert shown in html
    assert judge(folder, None, 0.0).status == "complete"


def test_a_run_without_its_report_is_not_complete(folder, answer):
    (folder / "report.html").mkdir()  # what cannot be written, for whatever reason
    with pytest.raises(OSError, match=r"report\.html"):
        publish(folder, answer)
    assert not (folder / "summary.json").exists()
    assert judge(folder, None, 0.0).status != "complete"


def test_pictures_have_two_dots_per_point(folder, answer):
    publish(folder, answer)
    height, width, _ = imread(folder / "figures" / "sizes.png").shape
    assert (width, height) == (7 * 144, 4 * 144)
