"""A Beam file system with a scheme of its own over a local folder: stands for an object store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from apache_beam.io.filesystem import CompressionTypes, FileMetadata
from apache_beam.io.localfilesystem import LocalFileSystem

PREFIX = "folder://"
ROOT = Path("/")


class FolderFileSystem(LocalFileSystem):
    """`folder://x/y` is ROOT/x/y."""

    @classmethod
    def scheme(cls) -> str:
        return "folder"

    def join(self, basepath: str, *paths: str) -> str:
        return "/".join([basepath.rstrip("/"), *(path.strip("/") for path in paths)])

    def split(self, path: str) -> tuple[str, str]:
        head, _, tail = path.rpartition("/")
        return head, tail

    def _list(self, dir_or_prefix: str) -> Iterator[FileMetadata]:
        for found in sorted(_real(dir_or_prefix).rglob("*")):
            if found.is_file():
                yield FileMetadata(PREFIX + str(found.relative_to(ROOT)), found.stat().st_size, 0.0)

    def has_dirs(self) -> bool:
        return False

    def create(self, path: str, mime_type: str = "", compression_type: str = CompressionTypes.AUTO) -> object:
        _real(path).parent.mkdir(parents=True, exist_ok=True)
        return super().create(str(_real(path)), mime_type, compression_type)

    def open(self, path: str, mime_type: str = "", compression_type: str = CompressionTypes.AUTO) -> object:
        return super().open(str(_real(path)), mime_type, compression_type)

    def exists(self, path: str) -> bool:
        return _real(path).exists()

    def delete(self, paths: list[str]) -> None:
        for path in paths:
            _real(path).unlink()


def _real(path: str) -> Path:
    return ROOT / path.removeprefix(PREFIX)
