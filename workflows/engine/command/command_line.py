"""The command line that every workflow has, built from a description of the workflow.

It parses, prepares the run folder, opens the campaign, and turns what goes wrong into
sentences: exit code 0 complete, 1 failed, 2 bad arguments, 130 interrupted.
"""

import inspect
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Generic, NoReturn, TypeVar

import typer
from pydantic import BaseModel

from workflows.engine.command.configuration import (
    build_config,
    choose,
    dotted,
    known_keys,
    parse_settings,
    read_toml,
)
from workflows.engine.command.endings import bad_arguments_exit_2, failures_exit_1
from workflows.engine.files.run_folder import (
    Request,
    given_run_folder,
    locked,
    new_run_folder,
    read_run,
    record_run,
    require_space,
    retract_results,
    runs_folder,
    sweep_leftovers,
    write_inputs,
)
from workflows.engine.sites.site import (
    SiteFile,
    describe_tier,
    load_site,
    require_environment,
    require_plain_path,
)
from workflows.engine.watching.telling import tell

if TYPE_CHECKING:
    from workflows.engine.driving.campaign import Campaign

Config = TypeVar("Config", bound=BaseModel)
Options = Mapping[str, Any]
Inputs = Mapping[str, bytes]

DEFAULT_SIZE = "standard"
MOST_SEED = 2**31 - 1
"""torch's generators on a CPU take 32 bits, half of which are for second streams."""


@dataclass(frozen=True, slots=True)
class Workflow(Generic[Config]):
    """What a workflow tells the engine about itself.

    Attributes:
        name: of its folder below `runs`.
        help: one paragraph for `--help`.
        config: frozen pydantic model; sections are nested frozen models.
        sizes: settings of `smoke`, `standard` and `full`, by dotted key.
        plan: the plan for `--dry-run`, in words.
        run: does the work; what it returns is printed last.
        read_inputs: from the config and the workflow's own options to the content of
            the input files by name. They are kept as `inputs/<name>` of the run, with
            their digests in `run.json`; a continued run needs nothing else.
        disk_bytes: bytes that a run of this config writes.
        options: the workflow's own options, each an `Annotated[type, typer.Option()]`
            by parameter name; they default to None or, for flags, False.
    """

    name: str
    help: str
    config: type[Config]
    sizes: Mapping[str, Mapping[str, object]]
    plan: Callable[[Config], str]
    run: Callable[[Config, "Campaign"], str]
    read_inputs: Callable[[Config, Options], Inputs] = lambda _config, _options: {}
    disk_bytes: Callable[[Config], int] = lambda _config: 0
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Arguments:
    """The words of the common command line, as typed."""

    site: str
    size: str | None
    config_file: Path | None
    settings: tuple[str, ...]
    seed: int | None
    run_dir: Path | None
    dry_run: bool
    invalidate: tuple[str, ...]


def command_line(workflow: Workflow[Config]) -> typer.Typer:
    """The typer application of a workflow; call it to parse `sys.argv` and run."""

    def main(  # noqa: PLR0913  # one argument per option is how typer works
        *,
        site: Annotated[
            str,
            typer.Option(envvar="HEADRACE_SITE", help="Name or file of the machine."),
        ] = "laptop",
        size: Annotated[
            str | None, typer.Option(help="smoke, standard (default) or full.")
        ] = None,
        config: Annotated[
            Path | None, typer.Option(help="Settings in a TOML file.")
        ] = None,
        set_: Annotated[
            list[str] | None,
            typer.Option("--set", metavar="KEY=VALUE", help="One setting; repeatable."),
        ] = None,
        seed: Annotated[
            int | None,
            typer.Option(min=0, max=MOST_SEED, help="Of all random draws; default 0."),
        ] = None,
        run_dir: Annotated[
            Path | None, typer.Option(help="Folder to run in; a run there continues.")
        ] = None,
        dry_run: Annotated[
            bool, typer.Option("--dry-run", help="Print the plan and start nothing.")
        ] = False,
        invalidate: Annotated[
            list[str] | None,
            typer.Option(
                metavar="STEP",
                help="Compute this step, and all that uses it, again; repeatable.",
            ),
        ] = None,
        **options: Any,  # noqa: ANN401  # of the types that the workflow declares
    ) -> None:
        words, steps = tuple(set_ or ()), tuple(invalidate or ())
        _main(
            workflow,
            Arguments(site, size, config, words, seed, run_dir, dry_run, steps),
            options,
        )

    _declare_options(main, workflow.options)
    keys = ", ".join(known_keys(workflow.config))
    application = typer.Typer(
        add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None
    )
    application.command(help=workflow.help, epilog=f"Keys of --set: {keys}.")(main)
    return application


def _main(workflow: Workflow[Config], arguments: Arguments, options: Options) -> None:
    with ExitStack() as stack:
        with bad_arguments_exit_2():
            site_file = load_site(arguments.site)
            require_environment(site_file.site)
            stored = read_run(arguments.run_dir) if arguments.run_dir else None
            if arguments.invalidate and stored is None:
                raise ValueError(
                    "--invalidate must go with the --run-dir of a run; got "
                    f"{arguments.run_dir}."
                )
            size, seed, config = _resolve(workflow, arguments, stored)
            if arguments.dry_run:
                place = arguments.run_dir or runs_folder(workflow.name) / "RUN"
                typer.echo(_dry_run(workflow, config, site_file, size, seed))
                typer.echo(_describe_blocks(site_file, place.absolute()))
                return
            if stored is None:
                inputs = workflow.read_inputs(config, options)
            else:
                _refuse_options(options)
            place = arguments.run_dir or runs_folder(workflow.name)
            require_plain_path(site_file, place)
            require_space(place, workflow.disk_bytes(config))
            folder = (
                given_run_folder(arguments.run_dir)
                if arguments.run_dir
                else new_run_folder(workflow.name, size)
            )
            stack.enter_context(locked(folder))
            if stored is None and read_run(folder):
                raise ValueError(
                    f"one process at a time may begin a run; got {folder}, which "
                    "another began meanwhile. Start again to continue it."
                )
            sweep_leftovers(folder)
            if stored is None:
                write_inputs(folder, inputs)
            request = Request(
                workflow=workflow.name,
                size=size,
                config=config.model_dump(mode="json"),
                seed=seed,
                site=site_file.site.name,
                site_sha256=site_file.sha256,
                command_line=tuple(sys.argv),
            )
            warning = record_run(folder, request)
            if arguments.invalidate:
                _invalidate(folder, arguments.invalidate)
            run = read_run(folder) or {}
        begins = "continues" if stored else "begins"
        tell(
            warning,
            f"run {folder} {begins}: size {size}, seed {seed}, on {request.site}",
        )
        stack.enter_context(failures_exit_1(folder, run))
        _run(workflow, config, site_file, folder, seed)


def _invalidate(folder: Path, steps: tuple[str, ...]) -> None:
    from workflows.engine.driving.journal import invalidate  # brings Parsl

    n_tasks = invalidate(folder / "journal.jsonl", steps)
    retract_results(folder)
    tell(f"{n_tasks} finished tasks will be computed again")


def _refuse_options(options: Options) -> None:
    """A workflow's own options say where inputs come from; a stored run has them."""
    given = [f"--{name.replace('_', '-')}" for name, value in options.items() if value]
    if given:
        raise ValueError(
            f"a continued run has its inputs; got {', '.join(given)}. Leave it out, or "
            "leave --run-dir out to start a new run."
        )


def _run(
    workflow: Workflow[Config],
    config: Config,
    site_file: SiteFile,
    folder: Path,
    seed: int,
) -> None:
    # here, since --help and bad arguments need neither Parsl nor rich
    from rich.console import Console

    from workflows.engine.driving.campaign import open_campaign
    from workflows.engine.pages.crate import write_crate
    from workflows.engine.watching.progress import Progress

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt_once)
    progress = Progress(Console(stderr=True), folder)
    with open_campaign(folder, seed, site_file, progress) as campaign:
        closing = workflow.run(config, campaign)
    write_crate(folder)
    (folder / "failure.txt").unlink(missing_ok=True)  # of an earlier attempt
    tell(progress.summary())
    typer.echo(closing)


def _interrupt_once(_number: int, _frame: object) -> NoReturn:
    """Ctrl-C or SIGTERM: what ends the workers must not be interrupted itself."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _resolve(
    workflow: Workflow[Config], arguments: Arguments, stored: dict[str, Any] | None
) -> tuple[str, int, Config]:
    """Size, seed and config: those of the stored run, else from the arguments."""
    model = workflow.config
    size = choose("size", arguments.size or DEFAULT_SIZE, list(workflow.sizes))
    given: dict[str, Any] = {}
    if arguments.config_file:
        given |= dotted(read_toml(arguments.config_file), model)
    given |= dotted(parse_settings(arguments.settings), model)
    config = build_config(model, dotted(workflow.sizes[size], model) | given)
    if stored is None:
        return size, arguments.seed or 0, config
    asked = {"workflow": workflow.name, "size": arguments.size, "seed": arguments.seed}
    held = {name: stored[name] for name in asked}
    if given:
        resolved = dotted(config.model_dump(mode="json"), model)
        asked |= {key: resolved[key] for key in given}
        held |= dotted(stored["config"], model)
    for name, value in asked.items():
        if value is not None and value != held[name]:
            raise ValueError(
                f"{name} of a continued run must stay {held[name]!r}; got {value!r}. "
                "Only --site may change; leave --run-dir out to start a new run."
            )
    config = build_config(model, dotted(stored["config"], model))
    return stored["size"], stored["seed"], config


def _dry_run(
    workflow: Workflow[Config],
    config: Config,
    site_file: SiteFile,
    size: str,
    seed: int,
) -> str:
    site = site_file.site
    settings = dotted(config.model_dump(mode="json"), workflow.config)
    return "\n".join(
        [
            f"workflow {workflow.name}, size {size}, seed {seed}",
            f"site {site.name}: {site.status}",
            *(
                f"  role {role:<5} -> executor {label}"
                for role, label in site.roles.items()
            ),
            *(f"  tier {describe_tier(tier)}" for tier in site.tiers),
            "settings:",
            *(f"  {key} = {value}" for key, value in settings.items()),
            "plan:",
            workflow.plan(config),
        ]
    )


def _describe_blocks(site_file: SiteFile, folder: Path) -> str:
    """The batch script of each executor, as it would be submitted."""
    from workflows.engine.sites.batch_scripts import batch_scripts

    scripts = batch_scripts(site_file.executors(), folder)
    if not scripts:
        return f"batch scripts: none, site {site_file.site.name} has no batch system"
    return "\n".join(
        f"batch script of executor {label}:\n{script.rstrip()}"
        for label, script in scripts.items()
    )


def _declare_options(main: Callable[..., None], options: Mapping[str, Any]) -> None:
    """Give `main` the signature that typer reads, with the workflow's own options."""
    signature = inspect.signature(main)
    common = [p for p in signature.parameters.values() if p.name != "options"]
    own = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=False if annotation.__origin__ is bool else None,
            annotation=annotation,
        )
        for name, annotation in options.items()
    ]
    main.__signature__ = signature.replace(parameters=common + own)  # type: ignore[attr-defined]  # inspect
    main.__annotations__ = {p.name: p.annotation for p in common + own}
