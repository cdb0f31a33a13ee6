"""The end of a run: one function writes its report and, last of all, its summary.

A run counts as complete where its `summary.json` is. So that is written last, when the
report and its figures are there: killed between them, the run is continued.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data.ensemble_store import store_bytes
from workflows.engine.files.ensemble_files import store_of
from workflows.engine.pages.report import (
    Metric,
    Section,
    complete_summary,
    describe_provenance,
    write_report,
    write_summary,
)
from workflows.engine.pages.run_sections import describe_run, describe_staging
from workflows.engine.watching.events import read_events


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a workflow found, ready to be shown.

    Attributes:
        title: of the report, one line.
        lead: opening paragraphs: the question, the answer, its uncertainty.
        sections: in the order of reading; how the run went follows them.
        metrics: by name; the number of failed members joins them.
        timings: seconds, by name.
        closing: lines for the terminal, before the place of the report.
        failed: number, seed and cause of each member without a result.
        facts: further keys of the summary, JSON values.
        digests: SHA-256 of the data from elsewhere, by name.
    """

    title: str
    lead: Sequence[str]
    sections: Sequence[Section]
    metrics: Mapping[str, Metric]
    closing: Sequence[str]
    timings: Mapping[str, float] = field(default_factory=dict)
    failed: Sequence[tuple[int, int, str]] = ()
    facts: Mapping[str, object] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)


def publish(folder: Path, answer: Answer) -> str:
    """Writes `report.html` with its figures, then `summary.json`.

    Args:
        folder: of a run whose tasks have ended.
        answer: what it found.

    Returns:
        The closing words for the user.
    """
    run: dict[str, Any] = json.loads((folder / "run.json").read_bytes())
    n_failed = Metric(value=float(len(answer.failed)), unit="1")
    metrics = {**answer.metrics, "failed_members": n_failed}
    summary = complete_summary(run, metrics, answer.timings, **answer.facts)
    store, report = store_of(folder), folder / "report.html"
    staging = (
        [describe_staging(read_events(folder), store_bytes(store))]
        if store.exists()
        else []
    )
    write_report(
        report,
        title=answer.title,
        lead=answer.lead,
        summary=summary,
        sections=[*answer.sections, *staging, *describe_run(folder, answer.failed)],
        provenance=describe_provenance(run, answer.digests),
    )
    write_summary(folder / "summary.json", summary)
    return "\n".join([*answer.closing, f"report: {report}"])
