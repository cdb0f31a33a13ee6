"""Objects on storage tiers: written to the fastest with room, kept by the last.

    put, open, promote, prefetch     towards the task
    stage_out, drain, evict          towards the last tier, and out of the others
    verify

An object is a key and bytes that never change. The only copy is never evicted: a file
of a tier goes only if a file below it has the same crc32c, which is read for that. What
is opened or copied is compared with its handle; a corrupt replica is removed and copied
anew from below.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Self

import google_crc32c

from data.durable_files import StagingError
from data.staging.private_folders import require_private
from data.staging.tier_folder import CHUNK_BYTES, TierFolder, checksum
from data.staging.tiers import Tier, folder_of

TASK = "task"  # where bytes come from that no tier had

Log = Callable[[Mapping[str, object]], None]


@dataclass(frozen=True, slots=True)
class Handle:
    """What tasks pass on of an object: its key, size and crc32c."""

    key: str
    n_bytes: int
    crc32c: int


class Staging:
    """The tiers where this process runs; threads and processes may share them.

    Args:
        tiers: from the fastest to the last, which keeps every object.
        environment: variables of the roots.
        log: gets a record of every movement, removal and fallback.

    Raises:
        StagingError: a tier has no folder here.
    """

    def __init__(
        self, tiers: Sequence[Tier], environment: Mapping[str, str], log: Log
    ) -> None:
        self._log = log
        self._folders = [
            _opened(tier, environment, log, is_last=tier is tiers[-1]) for tier in tiers
        ]
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="staging")

    def put(self, key: str, parts: Sequence[bytes]) -> Handle:
        """Writes an object to the fastest tier with room.

        Raises:
            StagingError: a tier is too small for it even when empty, or none has room.
        """
        value = 0
        for part in parts:
            value = google_crc32c.extend(value, part)
        handle = Handle(key, sum(len(part) for part in parts), value)
        for level in range(len(self._folders)):
            if self._write(level, handle, parts, TASK):
                return handle
        raise StagingError(
            f"a tier must have room for {key} of {handle.n_bytes} bytes; all are full "
            "of objects that have no other copy or are in use. Stage them out."
        )

    def open(self, handle: Handle) -> int:
        """A descriptor of the fastest valid replica, pinned until it is closed.

        Raises:
            StagingError: there is no valid replica; names what was found.
        """
        level, descriptor, corrupt = self._open_valid(handle)
        if not corrupt:
            return descriptor
        os.close(descriptor)
        for above in corrupt:
            self._drop(above, handle)
        self._copy(handle, level, corrupt[0])
        return self._open_valid(handle)[1]

    def promote(self, handle: Handle) -> str:
        """Copies an object to the fastest tier if it has room.

        Returns:
            The name of the fastest tier that holds it now.

        Raises:
            StagingError: there is no valid replica, or the tier is too small for the
                object even when empty.
        """
        level = self._level_of(handle)
        if level and self._copy(handle, level, 0):
            level = 0
        return self._folders[level].name

    def prefetch(self, handles: Iterable[Handle]) -> Future[None]:
        """Promotes objects one after the other, in a thread."""
        wanted = list(handles)

        def promote_all() -> None:
            for handle in wanted:
                self.promote(handle)

        return self._thread.submit(promote_all)

    def stage_out(self, handle: Handle) -> Future[None]:
        """Copies an object to the last tier, in a thread, and reads it back."""
        return self._thread.submit(self._stage_out, handle)

    def drain(self, handles: Iterable[Handle], deadline: float) -> None:
        """Copies to the last tier what is not there, while there is time.

        Args:
            handles: objects to keep.
            deadline: time [s since 1970] after which no copy begins.

        Raises:
            StagingError: some objects were left; names the first.
        """
        waiting = [h for h in handles if not self._is_valid(len(self._folders) - 1, h)]
        for k, handle in enumerate(waiting):
            if time.time() >= deadline:
                raise StagingError(
                    f"all objects must be in tier {self._folders[-1].name} before the "
                    f"deadline; {len(waiting) - k} of {len(waiting)} are not, the "
                    f"first is {handle.key}. Drain earlier."
                )
            self._stage_out(handle)

    def verify(self, handle: Handle) -> list[str]:
        """Names of the tiers with a valid replica; removes others if there is one.

        Raises:
            StagingError: there is no valid replica.
        """
        levels = range(len(self._folders))
        valid = [level for level in levels if self._is_valid(level, handle)]
        if not valid:
            raise self._no_replica(handle)
        for level in levels:
            if level not in valid and self._folders[level].path(handle.key).exists():
                self._drop(level, handle)
        return [self._folders[level].name for level in valid]

    def evict(self) -> None:
        """Empties the tiers above the last of what has a verified copy below."""
        for level, folder in enumerate(self._folders[:-1]):
            for key in folder.evict_all(self._has_copy_below(level)):
                self._log({"event": "evicted", "key": key, "tier": folder.name})

    def close(self) -> None:
        """Waits for what was begun, and drops what was not."""
        self._thread.shutdown(cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open_valid(self, handle: Handle) -> tuple[int, int, list[int]]:
        """Level and descriptor of the fastest valid replica; corrupt ones above it."""
        corrupt: list[int] = []
        for level, folder in enumerate(self._folders):
            descriptor = folder.open(handle.key)
            if descriptor is None:
                continue
            if _matches(descriptor, handle):
                if folder.capacity_bytes is not None:
                    os.utime(descriptor)  # eviction begins with what is unused
                return level, descriptor, corrupt
            os.close(descriptor)
            corrupt.append(level)
        raise self._no_replica(handle)

    def _level_of(self, handle: Handle) -> int:
        level, descriptor, corrupt = self._open_valid(handle)
        os.close(descriptor)
        for above in corrupt:
            self._drop(above, handle)
        return level

    def _is_valid(self, level: int, handle: Handle) -> bool:
        descriptor = self._folders[level].open(handle.key)
        if descriptor is None:
            return False
        try:
            return _matches(descriptor, handle)
        finally:
            os.close(descriptor)

    def _stage_out(self, handle: Handle) -> None:
        last = len(self._folders) - 1
        level = self._level_of(handle)
        if level == last:
            return
        if not self._copy(handle, level, last) or not self._is_valid(last, handle):
            raise StagingError(
                f"tier {self._folders[last].name} must take {handle.key} of "
                f"{handle.n_bytes} bytes; it has no room or does not keep what was "
                "written. The object stays where it is."
            )

    def _copy(self, handle: Handle, source: int, target: int) -> bool:
        """Copies a valid replica; False if the target has no room."""
        descriptor = self._folders[source].open(handle.key)
        if descriptor is None:
            raise self._no_replica(handle)
        try:
            chunks = _checked_chunks(descriptor, handle)
            return self._write(target, handle, chunks, self._folders[source].name)
        finally:
            os.close(descriptor)

    def _write(
        self,
        level: int,
        handle: Handle,
        chunks: Iterable[bytes],
        source: str,
    ) -> bool:
        folder, began = self._folders[level], time.perf_counter()
        may_go = self._has_copy_below(level)
        if not folder.write(handle.key, handle.n_bytes, chunks, may_go):
            return False
        self._log(
            {
                "event": "moved",
                "key": handle.key,
                "bytes": handle.n_bytes,
                "source": source,
                "target": folder.name,
                "seconds": time.perf_counter() - began,
            }
        )
        return True

    def _has_copy_below(self, level: int) -> Callable[[str], bool]:
        """Whether a key of a tier has the same bytes in a tier below."""

        def compare(key: str) -> bool:
            value = _checksum_in(self._folders[level], key)
            below = self._folders[level + 1 :]
            return value is not None and any(
                _checksum_in(folder, key) == value for folder in below
            )

        return compare

    def _drop(self, level: int, handle: Handle) -> None:
        self._folders[level].discard(handle.key)
        tier = self._folders[level].name
        self._log({"event": "corrupt replica", "key": handle.key, "tier": tier})

    def _no_replica(self, handle: Handle) -> StagingError:
        places = ", ".join(
            f"{folder.path(handle.key)} "
            f"({'corrupt' if folder.path(handle.key).exists() else 'missing'})"
            for folder in self._folders
        )
        return StagingError(
            f"{handle.key} must have a replica of {handle.n_bytes} bytes with crc32c "
            f"{handle.crc32c:08x}; got {places}. Make it again."
        )


def bytes_by_edge(
    events: Iterable[Mapping[str, Any]],
) -> dict[tuple[str, str], int]:
    """Bytes of the recorded movements, by (source, target)."""
    moved: dict[tuple[str, str], int] = {}
    for event in events:
        if event.get("event") == "moved":
            edge = (str(event["source"]), str(event["target"]))
            moved[edge] = moved.get(edge, 0) + int(event["bytes"])
    return moved


def _opened(
    tier: Tier, environment: Mapping[str, str], log: Log, *, is_last: bool
) -> TierFolder:
    folder, missing = folder_of(tier, environment)
    if missing is not None:
        record = {"tier": tier.name, "variable": missing, "folder": str(folder)}
        log({"event": "tier fallback", **record})
    try:
        if is_last:
            folder.mkdir(parents=True, exist_ok=True)
        else:
            require_private(folder)
    except OSError as error:
        raise StagingError(
            f"tier {tier.name} must have a folder that can be made; got {folder} "
            f"({error.strerror}). Correct the tier of the site file."
        ) from error
    return TierFolder(tier.name, folder, tier.capacity_bytes, tier.is_volatile)


def _matches(descriptor: int, handle: Handle) -> bool:
    if os.fstat(descriptor).st_size != handle.n_bytes:
        return False
    return checksum(descriptor) == handle.crc32c


def _checksum_in(folder: TierFolder, key: str) -> int | None:
    try:
        descriptor = os.open(folder.path(key), os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        return checksum(descriptor)
    finally:
        os.close(descriptor)


def _checked_chunks(descriptor: int, handle: Handle) -> Iterator[bytes]:
    """The content of a replica; raises at its end if it is not what it should be."""
    value = offset = 0
    while chunk := os.pread(descriptor, CHUNK_BYTES, offset):
        value, offset = google_crc32c.extend(value, chunk), offset + len(chunk)
        yield chunk
    if (offset, value) != (handle.n_bytes, handle.crc32c):
        raise StagingError(
            f"{handle.key} must keep its {handle.n_bytes} bytes while it is copied; it "
            "changed. Copy it again."
        )
