"""Folders in places that others can write to, such as `/dev/shm`: ours, or not used.

Who makes a folder there first owns what is put into it, and may put links and pipes
where files are expected. So every folder on the way must belong to us or to the system,
and nobody else may replace what lies in it; ours is readable by us alone.
"""

import os
import stat
from pathlib import Path

from data.durable_files import StagingError

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


class UntrustedFolderError(StagingError):
    """Another user may have made or may change a folder."""


def require_private(folder: Path) -> None:
    """Makes a folder with mode 0700, or checks that one is ours.

    Raises:
        UntrustedFolderError: it or one above it is a link of somebody's, belongs to
            another user, or can be replaced by others.
        OSError: it cannot be made.
    """
    folder = folder.absolute()
    for above in reversed(folder.parents):
        if not os.path.lexists(above):
            above.mkdir(mode=0o700, exist_ok=True)
        _require_safe(above)
    folder.mkdir(mode=0o700, exist_ok=True)
    state = folder.lstat()
    if not stat.S_ISDIR(state.st_mode) or state.st_uid != os.getuid():
        raise _refusal(folder, "a link, no folder, or another user's")
    if stat.S_IMODE(state.st_mode) & 0o077:
        folder.chmod(0o700)  # of an earlier release


def open_own_file(path: Path, flags: int) -> int:
    """A descriptor of a regular file of ours; neither follows a link nor waits.

    Raises:
        UntrustedFolderError: there is something else.
        FileNotFoundError: there is none and `flags` do not create it.
    """
    ours = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags | ours, 0o600)
    except FileNotFoundError:
        raise
    except OSError as error:  # a link, a folder, a pipe without a reader
        raise _refusal(path, error.strerror or "no file") from error
    state = os.fstat(descriptor)
    if stat.S_ISREG(state.st_mode) and state.st_uid == os.getuid():
        return descriptor
    os.close(descriptor)
    raise _refusal(path, "no file of ours")


def _require_safe(folder: Path) -> None:
    state = folder.lstat()
    if stat.S_ISLNK(state.st_mode) and state.st_uid in (0, os.getuid()):
        state = folder.stat()  # such as /var/run; nobody else can turn it
    if not stat.S_ISDIR(state.st_mode) or state.st_uid not in (0, os.getuid()):
        raise _refusal(folder, "another user's")
    is_sticky = bool(state.st_mode & stat.S_ISVTX)
    if state.st_mode & _OTHERS_WRITE and not is_sticky:
        raise _refusal(folder, "writable by others")


def _refusal(path: Path, found: str) -> UntrustedFolderError:
    return UntrustedFolderError(
        f"{path} must belong to this user and be closed to others; it is {found}"
    )
