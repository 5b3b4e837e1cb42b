"""Compressed bytes to chunks in bounded memory; what came before damage is kept."""

from __future__ import annotations

import bz2
import lzma
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO, Final, Protocol

from models.adapters.framing import DamagedInput
from models.errors import InputError

CHUNK_BYTES: Final = 1 << 18
_READ_BYTES: Final = 1 << 16  # so much of a file is read at a time: what is told of progress is as fine
_ZSTD_FEED: Final = 64  # zstd cannot bound its output: 4 bytes may hold a block of 128 kB


class _Decompressor(Protocol):
    """The interface of bz2 and lzma in the standard library."""

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class _Gunzip:
    """zlib behind that interface."""

    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(wbits=31)
        self.needs_input = True

    @property
    def eof(self) -> bool:
        return self._zlib.eof

    @property
    def unused_data(self) -> bytes:
        return self._zlib.unused_data

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        output = self._zlib.decompress(self._zlib.unconsumed_tail + data, max(0, max_length))
        self.needs_input = not self._zlib.unconsumed_tail and len(output) < max_length
        return output


class _Unzstd:
    """zstandard behind that interface."""

    def __init__(self) -> None:
        import zstandard

        self._zstd = zstandard.ZstdDecompressor().decompressobj()
        self._input = b""
        self._fed = 0
        self._error = zstandard.ZstdError

    @property
    def eof(self) -> bool:
        return self._zstd.eof

    @property
    def needs_input(self) -> bool:
        return self._fed >= len(self._input)

    @property
    def unused_data(self) -> bytes:
        return self._zstd.unused_data + self._input[self._fed :]

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        if data:  # only given when all input was fed
            self._input, self._fed = data, 0
        fed = self._input[self._fed : self._fed + _ZSTD_FEED]
        self._fed += len(fed)
        try:
            return self._zstd.decompress(fed)
        except self._error as error:
            raise OSError(str(error)) from None


_BY_MAGIC: Final[dict[bytes, tuple[str, Callable[[], _Decompressor]]]] = {
    b"\x1f\x8b": ("gzip", _Gunzip),
    b"BZh": ("bzip2", bz2.BZ2Decompressor),
    b"\x28\xb5\x2f\xfd": ("zstd", _Unzstd),
    b"\xfd7zXZ\x00": ("xz", lzma.LZMADecompressor),
}
_ZIP_MAGIC: Final = (b"PK\x03\x04", b"PK\x05\x06")


def decompressed(
    stream: BinaryIO, name: str, consumed: Callable[[float], None] | None = None
) -> Iterator[bytes]:
    """Chunks of `stream`, decompressed as its first bytes say (gz, bz2, zstd, xz, zip, or none).

    `consumed` hears how many bytes of the file were used up. Raises DamagedInput after the last good
    chunk where the data ends early or is damaged, and InputError for a zip that does not hold exactly
    one file.
    """
    consumed = consumed or (lambda used: None)
    first = stream.read(_READ_BYTES)
    if first.startswith(_ZIP_MAGIC):
        yield from _unzip(stream, first, name, consumed)
        return
    for magic, (kind, make) in _BY_MAGIC.items():
        if first.startswith(magic):
            yield from _members(_chunks(stream, first, consumed), kind, magic, make)
            return
    yield from _chunks(stream, first, consumed)


def compression_of(first: bytes) -> str:
    """The compression that a file's first 8 bytes tell of; empty for plain text."""
    if first.startswith(_ZIP_MAGIC):
        return "zip"
    return next((kind for magic, (kind, _) in _BY_MAGIC.items() if first.startswith(magic)), "")


def _chunks(stream: BinaryIO, chunk: bytes, consumed: Callable[[float], None]) -> Iterator[bytes]:
    while chunk:
        yield chunk
        consumed(len(chunk))
        chunk = stream.read(_READ_BYTES)


def _members(
    chunks: Iterator[bytes], kind: str, magic: bytes, make: Callable[[], _Decompressor]
) -> Iterator[bytes]:
    """The members of a compressed file one after the other; zero padding behind one is no fault."""
    rest = next(chunks)
    while rest:
        while len(rest) < len(magic) and (more := next(chunks, b"")):
            rest += more
        if not rest.startswith(magic):
            raise DamagedInput(f"something that is not {kind} follows the {kind} data")
        decompressor = make()
        yield from _member(decompressor, rest, chunks, kind)
        rest = decompressor.unused_data.lstrip(b"\0")
        while not rest and (more := next(chunks, b"")):
            rest = more.lstrip(b"\0")


def _member(decompressor: _Decompressor, chunk: bytes, chunks: Iterator[bytes], kind: str) -> Iterator[bytes]:
    while True:
        try:
            output = decompressor.decompress(chunk, CHUNK_BYTES)
        except (OSError, zlib.error, lzma.LZMAError, EOFError, ValueError) as error:
            raise DamagedInput(f"the {kind} data is damaged ({error})") from None
        if output:
            yield output
        if decompressor.eof:
            return
        chunk = next(chunks, b"") if decompressor.needs_input else b""
        if not chunk and decompressor.needs_input:
            raise DamagedInput(f"the {kind} data ends early")


def _unzip(stream: BinaryIO, first: bytes, name: str, consumed: Callable[[float], None]) -> Iterator[bytes]:
    with tempfile.TemporaryFile() as whole:
        whole.write(first)
        shutil.copyfileobj(stream, whole, CHUNK_BYTES)
        size = whole.tell()
        try:
            archive = zipfile.ZipFile(whole)
        except zipfile.BadZipFile as error:
            raise DamagedInput(f"the zip data ends early or is damaged ({error})") from None
        with archive:
            member = _single_member(archive, name)
            packed = size / max(1, member.file_size)
            for chunk in _member_of_zip(archive, member):
                yield chunk
                consumed(len(chunk) * packed)


def _single_member(archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    hidden = ("__MACOSX/", ".")
    members = [
        member
        for member in archive.infolist()
        if not member.is_dir() and not member.filename.startswith(hidden)
    ]
    if len(members) != 1:
        held = ", ".join(member.filename for member in members[:5]) or "none"
        raise InputError(f"{name}: expected a zip of one file, got {len(members)} ({held}); unpack it first")
    if members[0].flag_bits & 1:
        raise InputError(f"{name}: the zip is encrypted; unpack it first")
    return members[0]


def _member_of_zip(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Iterator[bytes]:
    try:
        with archive.open(member) as opened:
            while chunk := opened.read(CHUNK_BYTES):
                yield chunk
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, OSError, EOFError) as error:
        raise DamagedInput(f"the zip data is damaged ({error})") from None
