"""Files that are complete or absent, and stay so after a power cut.

Protocol: write `<name>.<uuid>.partial` in the target folder, fsync it, rename it, fsync
the folder. A kill at any instant leaves the old file, the new one, or a `.partial`.
Folders that must appear whole are made under such names, too.
"""

import os
import re
import shutil
import uuid
from collections.abc import Iterable
from pathlib import Path

_PARTIAL = re.compile(r".+\.[0-9a-f]{32}\.partial")


class StagingError(Exception):
    """Stored data are missing, incomplete, damaged or of another layout."""


def write_durably(target: Path, parts: Iterable[bytes | memoryview]) -> None:
    """Writes the parts as one file; it is on the device when this returns.

    Args:
        target: the file; its folder exists.
        parts: contiguous buffers, written one after the other.

    Raises:
        OSError: the device refused; its `filename` is the partial file, now removed.
    """
    partial = target.with_name(f"{target.name}.{uuid.uuid4().hex}.partial")
    try:
        with partial.open("xb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)
    except OSError as error:
        error.filename = error.filename or str(partial)
        partial.unlink(missing_ok=True)
        raise
    sync_folder(target.parent)


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Makes all files and folders below a folder survive a power cut."""
    for path in [folder, *folder.rglob("*")]:
        sync_folder(path)


def make_folder_durably(folder: Path, root: Path) -> None:
    """Creates a folder below `root`, and the folders between them, to stay."""
    folder.mkdir(parents=True, exist_ok=True)
    for parent in folder.parents:
        sync_folder(parent)
        if parent == root:
            return


def sweep_partial_files(folder: Path) -> list[Path]:
    """Removes files and folders that killed writers left below a folder; returns them.

    Links are not followed, not even that of `folder` itself. Only for the owner of the
    folder, and never while another process may write there.
    """
    swept: list[Path] = []
    for place, folders, files in () if folder.is_symlink() else os.walk(folder):
        swept += [Path(place, name) for name in files if is_partial(name)]
        swept += [Path(place, name) for name in folders if is_partial(name)]
        folders[:] = [name for name in folders if not is_partial(name)]
    for path in swept:
        remove_partial(path)
    return sorted(swept)


def is_partial(name: str) -> bool:
    """Whether a file or folder has a name that only unfinished ones of ours have."""
    return _PARTIAL.fullmatch(name) is not None


def remove_partial(path: Path) -> None:
    """Removes a file, a link or a folder, whatever else is removing it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
