"""Ensembles: members that fail are recorded and left out, down to a stated quorum."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from workflows.engine.files.artefacts import Manifest


@dataclass(frozen=True, slots=True)
class Members:
    """What became of the tasks of an ensemble.

    Attributes:
        manifests: of the members that have a result, by member.
        failed: why the others have none, by member.
    """

    manifests: Mapping[int, Manifest] = field(default_factory=dict)
    failed: Mapping[int, str] = field(default_factory=dict)


Result = TypeVar("Result")


def without_failing(
    compute: Callable[[list[int]], Result],
    n_rows: int,
    failure: type[Exception],
) -> tuple[list[int], Result | None, dict[int, str]]:
    """Computes a batch of members again without those that fail, until none does.

    Args:
        compute: of the rows that are left.
        n_rows: of the batch.
        failure: its error, whose `members` are places within the rows it was given.

    Returns:
        Rows that succeeded, their result (None without any), causes by failed row.

    Raises:
        Exception: an error of `failure` that names no member.
    """
    rows, causes = list(range(n_rows)), dict[int, str]()
    while rows:
        try:
            return rows, compute(rows), causes
        except failure as error:
            failed: tuple[int, ...] = error.members  # type: ignore[attr-defined]  # its promise
            if not failed:
                raise
            causes |= {rows[k]: str(error) for k in failed}
            rows = [row for row in rows if row not in causes]
    return rows, None, causes


def require_quorum(failed: Mapping[int, str], n_members: int, quorum: float) -> None:
    """Refuse an ensemble of which too few members are left.

    Args:
        failed: causes by member.
        n_members: how many there were to be.
        quorum: the least share, 0 to 1, that must have a result.

    Raises:
        ValueError: fewer have.
    """
    if len(failed) > (1 - quorum) * n_members:
        raise ValueError(
            f"at least {quorum:.0%} of the members must have a result; "
            f"{len(failed)} of {n_members} failed, the first: "
            f"{next(iter(failed.values()))} Lower ensemble.quorum to go on without."
        )
