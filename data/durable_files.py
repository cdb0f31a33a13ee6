"""Files that are complete or absent, and stay so after a power cut.

Protocol: write `<name>.<uuid>.partial` in the target folder, fsync it, rename it, fsync
the folder. A kill at any instant leaves the old file, the new one, or a `.partial`.
"""

import os
import uuid
from collections.abc import Iterable
from pathlib import Path


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
    """Removes what killed writers left below a folder; returns the removed files.

    Only for the owner of the folder, and never while another process may write there.
    """
    swept = sorted(folder.rglob("*.partial"))
    for path in swept:
        path.unlink(missing_ok=True)
    return swept
