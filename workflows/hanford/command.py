"""The command line of the Hanford workflow."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from workflows.engine.command.command_line import (
    Inputs,
    Options,
    Workflow,
    command_line,
)
from workflows.hanford.config import (
    SIZES,
    HanfordConfig,
    describe_plan,
    disk_bytes,
    require_fit,
)

if TYPE_CHECKING:
    from workflows.engine.driving.campaign import Campaign

HELP = """Transmissivity and head under the Hanford Site, with uncertainty.

Fits a Gaussian prior to transmissivity measurements, simulates an ensemble of steady
flow, learns the head with ridge regression and a network, and writes a report. Without
the published data (--data, $HEADRACE_HANFORD_DATA or --fetch-data) a synthetic aquifer
of the same kind is used; --measurements asks with your own values. Results go to
runs/hanford/; a run that was stopped or killed continues with --run-dir.
"""


def _read_inputs(config: HanfordConfig, options: Options) -> Inputs:
    from data.sources.aquifer_file import pack_aquifer
    from data.sources.measurements import parse_measurements
    from workflows.hanford.site_data import describe, find_aquifer

    aquifer = find_aquifer(
        options["data"],
        fetch=options["fetch_data"],
        say=partial(typer.echo, err=True),
    )
    typer.echo(describe(aquifer))
    inputs = {"aquifer.npz": pack_aquifer(aquifer)}
    n_measured: int = config.prior.n_observations
    if options["measurements"]:
        if not options["measurements"].is_file():
            raise FileNotFoundError(
                "--measurements must name a table of cells and ln T; got "
                f"{options['measurements']}."
            )
        text = options["measurements"].read_text(encoding="utf-8")
        n_measured = len(parse_measurements(text, aquifer.n_cells).cells)
        inputs["measurements.csv"] = text.encode()
    require_fit(config, aquifer.n_cells, n_measured)
    return inputs


def _run(config: HanfordConfig, campaign: "Campaign") -> str:
    from workflows.hanford.pipeline import run

    return run(config, campaign)


application = command_line(
    Workflow(
        name="hanford",
        help=HELP,
        config=HanfordConfig,
        sizes=SIZES,
        plan=describe_plan,
        run=_run,
        read_inputs=_read_inputs,
        disk_bytes=disk_bytes,
        options={
            "data": Annotated[
                Path | None, typer.Option(help="Folder of the published data.")
            ],
            "measurements": Annotated[
                Path | None,
                typer.Option(
                    help="Your own measurements instead of a published set: a table "
                    "with the columns cell,log_transmissivity."
                ),
            ],
            "fetch_data": Annotated[
                bool,
                typer.Option(
                    "--fetch-data",
                    help="Fetch the published data into a cache.",
                ),
            ],
        },
    )
)
