"""The command line of the shallow-water workflow."""

from typing import TYPE_CHECKING

from workflows.engine.command.command_line import Workflow, command_line
from workflows.shallow_water.config import (
    SIZES,
    ShallowWaterConfig,
    describe_plan,
    disk_bytes,
)

if TYPE_CHECKING:
    from workflows.engine.driving.campaign import Campaign

HELP = """Shallow water on the rotating sphere, and networks that stand in for it.

Simulates an ensemble of perturbed Galewsky jets and random balanced states, trains
networks that carry a flow ahead, and corrections of a coarse solver, and rolls them
out for days beside persistence, climatology, vorticity that the wind carries along, and
coarser and finer solvers. A guard
hands a rollout that leaves what the network knows over to the solver, and such flows
are simulated and learned next. Results go to runs/shallow_water/; a run that was
stopped or killed continues with --run-dir.
"""


def _run(config: ShallowWaterConfig, campaign: "Campaign") -> str:
    from workflows.shallow_water.pipeline import run

    return run(config, campaign)


application = command_line(
    Workflow(
        name="shallow_water",
        help=HELP,
        config=ShallowWaterConfig,
        sizes=SIZES,
        plan=describe_plan,
        run=_run,
        disk_bytes=disk_bytes,
    )
)
