"""Which blocks of a store count: one JSON file per block, written after its shards.

| killed                          | found                    | counts as |
|---------------------------------|--------------------------|-----------|
| while a shard is written        | `.partial` file          | missing   |
| before the entry is written     | shard without entry      | missing   |
| after the entry                 | shard and entry          | complete  |
| shard lost or shortened later   | entry, other size        | missing   |
| shard altered later             | entry, other crc32c      | damaged: `verify_block` |
"""

import fcntl
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import google_crc32c

from data.durable_files import (
    StagingError,
    sweep_partial_files,
    sync_folder,
    write_durably,
)
from data.ensemble_store.layout import MANIFEST, read_layout


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of a block: its name relative to the store, its size and checksum."""

    name: str
    n_bytes: int
    crc32c: int


@dataclass(frozen=True, slots=True, eq=False)
class BlockEntry:
    """Manifest entry of a block.

    Attributes:
        block: the block.
        members: its member ids.
        seeds: their seeds, in the same order.
        failed: members without a result (NaN in the store), each with its cause.
        files: the shard files.
        provenance: what made them, such as code version and digests of the inputs.
    """

    block: int
    members: range
    seeds: tuple[int, ...]
    failed: Mapping[int, str]
    files: tuple[StoredFile, ...]
    provenance: Mapping[str, str]

    def has_same_content(self, other: "BlockEntry") -> bool:
        """Whether both entries describe the same bytes, seeds and failures."""
        return (
            self.members == other.members
            and self.seeds == other.seeds
            and dict(self.failed) == dict(other.failed)
            and self.files == other.files
        )


def entry_file(path: Path, block: int) -> Path:
    """The manifest file of a block."""
    return path / MANIFEST / f"{block}.json"


@contextmanager
def writing(path: Path, block: int) -> Iterator[bool]:
    """Holds a block for one writer, by a lock that dies with its process.

    Yields:
        Whether there was another writer, for whom this one had to wait.
    """
    with (path / MANIFEST / f"{block}.lock").open("ab") as stream:
        had_to_wait = False
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            had_to_wait = True
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield had_to_wait


def write_entry(path: Path, entry: BlockEntry) -> None:
    """Makes a block count; its shards have to be durable before."""
    record = {
        "block": entry.block,
        "members": [entry.members.start, entry.members.stop],
        "seeds": list(entry.seeds),
        "failed": {str(member): cause for member, cause in entry.failed.items()},
        "files": [[f.name, f.n_bytes, f.crc32c] for f in entry.files],
        "provenance": dict(entry.provenance),
    }
    text = json.dumps(record, indent=1, sort_keys=True)
    write_durably(entry_file(path, entry.block), [text.encode()])


def read_entry(path: Path, block: int) -> BlockEntry:
    """The manifest entry of a block.

    Raises:
        StagingError: the block has no entry, or one that cannot be read.
    """
    file = entry_file(path, block)
    try:
        record = json.loads(file.read_bytes())
        return BlockEntry(
            block=record["block"],
            members=range(*record["members"]),
            seeds=tuple(record["seeds"]),
            failed={int(member): why for member, why in record["failed"].items()},
            files=tuple(StoredFile(*fields) for fields in record["files"]),
            provenance=record["provenance"],
        )
    except FileNotFoundError:
        raise StagingError(
            f"block {block} of {path} must have a manifest entry to be read; got none. "
            "Write the block: its bytes, if any, are not trusted."
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise StagingError(
            f"{file} must be a manifest entry; got {error!r}. "
            f"Write block {block} again."
        ) from error


def drop_entry(path: Path, block: int) -> None:
    """Makes a block no longer count, before its shards are replaced."""
    file = entry_file(path, block)
    if file.exists():
        file.unlink(missing_ok=True)
        sync_folder(file.parent)


def complete_blocks(path: Path) -> list[int]:
    """Blocks with a manifest entry and files of the listed sizes, ascending."""
    return [
        block for block in range(read_layout(path).n_blocks) if _counts(path, block)
    ]


def missing_blocks(path: Path) -> list[int]:
    """Blocks still to be written, ascending."""
    complete = set(complete_blocks(path))
    return [b for b in range(read_layout(path).n_blocks) if b not in complete]


def failed_members(path: Path) -> dict[int, str]:
    """Members recorded as failed in the complete blocks, each with its cause."""
    failed: dict[int, str] = {}
    for block in complete_blocks(path):
        failed.update(read_entry(path, block).failed)
    return failed


def verify_block(path: Path, block: int) -> BlockEntry:
    """Compares size and crc32c of the files of a block with its manifest entry.

    Raises:
        StagingError: there is no entry, or a file is missing or differs; names it.
    """
    entry = read_entry(path, block)
    for stored in entry.files:
        check_size(path, stored)
        found = google_crc32c.value((path / stored.name).read_bytes())
        if found != stored.crc32c:
            raise StagingError(
                f"{path / stored.name} must have crc32c {stored.crc32c:08x}; got "
                f"{found:08x}. The shard is damaged: write block {block} again."
            )
    return entry


def check_size(path: Path, stored: StoredFile) -> None:
    """Compares the size of a file with its manifest entry.

    Raises:
        StagingError: the file is missing or of another size.
    """
    file = path / stored.name
    found = f"{file.stat().st_size} bytes" if file.exists() else "no file"
    if found != f"{stored.n_bytes} bytes":
        raise StagingError(
            f"{file} must hold {stored.n_bytes} bytes as listed in the manifest; got "
            f"{found}. Write its block again."
        )


def store_files(path: Path, block: int) -> tuple[Path, ...]:
    """Files of a block: its shards and its manifest entry.

    Raises:
        StagingError: the block has no entry.
    """
    shards = [path / stored.name for stored in read_entry(path, block).files]
    return (*shards, entry_file(path, block))


def store_bytes(path: Path) -> int:
    """Bytes of the files of all complete blocks."""
    entries = [read_entry(path, block) for block in complete_blocks(path)]
    return sum(file.n_bytes for entry in entries for file in entry.files)


def sweep_partial(path: Path) -> list[Path]:
    """Removes what killed tasks left in and beside a store; returns what it removed.

    Only for the owner of the store, and never while a task may be writing there.
    """
    abandoned = sorted(path.parent.glob(f"{path.name}.*.partial"))
    for folder in abandoned:
        shutil.rmtree(folder)
    return abandoned + sweep_partial_files(path)


def _counts(path: Path, block: int) -> bool:
    try:
        for stored in read_entry(path, block).files:
            check_size(path, stored)
    except StagingError:
        return False
    return True
