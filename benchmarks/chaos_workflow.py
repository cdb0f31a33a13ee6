"""The workflow that `benchmarks.chaos` harms: fields diffuse, their mean is taken.

    python -m benchmarks.chaos_workflow --run-dir DIR [--set nan_member=3] [--site NAME]

Every member is a task that leaves one file. One of them may turn non-finite, another
may never end: both are recorded and left out.
"""

import io
import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from data.durable_files import write_durably
from workflows.engine.command.command_line import Workflow, command_line
from workflows.engine.driving.tasks import Task
from workflows.engine.files.artefacts import Manifest, artefact
from workflows.engine.watching.events import Log

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workflows.engine.driving.campaign import Campaign


class ChaosConfig(BaseModel):
    """Settings of one run."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    members: int = Field(default=12, ge=1, description="ensemble size")
    points: int = Field(default=96, ge=8, description="of a field, along each axis")
    steps: int = Field(default=600, ge=1, description="time steps of a member")
    nan_member: int = Field(default=-1, description="which turns non-finite")
    endless_member: int = Field(default=-1, description="which never ends")
    time_limit_s: float = Field(default=4.0, gt=0, description="where one never ends")


@dataclass(frozen=True, slots=True)
class MemberRecord:
    """One member to compute."""

    member: int
    seed: int
    points: int
    steps: int
    is_unstable: bool
    is_endless: bool


@dataclass(frozen=True, slots=True)
class MeanRecord:
    """Members without a result: [member, seed, cause]."""

    failed: tuple[tuple[int, int, str], ...]


def diffuse(record: MemberRecord, folder: Path, log: Log) -> Manifest:
    """Solves u_t = Δu from white noise by explicit steps on a periodic square.

    Raises:
        FloatingPointError: the field is no longer finite.
    """
    if record.is_endless:
        re.match(r"(a+)+$", "a" * 60 + "b")  # holds the interpreter for ages
    u = np.random.default_rng(record.seed).normal(size=(record.points, record.points))
    rate = np.float64(1e9 if record.is_unstable else 0.2)  # of time step / spacing²
    for step in range(record.steps):
        with np.errstate(all="ignore"):
            u = u + rate * laplacian(u)
        if step % 50 == 0 and not np.isfinite(u).all():
            raise FloatingPointError(
                f"a field must stay finite; got another in step {step}."
            )
    path = folder / "fields" / f"member_{record.member:02d}.npy"
    write_array(path, u)
    return Manifest({"field": artefact(path, folder)})


def take_mean(
    record: MeanRecord, folder: Path, log: Log, *, members: "Sequence[Manifest]"
) -> Manifest:
    """The mean of all members that have a result."""
    fields = [np.load(folder / m.artefacts["field"].path) for m in members]
    path = folder / "fields" / "mean.npy"
    write_array(path, np.mean(fields, axis=0))
    facts = {"members": len(fields), "failed": [list(item) for item in record.failed]}
    return Manifest({"mean": artefact(path, folder)}, facts)


def laplacian(u: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum of the four neighbours minus four times the point."""
    neighbours = np.roll(u, 1, 0) + np.roll(u, -1, 0) + np.roll(u, 1, 1)
    total: NDArray[np.float64] = neighbours + np.roll(u, -1, 1) - 4 * u
    return total


def write_array(path: Path, array: NDArray[np.float64]) -> None:
    """Writes a `.npy` file, whole or not at all."""
    path.parent.mkdir(exist_ok=True)
    buffer = io.BytesIO()
    np.save(buffer, array)
    write_durably(path, [buffer.getvalue()])


def run(config: ChaosConfig, campaign: "Campaign") -> str:
    """Members, their mean, a summary."""
    from workflows.engine.driving.campaign import gather

    task = Task(diffuse, role="sim", version="1")
    if config.endless_member >= 0:
        task = replace(task, time_limit_s=config.time_limit_s)
    seeds = {m: 1000 * campaign.seed + m for m in range(config.members)}
    futures = {
        member: campaign.submit(
            task,
            MemberRecord(
                member=member,
                seed=seed,
                points=config.points,
                steps=config.steps,
                is_unstable=member == config.nan_member,
                is_endless=member == config.endless_member,
            ),
        )
        for member, seed in seeds.items()
    }
    found = campaign.gather_members(futures, seeds, quorum=0.75)
    failed = tuple((m, seeds[m], cause) for m, cause in found.failed.items())
    [mean] = gather(
        [
            campaign.submit(
                Task(take_mean, role="io", version="1"),
                MeanRecord(failed),
                members=list(found.manifests.values()),
            )
        ]
    )
    text = json.dumps({**mean.facts, "metrics": {}})
    write_durably(campaign.folder / "summary.json", [text.encode()])
    return text


application = command_line(
    Workflow(
        name="chaos",
        help=str(__doc__).splitlines()[0],
        config=ChaosConfig,
        sizes={"smoke": {"members": 4}, "standard": {}, "full": {"members": 200}},
        plan=lambda config: f"diffuse {config.members} fields, take their mean",
        run=run,
    )
)

if __name__ == "__main__":
    # by its own name, so that worker processes find the steps, too
    from benchmarks.chaos_workflow import application as importable

    importable()
