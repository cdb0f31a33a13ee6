"""The files of one tier: never partial, never above the quota, shared by processes.

All locks are file locks, which die with their process:

    .lock               held while the bytes of the tier are counted and reserved
    <key>.<id>.partial  has its full size from the start, and so counts as reserved; its
                        writer locks it: one that can be locked is abandoned, and swept
    <key>               readers hold a shared lock: one that cannot be locked is pinned

A tier with a quota belongs to its stagings alone; one without may hold other files too,
and its owner sweeps it.
"""

import fcntl
import os
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from errno import ENOSPC
from pathlib import Path, PurePosixPath

import google_crc32c

from data.durable_files import StagingError, make_folder_durably, sync_folder

CHUNK_BYTES = 2**22
LOCK = ".lock"


@dataclass(frozen=True, slots=True)
class TierFolder:
    """A tier where this process runs.

    Attributes:
        name: of the tier.
        root: its folder, which exists.
        capacity_bytes: that its files may have; None for no limit.
        is_volatile: whether writing waits for the device.
    """

    name: str
    root: Path
    capacity_bytes: int | None
    is_volatile: bool

    def path(self, key: str) -> Path:
        """The file of a key.

        Raises:
            ValueError: the key would leave the tier.
        """
        parts = PurePosixPath(key)
        if parts.is_absolute() or ".." in parts.parts or key in {"", ".", LOCK}:
            raise ValueError(f"a key must be a path below the tier; got {key!r}.")
        return self.root / parts

    def open(self, key: str) -> int | None:
        """A descriptor of a file, pinned until it is closed; None if there is none."""
        try:
            descriptor = os.open(self.path(key), os.O_RDONLY)
        except FileNotFoundError:
            return None
        if self.capacity_bytes is not None:
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        return descriptor

    def write(
        self,
        key: str,
        n_bytes: int,
        chunks: Iterable[bytes],
        is_expendable: Callable[[str], bool],
    ) -> bool:
        """Writes a file that appears when it is complete.

        Args:
            key: its key.
            n_bytes: its size.
            chunks: its content; an error that they raise leaves nothing behind.
            is_expendable: whether the file of a key may be removed to make room.

        Returns:
            False if there is no room, in the quota or on the device.

        Raises:
            StagingError: the tier is too small for this file even when empty.
        """
        if self.capacity_bytes is not None and n_bytes > self.capacity_bytes:
            raise StagingError(
                f"tier {self.name} must hold the largest object, {key} of {n_bytes} "
                f"bytes; its quota is {self.capacity_bytes} bytes. Raise it in the "
                "site file, or write smaller blocks."
            )
        target = self.path(key)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f"{target.name}.{uuid.uuid4().hex}.partial")
        descriptor = self._reserve(partial, n_bytes, is_expendable)
        if descriptor is None:
            return False
        try:
            for chunk in chunks:
                _write_fully(descriptor, memoryview(chunk))
            if not self.is_volatile:
                os.fsync(descriptor)
            with self._locked():  # who counts meets one of both names
                partial.replace(target)
        except BaseException as error:
            partial.unlink(missing_ok=True)
            if isinstance(error, OSError) and error.errno == ENOSPC:
                return False
            raise
        finally:
            os.close(descriptor)
        if not self.is_volatile:
            make_folder_durably(target.parent, root=self.root.parent)
            sync_folder(target.parent)
        return True

    def discard(self, key: str) -> None:
        """Removes a file; who has it open reads on."""
        self.path(key).unlink(missing_ok=True)

    def evict_all(self, is_expendable: Callable[[str], bool]) -> list[str]:
        """Removes what is expendable and not pinned; returns the keys."""
        with self._locked():
            self._reserved_bytes()  # removes what dead writers left
            return [key for key, _ in self._files() if self._evict(key, is_expendable)]

    def _reserve(
        self, partial: Path, n_bytes: int, is_expendable: Callable[[str], bool]
    ) -> int | None:
        """Opens a locked file of the final size if the quota has room for it."""
        with self._locked():
            files = self._files()
            excess = 0
            if self.capacity_bytes is not None:
                used = sum(size for _, size in files) + self._reserved_bytes()
                excess = used + n_bytes - self.capacity_bytes
            for key, size in files:
                if excess <= 0:
                    break
                if self._evict(key, is_expendable):
                    excess -= size
            if excess > 0:
                return None
            descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            os.truncate(descriptor, n_bytes)
            return descriptor

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """No other process reserves, completes or evicts within this."""
        with (self.root / LOCK).open("ab") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield

    def _reserved_bytes(self) -> int:
        """Bytes of the files being written; removes those of dead writers."""
        total = 0
        for partial in self.root.rglob("*.partial"):
            if _is_free(partial):
                partial.unlink(missing_ok=True)
            else:
                total += _state_of(partial)[1]
        return total

    def _files(self) -> list[tuple[str, int]]:
        """Keys and sizes of complete files, the one unused for longest first."""
        found = []
        for path in self.root.rglob("*"):
            if path.is_file() and path.name != LOCK and path.suffix != ".partial":
                last_use, size = _state_of(path)
                found.append((last_use, path.relative_to(self.root).as_posix(), size))
        return [(key, size) for _, key, size in sorted(found)]

    def _evict(self, key: str, is_expendable: Callable[[str], bool]) -> bool:
        if not _is_free(self.path(key)) or not is_expendable(key):
            return False
        self.discard(key)
        return True


def checksum(descriptor: int) -> int:
    """crc32c of an open file from its beginning."""
    value, offset = 0, 0
    while chunk := os.pread(descriptor, CHUNK_BYTES, offset):
        value = google_crc32c.extend(value, chunk)
        offset += len(chunk)
    return int(value)


def _state_of(path: Path) -> tuple[int, int]:
    """Time of last use [ns] and size; zeros if a reader has just removed it."""
    try:
        state = path.stat()
    except FileNotFoundError:
        return 0, 0
    return state.st_mtime_ns, state.st_size


def _is_free(path: Path) -> bool:
    """Whether nobody holds a lock on a file."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    else:
        return True
    finally:
        os.close(descriptor)


def _write_fully(descriptor: int, buffer: memoryview) -> None:
    # one write of Linux takes at most 2 GiB
    done = 0
    while done < len(buffer):
        done += os.write(descriptor, buffer[done:])
