"""The batch scripts that Parsl would submit for a site, written without submitting.

The provider itself writes each script, then stops short of its submission. Three things
are known only once a run has begun and stand in capitals: its folder where none was
given, the port of the driver, and the time in the name of a job.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from string import Template
from typing import Any, NoReturn

from parsl.providers.cluster_provider import ClusterProvider


class _Rendered(Exception):  # noqa: N818  # no error: it carries the text past `submit`
    """The script of a block, in place of its submission."""


def batch_scripts(executors: Iterable[Any], folder: Path) -> dict[str, str]:
    """The script of each executor's first block by label, if a batch system runs it.

    Args:
        executors: fresh Parsl executors, not started; of no further use after.
        folder: of the run; need not exist.
    """
    return {
        executor.label: _script(executor, folder / "parsl" / "000")
        for executor in executors
        if isinstance(getattr(executor, "provider", None), ClusterProvider)
    }


def _script(executor: Any, run_dir: Path) -> str:  # noqa: ANN401  # parsl is untyped
    executor.run_dir = str(run_dir)
    executor.worker_port = executor.worker_port or "PORT"
    executor.logconf_path = None
    if executor.encrypted:
        executor.cert_dir = f"{executor.logdir}/certificates"
    executor.provider.script_dir = str(run_dir / "submit_scripts")
    executor.provider._write_submit_script = _render
    executor.initialize_scaling()
    try:
        executor._launch_block("0")
    except _Rendered as rendered:
        return re.sub(r"(\.block-0\.)[\d.]*\d", r"\1TIME", str(rendered))
    raise RuntimeError(f"{executor.label} must write a script; it wrote none.")


def _render(
    template: str, _path: str, job_name: str, values: dict[str, object]
) -> NoReturn:
    raise _Rendered(Template(template).substitute(jobname=job_name, **values))
