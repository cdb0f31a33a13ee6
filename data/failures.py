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

    Full or unreachable storage and exhausted memory are of the machine and may pass; a
    missing file stays missing, and what a computation raises it raises again.
    """
    if isinstance(error, _OF_THE_CALL):
        return True
    return not isinstance(error, OSError | MemoryError)
