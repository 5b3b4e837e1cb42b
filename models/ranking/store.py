"""Index directories: arrays and a manifest with their hashes, written whole, published by a pointer file."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models import pointer
from models.errors import DeploymentError

MANIFEST: Final = "manifest.json"
POINTER: Final = pointer.POINTER
FORMAT: Final = 2


@dataclass(frozen=True, slots=True)
class IndexManifest:
    """What an index directory holds; `version` is a hash of it all: equal inputs, equal version."""

    version: str
    format: int
    meta: dict[str, Any]  # settings, clock, statistics, fusion
    files: dict[str, str]  # array name -> SHA-256 of its file


def write_arrays(arrays: Mapping[str, NDArray[Any]], meta: dict[str, Any], directory: Path) -> IndexManifest:
    """Writes arrays and manifest into a new directory that appears under its name only when whole."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))
    try:
        files = {name: _write(building / f"{name}.npy", array) for name, array in sorted(arrays.items())}
        manifest = IndexManifest(_version(meta, files), FORMAT, meta, files)
        (building / MANIFEST).write_text(json.dumps(asdict(manifest), indent=1, sort_keys=True), "utf-8")
        if directory.exists():
            shutil.rmtree(directory)
        building.rename(directory)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
    return manifest


def _write(path: Path, array: NDArray[Any]) -> str:
    np.save(path, np.ascontiguousarray(array), allow_pickle=False)
    return _file_hash(path)


def _file_hash(path: Path) -> str:
    digest = sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _version(meta: Mapping[str, Any], files: Mapping[str, str]) -> str:
    content = json.dumps([FORMAT, meta, dict(files)], sort_keys=True)
    return sha256(content.encode()).hexdigest()[:16]


def read_manifest(directory: Path) -> IndexManifest:
    """The manifest of an index directory."""
    try:
        stored = json.loads((directory / MANIFEST).read_text("utf-8"))
        manifest = IndexManifest(**stored)
    except (OSError, ValueError, TypeError) as error:
        raise DeploymentError(f"no item index in {directory} ({error}); build it again") from error
    if manifest.format != FORMAT:
        raise DeploymentError(
            f"item index {directory} has format {manifest.format}, expected {FORMAT}; build it again"
        )
    return manifest


def map_arrays(directory: Path, manifest: IndexManifest, verify: bool = True) -> dict[str, NDArray[Any]]:
    """The arrays, memory-mapped read-only; with `verify` all hashes are compared first."""
    if verify and (found := _version(manifest.meta, manifest.files)) != manifest.version:
        raise DeploymentError(
            f"{directory / MANIFEST} says version {manifest.version}, but what it describes is {found}; "
            "build the item index again"
        )
    arrays = {}
    for name, expected in manifest.files.items():
        path = directory / f"{name}.npy"
        if verify and (not path.exists() or _file_hash(path) != expected):
            raise DeploymentError(f"{path} is not what the manifest says; build the item index again")
        stored = np.load(path, mmap_mode="r", allow_pickle=False)
        # A plain view: indexing numpy's own memmap class costs several times as much.
        arrays[name] = np.asarray(stored)
    return arrays


def publish_index(root: Path, build: Path) -> Path:
    """Moves a built directory to `<root>/index/<version>` and points `<root>/index/CURRENT` at it.

    The version that was published before stays, for readers that are about to open it; older go.
    """
    manifest = read_manifest(build)
    before = read_pointer(root)
    home = root / "index" / manifest.version
    home.parent.mkdir(parents=True, exist_ok=True)
    if not home.exists():
        shutil.move(build, home)
    elif build.resolve() != home.resolve():
        shutil.rmtree(build)
    pointer.write_pointer(home.parent, manifest.version)
    for other in home.parent.iterdir():
        building = other.name.startswith(".")
        if other not in (home, before) and not building and (other / MANIFEST).is_file():
            shutil.rmtree(other, ignore_errors=True)
    return home


def read_pointer(root: Path) -> Path | None:
    """The published index directory under `<root>/index`, None when nothing is published."""
    return pointer.read_pointer(root / "index")
