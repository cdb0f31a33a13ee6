"""Programs that others wrote, as simulators."""

from simulators.external.program import (
    LOG,
    ExternalProgramError,
    ExternalSimulator,
    MemberOutcomes,
    end_of_log,
    run_member,
    run_members,
    start_supervised,
)

__all__ = [
    "LOG",
    "ExternalProgramError",
    "ExternalSimulator",
    "MemberOutcomes",
    "end_of_log",
    "run_member",
    "run_members",
    "start_supervised",
]
