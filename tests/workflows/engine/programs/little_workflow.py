"""The test workflow: squares of numbers and their total, with a command line."""

import json
from pathlib import Path
from typing import Annotated, Self

import little_steps
import typer
import unimportable_steps
from pydantic import BaseModel, ConfigDict, Field, model_validator

from workflows.engine.command.command_line import Workflow, command_line
from workflows.engine.driving.tasks import Task

square = Task(little_steps.square, role="sim", version="1")
refuse = Task(little_steps.refuse, role="sim", version="1")
lose_storage = Task(little_steps.lose_storage, role="sim", version="1")
fill_disk = Task(little_steps.fill_disk, role="sim", version="1")
unimportable = Task(unimportable_steps.compute, role="sim", version="1")
total = Task(little_steps.total, role="io", version="1")


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class EnsembleConfig(Section):
    members: int = Field(default=4, ge=1)
    seconds: float = Field(default=0.0, ge=0)
    names: tuple[str, ...] = ("a",)


class LittleConfig(Section):
    ensemble: EnsembleConfig = EnsembleConfig()
    failure: str = "none"

    @model_validator(mode="after")
    def _names_fit_members(self) -> Self:
        n_names, n_members = len(self.ensemble.names), self.ensemble.members
        if n_names > n_members:
            raise ValueError(f"names must be at most {n_members}; got {n_names}")
        return self

    bytes_needed: int = 0


def run(config, campaign):
    from workflows.engine.driving.campaign import gather

    members = range(config.ensemble.members)
    squares = [
        campaign.submit(square, little_steps.Number(i, config.ensemble.seconds))
        for i in members
    ]
    if config.failure == "refuse":
        squares.append(campaign.submit(refuse, little_steps.Number(7)))
    if config.failure == "storage":
        squares.append(campaign.submit(lose_storage, little_steps.Number(7)))
    if config.failure == "disk":
        squares.append(campaign.submit(fill_disk, little_steps.Number(7)))
    if config.failure == "import":
        squares.append(campaign.submit(unimportable, little_steps.Number(7)))
    [manifest] = gather(
        [campaign.submit(total, little_steps.Numbers(), squares=squares)]
    )
    value = {"value": manifest.facts["total"], "unit": "1", "interval": [0, 9]}
    metrics = {"total": {**value, "baselines": {"none": 0}}}
    (campaign.folder / "summary.json").write_text(json.dumps({"metrics": metrics}))
    (campaign.folder / "report.html").write_text("complete")
    return f"total {manifest.facts['total']}"


def read_inputs(config, options):
    return {"table.txt": options["data"].read_bytes()} if options["data"] else {}


app = command_line(
    Workflow(
        name="little",
        help="Squares of numbers and their total.",
        config=LittleConfig,
        sizes={
            "smoke": {"ensemble.members": 2},
            "standard": {},
            "full": {"ensemble.members": 100},
        },
        plan=lambda config: f"square {config.ensemble.members} numbers",
        run=run,
        read_inputs=read_inputs,
        disk_bytes=lambda config: config.bytes_needed,
        options={"data": Annotated[Path | None, typer.Option(help="A table.")]},
    )
)

if __name__ == "__main__":
    app()
