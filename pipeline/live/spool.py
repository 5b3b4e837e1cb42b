"""The spool: what was pulled from a source, on this machine's disk before it is acknowledged there.

A spool is a folder of segments, `000000000001.log` and so on, each a list of lines:

    P <tab> position <tab> payload              where the payload has no line end
    B <tab> position <tab> payload in base64    where it has

So a segment is a file that grows by lines, and what follows files follows it. It is deleted when a
checkpoint holds all that it did. No Beam here.
"""

from __future__ import annotations

import base64
import binascii
import errno
import hashlib
import os
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, Protocol

from models.adapters.base import RawRecord
from models.errors import OutputError
from pipeline.connectors.messages import record_of
from pipeline.inputs.growing_files import Place, Split

SEGMENT_BYTES: Final = 16 << 20
#: Positions that are remembered, so that what is delivered again is not kept again.
REMEMBERED: Final = 200_000
#: So many segments stay behind a checkpoint, for what they tell of redeliveries.
KEPT_SEGMENTS: Final = 2
_SUFFIX: Final = ".log"


class Message(Protocol):
    """What a spool keeps of a message."""

    @property
    def payload(self) -> bytes: ...

    @property
    def position(self) -> str: ...


class Spool:
    """The writing end; one thread appends. Opening one repairs what a killed process left behind."""

    def __init__(
        self, folder: Path, segment_bytes: int = SEGMENT_BYTES, remembered: int = REMEMBERED
    ) -> None:
        self.folder = folder
        self._segment_bytes = segment_bytes
        self._remembered = remembered
        self._known: OrderedDict[bytes, None] = OrderedDict()
        self._handle = -1
        self._written = 0
        self.repeated = 0  # messages that were here already
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for path in segments(folder):
                _cut_torn_line(path)
                self._remember(path)
            self._number = max((_number(path) for path in segments(folder)), default=0)
            self._begin_segment()
        except OSError as error:
            raise _unwritable(folder, error) from error

    def append(self, messages: Sequence[Message]) -> int:
        """Returns how many of the messages are new, once they are on disk. OutputError: none is kept."""
        fresh = {_key(message.position): message for message in messages}
        fresh = {key: message for key, message in fresh.items() if key not in self._known}
        if fresh:
            self._write(b"".join(_line(message) for message in fresh.values()))
        for key in fresh:
            self._known[key] = None
        while len(self._known) > self._remembered:
            self._known.popitem(last=False)
        self.repeated += len(messages) - len(fresh)
        return len(fresh)

    def close(self) -> None:
        """Ends the segment that is being written."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def _write(self, lines: bytes) -> None:
        if self._written >= self._segment_bytes:
            self._begin_segment()
        try:
            _write_all(self._handle, lines)
            os.fdatasync(self._handle)
        except OSError as error:
            os.ftruncate(self._handle, self._written)
            raise _unwritable(self.folder, error) from error
        self._written += len(lines)

    def _begin_segment(self) -> None:
        self.close()
        self._number += 1
        path = self.folder / f"{self._number:012d}{_SUFFIX}"
        self._handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._written = 0
        folder = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _remember(self, path: Path) -> None:
        with path.open("rb") as file:
            for line in file:
                position = line.split(b"\t", 2)[1].decode("utf-8", "replace")
                self._known[_key(position)] = None
        while len(self._known) > self._remembered:
            self._known.popitem(last=False)


def segments(folder: Path) -> list[Path]:
    """The segments, oldest first."""
    return sorted(folder.glob(f"*{_SUFFIX}"))


def delete_read(folder: Path, places: dict[str, Place]) -> int:
    """Deletes segments that every reader of a checkpoint has read to their end; returns how many.

    `places` are of the reader that is furthest behind. The newest segments stay.
    """
    deleted = 0
    for path in segments(folder)[:-KEPT_SEGMENTS]:
        place = places.get(str(path))
        if place is None or place.offset < path.stat().st_size:
            break
        path.unlink()
        deleted += 1
    return deleted


def spooled_records(max_record_bytes: int) -> Split:
    """Cuts a region of a segment into raw records that carry the positions of their source."""

    def split(chunks: Iterator[bytes], place: Place) -> Iterator[RawRecord]:
        for line in _lines(chunks):
            yield _record(line, place.name, max_record_bytes)

    return split


def _lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    tail = b""
    for chunk in chunks:
        *whole, tail = (tail + chunk).split(b"\n")
        yield from whole


def _record(line: bytes, name: str, limit: int) -> RawRecord:
    kind, _, rest = line.partition(b"\t")
    position, tab, payload = rest.partition(b"\t")
    if kind not in (b"P", b"B") or not tab:
        return payload, f"{name}:damaged", b"", ""
    if kind == b"B":
        try:
            payload = base64.b64decode(payload, validate=True)
        except binascii.Error:
            payload = b""
    where = position.decode("utf-8", "replace")
    return record_of(payload, where, limit)


def _line(message: Message) -> bytes:
    position = message.position.encode().replace(b"\t", b" ").replace(b"\n", b" ")
    if b"\n" in message.payload or b"\r" in message.payload:
        return b"B\t%b\t%b\n" % (position, base64.b64encode(message.payload))
    return b"P\t%b\t%b\n" % (position, message.payload)


def _key(position: str) -> bytes:
    return hashlib.blake2b(position.encode(), digest_size=8).digest()


def _number(path: Path) -> int:
    return int(path.name.removesuffix(_SUFFIX))


def _write_all(handle: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(handle, rest) :]


def _cut_torn_line(path: Path) -> None:
    """Removes the line without end that a killed process left: its message was not acknowledged."""
    with path.open("r+b") as file:
        end = file.seek(0, os.SEEK_END)
        at = end
        while at:
            start = max(0, at - (1 << 16))
            file.seek(start)
            if (found := file.read(at - start).rfind(b"\n")) >= 0:
                at = start + found + 1
                break
            at = start
        if at < end:
            file.truncate(at)


def _unwritable(folder: Path, error: OSError) -> OutputError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return OutputError(
            f"no space left for what was received, in {folder}; nothing that is not on disk was "
            "acknowledged: free some space and start again, or choose another --state_dir"
        )
    return OutputError(
        f"cannot write what was received into {folder}: {error.strerror or error}; check its permissions or "
        "choose another --state_dir"
    )
