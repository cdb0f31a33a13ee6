"""The command line of `status`."""

import json
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from workflows.engine.command.endings import bad_arguments_exit_2
from workflows.engine.watching.run_view import duration, line, tables
from workflows.status.reading import Reader, find_run
from workflows.status.verdict import Verdict

HELP = """How a run stands, read from its files on any machine that sees them.

Nothing is written and nothing disturbs the run. Exit code 0: complete or running, 1:
failed or killed (says why and how to continue), 2: no such run.
"""

KEYS = """Keys of --json: workflow, run_id, folder, site; status (complete, running,
failed, killed), cause, continue (the command, for failed and killed); begun,
last_event (seconds since 1970); finished_tasks (in the journal: never computed again);
stages: by name submitted, done, running, waiting, failed, reused, tasks_per_s,
seconds_left; blocks: executor, block, job, state, queue_wait_s; trainings: training,
epoch, epochs, status, seconds_left, curve (name), curve_epochs, curve_values; moves:
source, target, copies, bytes, seconds; retries, failures, decisions: their events."""

SECONDS_BETWEEN_LOOKS = 1.0
SECONDS_BETWEEN_LINES = 5.0

application = typer.Typer(
    add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None
)


@application.command(help=HELP, epilog=KEYS)
def main(
    run: Annotated[
        Path,
        typer.Argument(help="Folder of a run, or of runs: then the newest of them."),
    ] = Path("runs"),
    *,
    follow: Annotated[
        bool, typer.Option("--follow", help="Until the run has ended.")
    ] = False,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json", help="One JSON object; with --follow once the run has ended."
        ),
    ] = False,
) -> None:
    """Print how a run stands."""
    with bad_arguments_exit_2():
        reader = Reader(find_run(run))
    verdict = reader.look()
    console = Console()
    if follow and not verdict.is_over:
        is_quiet = as_json or not console.is_terminal
        follow_to_end = _follow_in_lines if is_quiet else _follow_on_terminal
        verdict = follow_to_end(reader, Console(stderr=True) if as_json else console)
    if as_json:
        typer.echo(json.dumps(reader.answer(verdict)))
    else:
        console.print(_screen(reader, verdict), soft_wrap=True)
    raise typer.Exit(int(verdict.status in ("failed", "killed")))


def _follow_on_terminal(reader: Reader, console: Console) -> Verdict:
    verdict = Verdict("running")
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while not verdict.is_over:
            live.update(_screen(reader, verdict), refresh=True)
            time.sleep(SECONDS_BETWEEN_LOOKS)
            verdict = reader.look()
    return verdict


def _follow_in_lines(reader: Reader, console: Console) -> Verdict:
    verdict, shown, told_at = Verdict("running"), "", 0.0
    while not verdict.is_over:
        now, text = time.monotonic(), line(reader.state, time.time())
        if text and text != shown and now - told_at > SECONDS_BETWEEN_LINES:
            shown, told_at = text, now
            console.print(text, soft_wrap=True, markup=False, highlight=False)
        time.sleep(SECONDS_BETWEEN_LOOKS)
        verdict = reader.look()
    return verdict


def _screen(reader: Reader, verdict: Verdict) -> Group:
    head = f"{reader.folder}: {verdict.status}"
    if not verdict.is_over and reader.state.begun:
        head += f" for {duration(time.time() - reader.state.begun)}"
    return Group(
        Text(head),
        tables(reader.state, reader.now(verdict)),
        *map(Text, _advice(reader, verdict)),
    )


def _advice(reader: Reader, verdict: Verdict) -> list[str]:
    """What went wrong and what to do, or where the results are."""
    if verdict.status == "complete":
        return [f"report: {reader.folder / 'report.html'}"]
    if verdict.status == "running":
        return []
    kept = f"{reader.n_finished} finished tasks are kept. To continue:"
    command = f"  {reader.continuation()}"
    return [*filter(None, [verdict.cause]), kept, command]
