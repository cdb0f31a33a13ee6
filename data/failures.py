"""Which errors come again wherever the same work is done, and which may not."""

_OF_THE_CALL = (
    FileNotFoundError,
    FileExistsError,
    PermissionError,
    IsADirectoryError,
    NotADirectoryError,
)


def is_permanent(error: BaseException) -> bool:
    """Whether the same call would fail again on another node or at another time.

    Full or unreachable storage, exhausted memory and lost processes are of the machine
    and may pass; a missing file stays missing, and what a computation raises it raises
    again. Where another process has judged, its `is_deterministic` holds.
    """
    judged: bool | None = getattr(error, "is_deterministic", None)
    if judged is not None:
        return judged
    if isinstance(error, _OF_THE_CALL):
        return True
    return not isinstance(error, OSError | MemoryError)
