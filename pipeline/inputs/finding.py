"""Files, folders, globs, stdin and URLs as a list of named inputs. Beam is imported for URLs only."""

from __future__ import annotations

import atexit
import glob
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Final, cast

from models.errors import InputError
from pipeline.connectors.uris import is_connector, refuse_endless_input
from pipeline.inputs.file_systems import is_url, why_not

STDIN: Final = "-"
#: In a folder, files with these endings are not read; given by name, or by a glob, they are.
_DOCUMENTS: Final = (
    ".md", ".rst", ".pdf", ".html", ".png", ".jpg", ".jpeg", ".svg",
    ".py", ".sh", ".sql", ".yaml", ".yml", ".toml", ".ipynb", ".parquet",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Input:
    """One file to read, and the name that its positions and generated event ids carry."""

    path: str
    name: str


def check_inputs(patterns: Iterable[str]) -> list[Input]:
    """The inputs that `patterns` stand for, in a fixed order, each readable.

    A pattern is a file or pipe, a folder (all files below it, but documents such as README.md, hidden ones
    and those that begin with an underscore), a glob, "-" for stdin, or a URL of any file system that Beam
    reads. A name is the file's own; where two files share one, it is the path below their common folder.
    Raises InputError where a pattern matches nothing or a file cannot be opened, UsageError for a service.
    """
    paths = [path for pattern in patterns for path in _matching(pattern)]
    if not paths:
        raise InputError("--input names no file; give a file, a folder, a glob, - or a URL")
    inputs = [Input(path, name) for path, name in _named(list(dict.fromkeys(paths)))]
    for each in inputs:
        open_input(each.path).close()
    return inputs


def open_input(path: str) -> BinaryIO:
    """The raw bytes of a file; raises InputError where it cannot be opened."""
    try:
        if not is_url(path):
            return open(path, "rb", buffering=0)
        from apache_beam.io.filesystem import CompressionTypes
        from apache_beam.io.filesystems import FileSystems

        return cast(BinaryIO, FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED))
    except Exception as error:
        raise InputError(f"cannot open {path}: {why_not(error, path)}") from error


def total_bytes(inputs: Iterable[Input]) -> int:
    """How much there is to read, as it lies on disk; 0 where a file system does not say."""
    try:
        return sum(_size(each.path) for each in inputs)
    except Exception:  # whatever a file system raises: the size is for displays only
        return 0


def _size(path: str) -> int:
    if not is_url(path):
        return os.stat(path).st_size
    from apache_beam.io.filesystems import FileSystems

    return FileSystems.match([path])[0].metadata_list[0].size_in_bytes


def followed_files(patterns: Iterable[str]) -> dict[str, str]:
    """Path -> name of the local files that `patterns` stand for now, as `check_inputs` would name them."""
    paths = [path for pattern in patterns for path in _local(pattern)]
    return dict(_named(list(dict.fromkeys(paths)))) if paths else {}


def _matching(pattern: str) -> list[str]:
    if pattern == STDIN:
        return [spool(STDIN)]
    if is_connector(pattern):
        refuse_endless_input(pattern)
    paths = _remote(pattern) if is_url(pattern) else _local(pattern)
    if not paths:
        raise InputError(f"no file matches {pattern!r}; expected a file, a folder with files, a glob or -")
    return paths


def _local(pattern: str) -> list[str]:
    if os.path.isdir(pattern):
        below = Path(pattern)
        return sorted(str(path) for path in _files_below(below) if not is_document(path))
    if os.path.exists(pattern):
        return [pattern if os.path.isfile(pattern) else spool(pattern)]
    return sorted(path for path in glob.glob(pattern, recursive=True) if os.path.isfile(path))


def _remote(pattern: str) -> list[str]:
    from apache_beam.io.filesystems import FileSystems

    try:
        for tried in (pattern, pattern.rstrip("/") + "/**"):
            found = FileSystems.match([tried])[0].metadata_list
            if paths := sorted(each.path for each in found if not _is_hidden((each.path.split("/")[-1],))):
                return paths
    except Exception as error:
        raise InputError(f"cannot list {pattern}: {why_not(error, pattern)}") from error
    return []


def _files_below(folder: Path) -> Iterator[Path]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return (path for path in found if not _is_hidden(path.relative_to(folder).parts))


def is_document(path: Path) -> bool:
    """Whether a file that a folder holds is for people or programs rather than data."""
    return path.suffix.lower() in _DOCUMENTS or path.stem.lower() in ("readme", "license")


def skipped_files(patterns: Iterable[str]) -> list[str]:
    """Files in the local folders among `patterns` that are documents, and so are not read."""
    folders = [Path(pattern) for pattern in patterns if pattern != STDIN and os.path.isdir(pattern)]
    return sorted(str(path) for folder in folders for path in _files_below(folder) if is_document(path))


def _is_hidden(parts: tuple[str, ...]) -> bool:
    return any(part.startswith((".", "_")) for part in parts)


def _named(paths: list[str]) -> list[tuple[str, str]]:
    names = {path: PurePosixPath(path).name for path in paths}
    if len(set(names.values())) < len(names):
        names = {path: path for path in paths}
        if not any(map(is_url, paths)):
            common = os.path.commonpath([os.path.abspath(path) for path in paths])
            names = {path: os.path.relpath(path, common) for path in paths}
    return list(names.items())


@cache
def spool(source: str) -> str:
    """Stdin ("-") or a pipe as a file of its name, for inputs are opened more than once; removed at exit."""
    folder = tempfile.mkdtemp(prefix="livelist-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    spooled = Path(folder, "stdin" if source == STDIN else Path(source).name)
    with ExitStack() as opened:
        # Stdin is not ours to close.
        given = sys.stdin.buffer if source == STDIN else opened.enter_context(open_input(source))
        shutil.copyfileobj(given, opened.enter_context(spooled.open("wb")))
    return str(spooled)
