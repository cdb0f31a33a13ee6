"""Sites: one machine per file, found by name, and what such files share.

A site file defines `SITE` and `executors()`, a list of fresh Parsl executors; importing
it starts nothing. Everything that does not differ between machines is the engine's.
"""

import importlib.util
import os
import re
import shlex
import shutil
import sys
import sysconfig
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from string import Template
from typing import Any

from data.staging import Tier
from workflows.engine.files.program import this_program

ROLES = ("sim", "train", "io")
SITE_MODULE = "_headrace_site_"  # before the names of site files, which nobody imports
LOOPBACK = "127.0.0.1"

_SHARED_MEMORY = Path("/dev/shm")
_LEAST_MEMORY, _MOST_MEMORY = 2**28, 2**30  # bytes; it is the memory of tasks, too

_PACKAGES = Path(__file__).parents[3]
_FOLDERS = (_PACKAGES / "site-configs", Path(__file__).parent / "site_configs")


@dataclass(frozen=True, slots=True)
class Site:
    """What a workflow may know about a machine.

    Attributes:
        name: as given to `--site`.
        status: one line: what it is and where it was tested.
        cores_per_node: CPU cores that tasks may use.
        gpus_per_node: accelerators that tasks may use.
        roles: executor label of each role `sim`, `train`, `io`.
        rank_launch_prefix: words before the command of a training rank, as `srun`.
        tiers: storage from the fastest to the last, which outlives the run.
        address: IP address or network interface where workers reach the driver;
            nothing listens elsewhere.
        needs: environment variables that must be set, each with what it stands for.
    """

    name: str
    status: str
    cores_per_node: int
    gpus_per_node: int
    roles: Mapping[str, str]
    rank_launch_prefix: tuple[str, ...] = ()
    tiers: tuple[Tier, ...] = ()
    address: str = LOOPBACK
    needs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SiteFile:
    """A loaded site file; `executors` builds Parsl executors, which are untyped."""

    site: Site
    executors: Callable[[], list[Any]]
    path: Path
    sha256: str


def load_site(name_or_path: str) -> SiteFile:
    """Load a site by the path of its file or by its name.

    Names are looked up in `site-configs/` of the checkout, then in the installed copy.

    Raises:
        FileNotFoundError: if there is no such site; names the known ones.
        ValueError: if the file is not a site file; says what it must define, or what
            went wrong in it.
    """
    path = _find_site_file(name_or_path)
    module_name = f"{SITE_MODULE}{path.stem}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"a site file must be a Python file; got {path}.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ValueError(
            f"site file {path} must load without an error; got "
            f"{type(error).__name__}: {error}."
        ) from error
    site, executors = getattr(module, "SITE", None), getattr(module, "executors", None)
    if not isinstance(site, Site) or not callable(executors):
        raise ValueError(  # noqa: TRY004  # the file is wrong, not an argument's type
            f"site file {path} must define SITE (a Site of "
            "workflows.engine.sites.site) and executors() -> list; got "
            f"SITE={site!r}, executors={executors!r}."
        )
    if set(site.roles) != set(ROLES):
        raise ValueError(
            f"SITE.roles of {path} must map {', '.join(ROLES)} to executor labels; "
            f"got {dict(site.roles)}."
        )
    return SiteFile(site, executors, path, sha256(path.read_bytes()).hexdigest())


def known_sites() -> list[str]:
    """Names that `load_site` finds without a path."""
    return sorted({path.stem for folder in _FOLDERS for path in folder.glob("*.py")})


def require_environment(site: Site) -> None:
    """Refuse a site before any work where a variable that it needs is not set.

    Raises:
        ValueError: names every missing variable, what it stands for and how to set it.
    """
    missing = {n: use for n, use in site.needs.items() if not os.environ.get(n)}
    if missing:
        listed = ", ".join(f"{name} ({use})" for name, use in missing.items())
        raise ValueError(
            f"site {site.name} needs environment variables; not set: {listed}. "
            f"Set each, as export {next(iter(missing))}=VALUE."
        )


def require_plain_path(site_file: SiteFile, folder: Path) -> None:
    """Refuse a run folder that Parsl's unquoted shell commands would not take as it is.

    Only where a site starts workers in processes; threads take any name.

    Raises:
        ValueError: names the characters that the path must not hold.
    """
    place = os.path.realpath(folder)  # takes links in a circle, which others refuse
    others = sorted(set(re.sub(r"[\w/.,:=@+-]", "", place)))
    if not others:
        return
    if any(hasattr(executor, "provider") for executor in site_file.executors()):
        raise ValueError(
            f"the path of a run on site {site_file.site.name} must consist of letters, "
            f"digits and _ / . , : = @ + -; got {' '.join(map(repr, others))} in "
            f"{place!r}. Choose another --run-dir."
        )


def describe_tier(tier: Tier) -> str:
    """One line: where a tier lies, and which variables of its root are not set here."""
    kind = "volatile" if tier.is_volatile else "lasting"
    line = f"{tier.name:<12} {tier.root} ({kind}, seen by the {tier.scope})"
    missing = [n for n in Template(tier.root).get_identifiers() if n not in os.environ]
    if not missing:
        return line
    instead = f"{tier.fallback} instead" if tier.fallback else "no fallback"
    return f"{line}; not set here: {', '.join(missing)}: {instead}"


def worker_environment() -> str:
    """Shell lines for `worker_init`: workers import what the driver imports.

    Workers start elsewhere and see neither the driver's folder nor its thread count.
    The folder of a study comes last: no file in it stands for a package of ours.
    """
    packages, study = shlex.quote(str(_PACKAGES)), this_program().folder
    is_found = study in {str(_PACKAGES), sysconfig.get_path("purelib")}
    last = "" if is_found else f":{shlex.quote(study)}"
    return (
        f'export PYTHONPATH={packages}"${{PYTHONPATH:+:$PYTHONPATH}}"{last}\n'
        "export OMP_NUM_THREADS=1"
    )


def local_tiers() -> tuple[Tier, ...]:
    """Tiers of one computer: shared memory where it has some to spare, and its disk."""
    disk = Tier("file_system", ".", None, is_volatile=False, scope="site")
    if not _SHARED_MEMORY.is_dir():
        return (disk,)
    spare = shutil.disk_usage(_SHARED_MEMORY).free // 2
    if spare < _LEAST_MEMORY:
        return (disk,)
    root = str(_SHARED_MEMORY / f"headrace-{os.getuid()}")
    quota = min(spare, _MOST_MEMORY)
    return Tier("memory", root, quota, is_volatile=True, scope="node"), disk


def python_commands(*, are_pools_here: bool = False) -> dict[str, Any]:
    """Executor options that start Parsl's processes with this very interpreter.

    Parsl looks its scripts up on PATH, which lacks them unless the virtual environment
    is activated. This process is taken for the driver: with it ends the interchange,
    and worker pools that are on this computer.
    """
    from parsl.executors.high_throughput.executor import DEFAULT_LAUNCH_CMD

    module = "parsl.executors.high_throughput.process_worker_pool"
    if are_pools_here:
        module = f"workflows.engine.driving.local_pool {os.getpid()}"
    pool = f"{shlex.quote(sys.executable)} -m {module}"
    return {
        "launch_cmd": DEFAULT_LAUNCH_CMD.replace("process_worker_pool.py", pool),
        "interchange_launch_cmd": [
            *(
                sys.executable,
                "-m",
                "workflows.engine.driving.interchange",
                str(os.getpid()),
            )
        ],
    }


def _find_site_file(name_or_path: str) -> Path:
    if name_or_path.endswith(".py") or "/" in name_or_path:
        candidates = [Path(name_or_path)]
    else:
        candidates = [folder / f"{name_or_path}.py" for folder in _FOLDERS]
    for path in candidates:
        if path.is_file():
            return path.resolve()
    raise FileNotFoundError(
        f"no site {name_or_path}; known sites: {', '.join(known_sites())}."
    )
