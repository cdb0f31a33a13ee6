"""What a run leaves for people and programs: `summary.json` and one HTML file.

The report is self-contained: figures are embedded, nothing is loaded from elsewhere, so
it can be mailed. Every metric stands beside the baselines that it has to beat.
"""

import base64
import io
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, FiniteFloat

from data.durable_files import write_durably

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DOTS_PER_INCH = 144.0
"""Of the pictures: sharp on screens that show two dots per point."""


def _ordered(interval: tuple[float, float]) -> tuple[float, float]:
    if interval[0] > interval[1]:
        raise ValueError(f"interval must be [low, high]; got {list(interval)}.")
    return interval


class Metric(BaseModel):
    """One number of the answer, with its uncertainty and what it has to beat."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: FiniteFloat
    unit: str
    interval: (
        Annotated[tuple[FiniteFloat, FiniteFloat], AfterValidator(_ordered)] | None
    ) = None
    baselines: dict[str, FiniteFloat] = {}


class Summary(BaseModel):
    """The content of `summary.json`; facts such as the aquifer are further keys.

    Metrics follow from the seed on every site; timings do not.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    workflow: str
    run_id: str
    status: str
    metrics: dict[str, Metric]
    timings: dict[str, FiniteFloat] = {}


@dataclass(frozen=True, slots=True, eq=False)
class Illustration:
    """A figure of a section; the name is that of its file in `figures/`."""

    name: str
    figure: "Figure"
    caption: str


@dataclass(frozen=True, slots=True)
class Grid:
    """A table of a section; units belong into the header."""

    header: Sequence[str]
    rows: Sequence[Sequence[str | float]]
    caption: str


@dataclass(frozen=True, slots=True)
class Section:
    """A heading with paragraphs, figures and tables."""

    heading: str
    text: Sequence[str] = ()
    figures: Sequence[Illustration] = ()
    tables: Sequence[Grid] = ()


def complete_summary(
    run: Mapping[str, Any],
    metrics: Mapping[str, Metric],
    timings: Mapping[str, float],
    **facts: object,
) -> Summary:
    """The summary of a run that has come to its end.

    Args:
        run: the content of its `run.json`.
        metrics: by name.
        timings: seconds, by name.
        **facts: further keys, JSON values.
    """
    return Summary.model_validate(
        {
            "workflow": run["workflow"],
            "run_id": run["run_id"],
            "status": "complete",
            "metrics": metrics,
            "timings": timings,
            "seed": run["seed"],
            **facts,
        }
    )


def describe_provenance(
    run: Mapping[str, Any], digests: Mapping[str, str]
) -> dict[str, str]:
    """What was run, each time, the start and every continuation; with what code.

    Args:
        run: the content of `run.json`.
        digests: SHA-256 of the data from elsewhere, by name.
    """
    times = {
        f"{'continued' if k else 'started'} {part['time']}": _describe_start(part)
        for k, part in enumerate([run, *run["continuations"]])
    }
    return {
        **times,
        "seed": str(run["seed"]),
        **{name: str(version) for name, version in run["versions"].items()},
        **{f"SHA-256 of {name}": digest for name, digest in digests.items()},
    }


def write_summary(path: Path, summary: Summary) -> None:
    """Write `summary.json`, whole or not at all."""
    write_durably(path, [(summary.model_dump_json(indent=2) + "\n").encode()])


def write_report(
    path: Path,
    *,
    title: str,
    lead: Sequence[str],
    summary: Summary,
    sections: Sequence[Section],
    provenance: Mapping[str, str],
) -> None:
    """Write the report, and each figure as `figures/<name>.png` beside it.

    Args:
        path: the HTML file.
        title: one line.
        lead: opening paragraphs: the question, the answer, its uncertainty.
        summary: its metrics and timings become tables.
        sections: in the order of reading.
        provenance: version, commit, seed and the like.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = number
    images = {
        illustration.name: _embedded(illustration, path.parent / "figures")
        for section in sections
        for illustration in section.figures
    }
    html = environment.get_template("report.html.jinja").render(
        title=title,
        lead=lead,
        summary=summary,
        sections=sections,
        images=images,
        provenance=provenance,
    )
    write_durably(path, [html.encode()])


def number(value: str | float | None) -> str:
    """Four significant digits; words as they are; a dash for what there is not."""
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


@contextmanager
def figure_style() -> Iterator[None]:
    """Draw figures within this: one look, perceptually uniform colours, no display."""
    import matplotlib as mpl

    mpl.use("agg")
    with mpl.rc_context(
        {
            "axes.grid": True,
            "axes.spines.right": False,
            "axes.spines.top": False,
            "figure.constrained_layout.use": True,
            "figure.figsize": (7.0, 4.0),
            "font.size": 10.0,
            "grid.alpha": 0.25,
            "image.cmap": "viridis",
            "legend.frameon": False,
        }
    ):
        yield


def _describe_start(part: Mapping[str, Any]) -> str:
    git = part["git"] or {"commit": "no checkout", "is_dirty": False}
    commit = git["commit"] + (" with changes" if git["is_dirty"] else "")
    words = [*part["program"], *part["command_line"][1:]]
    return f"{shlex.join(words)} (site {part['site']}, commit {commit})"


def _embedded(illustration: Illustration, folder: Path) -> str:
    """Save a figure, release it, and return it as a `data:` address."""
    import matplotlib.pyplot as plt

    buffer, figure = io.BytesIO(), illustration.figure
    figure.draw_without_rendering()  # lays out once, which saving would do twice
    figure.set_layout_engine("none")
    figure.savefig(buffer, format="png", facecolor="white", dpi=DOTS_PER_INCH)
    plt.close(figure)
    folder.mkdir(parents=True, exist_ok=True)
    write_durably(folder / f"{illustration.name}.png", [buffer.getvalue()])
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
