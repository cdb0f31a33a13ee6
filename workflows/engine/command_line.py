"""The command line that every workflow has, built from a description of the workflow.

It parses, prepares the run folder, opens the campaign, and turns what goes wrong into
sentences: exit code 0 complete, 1 failed, 2 bad arguments, 130 interrupted.
"""

import inspect
import shlex
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Generic, TypeVar

import typer
from pydantic import BaseModel

from workflows.engine.configuration import (
    build_config,
    choose,
    dotted,
    known_keys,
    parse_settings,
    read_toml,
)
from workflows.engine.run_folder import (
    Request,
    given_run_folder,
    locked,
    new_run_folder,
    read_run,
    record_run,
    require_space,
    write_inputs,
)
from workflows.engine.site import SiteFile, load_site

if TYPE_CHECKING:
    from workflows.engine.campaign import Campaign

Config = TypeVar("Config", bound=BaseModel)
Options = Mapping[str, Any]
Inputs = Mapping[str, bytes]

DEFAULT_SIZE = "standard"

_BAD_ARGUMENTS = (
    ValueError,
    FileNotFoundError,
    FileExistsError,
    NotADirectoryError,
    PermissionError,
    BlockingIOError,
)


@dataclass(frozen=True, slots=True)
class Workflow(Generic[Config]):
    """What a workflow tells the engine about itself.

    Attributes:
        name: of its package below `workflows`, and of its folder below `runs`.
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


def command_line(workflow: Workflow[Config]) -> typer.Typer:
    """The typer application of a workflow; call it to parse `sys.argv` and run."""

    def main(
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
            int | None, typer.Option(min=0, help="Of all random draws; 0 by default.")
        ] = None,
        run_dir: Annotated[
            Path | None, typer.Option(help="Folder to run in; a run there continues.")
        ] = None,
        dry_run: Annotated[
            bool, typer.Option("--dry-run", help="Print the plan and start nothing.")
        ] = False,
        **options: Any,  # noqa: ANN401  # of the types that the workflow declares
    ) -> None:
        words = tuple(set_ or ())
        _main(
            workflow,
            Arguments(site, size, config, words, seed, run_dir, dry_run),
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
        with _bad_arguments_exit_2():
            site_file = load_site(arguments.site)
            stored = read_run(arguments.run_dir) if arguments.run_dir else None
            size, seed, config = _resolve(workflow, arguments, stored)
            if arguments.dry_run:
                typer.echo(_dry_run(workflow, config, site_file, size, seed))
                return
            if stored is None:
                inputs = workflow.read_inputs(config, options)
            else:
                _refuse_options(options)
            folder = (
                given_run_folder(arguments.run_dir)
                if arguments.run_dir
                else new_run_folder(workflow.name, size)
            )
            stack.enter_context(locked(folder))
            require_space(folder, workflow.disk_bytes(config))
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
            record_run(folder, request)
        stack.enter_context(_failures_exit_1(folder, _continuation(workflow, folder)))
        _run(workflow, config, site_file, folder, seed)


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

    from workflows.engine.campaign import open_campaign
    from workflows.engine.progress import Progress

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    typer.echo(f"run {folder} on {site_file.site.name}", err=True)
    progress = Progress(Console(stderr=True), folder)
    with open_campaign(folder, seed, site_file, progress) as campaign:
        closing = workflow.run(config, campaign)
    typer.echo(progress.summary(), err=True)
    typer.echo(closing)


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
            "settings:",
            *(f"  {key} = {value}" for key, value in settings.items()),
            "plan:",
            workflow.plan(config),
        ]
    )


def _continuation(workflow: Workflow[Config], folder: Path) -> str:
    return f"python -m workflows.{workflow.name} --run-dir {shlex.quote(str(folder))}"


@contextmanager
def _bad_arguments_exit_2() -> Iterator[None]:
    try:
        yield
    except _BAD_ARGUMENTS as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
    except OSError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error


@contextmanager
def _failures_exit_1(folder: Path, continuation: str) -> Iterator[None]:
    """Say what went wrong on one screen; the traceback goes to a file of the run."""
    try:
        yield
    except KeyboardInterrupt as error:
        # a second interrupt must not hide how to continue
        typer.echo(f"\ninterrupted; to continue:\n  {continuation}", err=True)
        raise typer.Exit(130) from error
    except Exception as error:
        path = folder / "failure.txt"
        trace = "".join(traceback.format_exception(error))
        path.write_text(trace, encoding="utf-8")
        lines = [
            f"failed: {type(error).__name__}: {_shortened(str(error))}",
            *(f"  {_shortened(note)}" for note in getattr(error, "__notes__", [])),
            f"traceback: {path}",
            f"to continue, once the cause is gone:\n  {continuation}",
        ]
        typer.echo("\n".join(lines), err=True)
        raise typer.Exit(1) from error


def _shortened(text: str, n_characters: int = 1200) -> str:
    return text if len(text) <= n_characters else f"{text[:n_characters]} ..."


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
    main.__signature__ = signature.replace(parameters=common + own)  # type: ignore[attr-defined]
    main.__annotations__ = {p.name: p.annotation for p in common + own}
