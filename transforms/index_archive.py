"""The published item index where workers share no disk: one archive on a file system that Beam reads.

    place = publish(root, build)     # a worker: builds here, sends the archive, then moves the pointer
    index = index_folder(place)      # any other: its own copy, unpacked once a machine

A root or place without a scheme is a folder of this machine, and used as it stands.
"""

from __future__ import annotations

import hashlib
import shutil
import tarfile
import tempfile
import threading
import time
from pathlib import Path
from typing import Final

from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from models.errors import DeploymentError
from models.pointer import POINTER
from models.ranking.index import ItemIndex, publish_index, read_pointer

#: A process looks at a remote pointer this often, however many steps of it ask.
_POLL_SECONDS: Final = 5.0
#: Copies on a machine: the newest of a job, and the one before for those who are about to open it.
_KEPT: Final = 4
_SUFFIX: Final = ".tar"


def is_remote(place: str) -> bool:
    """Whether a root or place is on another file system than this machine's."""
    return "://" in place


def publish(root: str, build: Path) -> str:
    """Publishes a built index below `root`, and returns its place for `index_folder`."""
    if not is_remote(root):
        return str(publish_index(Path(root), build))
    with tempfile.TemporaryDirectory(prefix="livelist-") as scratch:
        directory = publish_index(Path(scratch), build)
        home = FileSystems.join(root, "index")
        archive = FileSystems.join(home, directory.name + _SUFFIX)
        with FileSystems.create(archive) as file, tarfile.open(fileobj=file, mode="w|") as packed:
            packed.add(directory, directory.name)
        before = _pointed_at(root)
        with FileSystems.create(FileSystems.join(home, POINTER)) as file:
            file.write(f"{directory.name}\n".encode())
        _delete_but(home, {f"{version}{_SUFFIX}" for version in (directory.name, before) if version})
    return archive


def published_folder(root: str) -> Path | None:
    """The folder of the index that is published below `root`, None before the first one.

    Raises DeploymentError where a remote one cannot be read.
    """
    if not is_remote(root):
        return read_pointer(Path(root))
    with _looking:
        seen = _seen.get(root)
        if seen is None or time.monotonic() - seen[0] >= _POLL_SECONDS:
            try:
                version = _pointed_at(root)
            except Exception as error:  # each file system raises its own
                raise DeploymentError(f"the item index under {root}/index cannot be read: {error}") from error
            folder = index_folder(FileSystems.join(root, "index", version + _SUFFIX)) if version else None
            seen = _seen[root] = time.monotonic(), folder
        return seen[1]


def knows_items(root: str) -> bool:
    """Whether the index that is published below `root` is sound and has something to list."""
    try:
        folder = published_folder(root)
        return folder is not None and ItemIndex.open(folder).items > 0
    except DeploymentError:
        return False


def index_folder(place: str) -> Path:
    """The folder of a published index on this machine. Raises DeploymentError where it cannot be had."""
    if not is_remote(place):
        return Path(place)
    version = place.rpartition("/")[2].removesuffix(_SUFFIX)
    home = Path(tempfile.gettempdir(), "livelist-index", hashlib.sha256(place.encode()).hexdigest()[:16])
    folder = home / version
    if not folder.is_dir():
        _unpack(place, home, version)
        _keep_newest(home.parent)
    return folder


#: Root -> when its pointer was read, and the folder that it named.
_seen: Final[dict[str, tuple[float, Path | None]]] = {}
_looking: Final = threading.Lock()


def _pointed_at(root: str) -> str:
    pointer = FileSystems.join(root, "index", POINTER)
    if not FileSystems.exists(pointer):
        return ""
    with FileSystems.open(pointer, compression_type=CompressionTypes.UNCOMPRESSED) as file:
        version: str = file.read().decode().strip()
    return version


def _unpack(archive: str, home: Path, version: str) -> None:
    """Whole or not at all: two processes that unpack at once leave one copy."""
    home.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=".unpacking.", dir=home))
    try:
        with (
            FileSystems.open(archive, compression_type=CompressionTypes.UNCOMPRESSED) as file,
            tarfile.open(fileobj=file, mode="r|") as packed,
        ):
            packed.extractall(building, filter="data")
        if not (home / version).is_dir():
            (building / version).rename(home / version)
    except Exception as error:
        if not (home / version).is_dir():
            raise DeploymentError(f"the item index {archive} cannot be fetched: {error}") from error
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _keep_newest(copies: Path) -> None:
    homes = sorted(copies.iterdir(), key=lambda home: home.stat().st_mtime, reverse=True)
    for home in homes[_KEPT:]:
        shutil.rmtree(home, ignore_errors=True)


def _delete_but(home: str, kept: set[str]) -> None:
    (match,) = FileSystems.match([FileSystems.join(home, "*" + _SUFFIX)])
    gone = [found.path for found in match.metadata_list if found.path.rpartition("/")[2] not in kept]
    if gone:
        FileSystems.delete(gone)
