"""Programs that others wrote, as simulators."""

from simulators.external.program import (
    LOG,
    ExternalProgramError,
    ExternalSimulator,
    MemberOutcomes,
    run_member,
    run_members,
)

__all__ = [
    "LOG",
    "ExternalProgramError",
    "ExternalSimulator",
    "MemberOutcomes",
    "run_member",
    "run_members",
]
