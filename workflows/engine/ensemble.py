"""Ensembles: members that fail are recorded and left out, down to a stated quorum."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from workflows.engine.artefacts import Manifest


@dataclass(frozen=True, slots=True)
class Members:
    """What became of the tasks of an ensemble.

    Attributes:
        manifests: of the members that have a result, by member.
        failed: why the others have none, by member.
    """

    manifests: Mapping[int, Manifest] = field(default_factory=dict)
    failed: Mapping[int, str] = field(default_factory=dict)


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
