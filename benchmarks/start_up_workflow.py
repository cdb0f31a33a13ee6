"""The smallest workflow, one task: what the start-up benchmark starts."""

from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict

from workflows.engine.command.command_line import Workflow, command_line

if TYPE_CHECKING:
    from workflows.engine.driving.campaign import Campaign


class StartUpConfig(BaseModel):
    """Which step runs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: Literal["answer", "import_missing"] = "answer"


def run(config: StartUpConfig, campaign: "Campaign") -> str:
    """Run the one task; its answer."""
    from benchmarks import start_up_steps
    from workflows.engine.driving.campaign import gather
    from workflows.engine.driving.tasks import Task

    step = getattr(start_up_steps, config.step)
    task = campaign.submit(Task(step, "sim", "1"), start_up_steps.Nothing())
    [manifest] = gather([task])
    print(f"answer {manifest.facts['answer']}", flush=True)
    return "end"


if __name__ == "__main__":
    command_line(
        Workflow(
            name="start_up",
            help="One task.",
            config=StartUpConfig,
            sizes={"standard": {}},
            plan=lambda _config: "one task",
            run=run,
        )
    )()
