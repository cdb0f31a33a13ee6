"""What a task leaves behind: files with their size and digest, and a few small facts.

A step returns a `Manifest`. Paths are relative to the run folder, so that a run may be
moved. An artefact counts as present only with the recorded size and SHA-256: a file
that was altered, or that vanished with a node's disk, is made again.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Artefact:
    """One file, or one folder of files, below the run folder."""

    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """The result of a step; never arrays.

    Attributes:
        artefacts: what was written, by a name that later steps know.
        facts: small JSON values that depend on the inputs and the seed alone; they are
            part of the keys of the tasks that use this manifest.
        timings: seconds and rates; recorded, but part of no key.
    """

    artefacts: Mapping[str, Artefact] = field(default_factory=dict)
    facts: Mapping[str, object] = field(default_factory=dict)
    timings: Mapping[str, float] = field(default_factory=dict)


def artefact(path: Path, root: Path) -> Artefact:
    """Measure `path`, a file or a folder, and name it relative to `root`.

    The digest of a folder is that of its sorted list of relative paths and digests.
    """
    if path.is_dir():
        files = sorted(entry for entry in path.rglob("*") if entry.is_file())
        digest = hashlib.sha256()
        for file in files:
            line = f"{file.relative_to(path).as_posix()} {_digest_of_file(file)}\n"
            digest.update(line.encode())
        n_bytes, sha256 = sum(f.stat().st_size for f in files), digest.hexdigest()
    else:
        n_bytes, sha256 = path.stat().st_size, _digest_of_file(path)
    return Artefact(path.relative_to(root).as_posix(), n_bytes, sha256)


def digest_of(manifests: Sequence[Manifest]) -> str:
    """One digest of all artefacts of some manifests, in whatever order."""
    parts = [item for manifest in manifests for item in manifest.artefacts.values()]
    text = "\n".join(sorted(f"{part.path} {part.sha256}" for part in parts))
    return hashlib.sha256(text.encode()).hexdigest()


def is_intact(expected: Artefact, root: Path) -> bool:
    """Whether the artefact still exists below `root` with its size and digest."""
    path = root / expected.path
    try:
        if path.is_file() and path.stat().st_size != expected.bytes:
            return False
        return artefact(path, root) == expected
    except FileNotFoundError:
        return False


def _digest_of_file(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
