"""Files that others append to, read line by line as they grow. No Beam here.

Only whole lines are records: the last line waits until its end is written. Positions are those of
the bounded reader. A file that was cut or replaced is read again from its start.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import BinaryIO, Final, NamedTuple, TypeAlias

from models.adapters import adapter_of
from models.adapters.base import RawRecord
from models.adapters.framing import split_records
from models.errors import InputError, UsageError
from pipeline.inputs.decompression import compression_of
from pipeline.inputs.finding import STDIN, followed_files

_BLOCK: Final = 1 << 20
_LOG: Final = logging.getLogger(__name__)


class Place(NamedTuple):
    """How far a file was read."""

    name: str  # in positions
    device: int
    inode: int
    offset: int = 0  # of the first byte of the region that is being read
    line: int = 1  # its number
    taken: int = 0  # records of the region that were given out


#: Cuts the whole lines of a region that begins at a place into records.
Split: TypeAlias = Callable[[Iterator[bytes], Place], Iterator[RawRecord]]


def json_lines(max_record_bytes: int) -> Split:
    """Records are lines, and positions those of the bounded reader."""
    adapter = adapter_of("jsonl")

    def split(chunks: Iterator[bytes], place: Place) -> Iterator[RawRecord]:
        return split_records(chunks, adapter, place.name, max_record_bytes, first_line=place.line)

    return split


class GrowingFiles:
    """Reads what `look` saw, region after region of whole lines, in memory of about a megabyte."""

    def __init__(
        self,
        patterns: Sequence[str],
        max_record_bytes: int,
        places: Mapping[str, Place] | None = None,
        split: Split | None = None,
    ) -> None:
        self._patterns = patterns
        self._split = split or json_lines(max_record_bytes)
        self.places: dict[str, Place] = dict(places or {})
        self.refused: dict[str, str] = {}  # path -> the compression that keeps it from being followed
        self._ends: dict[str, int] = {}  # path -> size when it was looked at
        self._records: deque[RawRecord] = deque()
        self._reading = ""  # the path of `_records`
        self._after: Place | None = None  # its place when they are all given out
        self._searched: dict[str, int] = {}  # path -> up to here an overlong line has no end

    def follow(self, leader: Mapping[str, Place]) -> None:
        """Sees the files as far as another reader has read them; no more than that is read."""
        for path, place in leader.items():
            mine = self.places.get(path)
            if mine is None or mine[1:3] != place[1:3]:
                self._restart(path, Place(*place[:3]))
        for path in set(self.places) - set(leader):
            self._restart(path, None)
        self._ends = {path: place.offset for path, place in leader.items()}

    def look(self, find_new: bool) -> None:
        """Sees how long the files are now; until the next look no more than that is read."""
        if find_new:
            self._find()
        self._ends = {}
        for path, place in self.places.items():
            try:
                found = os.stat(path)
            except OSError:  # gone; it is forgotten when files are looked for
                continue
            if (found.st_dev, found.st_ino) != place[1:3] or found.st_size < place.offset:
                _LOG.warning("%s was cut or replaced; it is read again from its start", path)
                self._restart(path, Place(place.name, found.st_dev, found.st_ino))
            self._ends[path] = found.st_size

    def take(self) -> RawRecord | None:
        """The next record of what was seen; None when there is no more."""
        while not self._records:
            self._leave_region()
            if not any(self._enter_region(path) for path in self._next_paths()):
                return None
        place = self.places[self._reading]
        self.places[self._reading] = place._replace(taken=place.taken + 1)
        record = self._records.popleft()
        if not self._records:
            self._leave_region()
        return record

    def unfinished(self) -> list[str]:
        """The files with bytes that are not a whole line yet."""
        return sorted(path for path, place in self.places.items() if self._ends.get(path, 0) > place.offset)

    def _find(self) -> None:
        present = followed_files(self._patterns)
        known = {place.name for place in self.places.values()}
        for path in set(self.places) - set(present):
            del self.places[path]
            self._searched.pop(path, None)
        for path, name in present.items():
            if path not in self.places and path not in self.refused and (found := _stat(path)):
                # Where a file that was seen before has this name, the path tells them apart.
                self.places[path] = Place(path if name in known else name, found.st_dev, found.st_ino)

    def _restart(self, path: str, place: Place | None) -> None:
        """Begins a file at a place, or forgets it."""
        if place is None:
            del self.places[path]
        else:
            self.places[path] = place
        self._searched.pop(path, None)
        if path == self._reading:
            self._records.clear()
            self._after = None

    def _next_paths(self) -> list[str]:
        """Every file, beginning behind the last one read, so that none keeps the others waiting."""
        paths = sorted(self._ends)
        return [path for path in paths if path > self._reading] + [
            path for path in paths if path <= self._reading
        ]

    def _leave_region(self) -> None:
        if self._after is not None:
            self.places[self._reading], self._after = self._after, None

    def _enter_region(self, path: str) -> bool:
        """Reads the next whole lines of a file into `_records`; False where there are none."""
        place, end = self.places[path], self._ends[path]
        if end <= place.offset:
            return False
        try:
            with open(path, "rb") as file:
                if place.offset == 0 and self._refuse(path, file.read(8)):
                    return False
                length = self._whole_lines(file, path, place.offset, end)
                if not length:
                    return False
                lines = _CountedLines(_chunks(file, place.offset, length))
                self._records.extend(self._split(lines, place))
        except OSError as error:
            _LOG.warning("%s cannot be read now: %s", path, error.strerror or error)
            return False
        for _ in range(min(place.taken, len(self._records))):
            self._records.popleft()
        self._reading = path
        self._after = place._replace(offset=place.offset + length, line=place.line + lines.ended, taken=0)
        return True

    def _refuse(self, path: str, first: bytes) -> bool:
        if kind := compression_of(first):
            self.refused[path] = kind
            del self.places[path], self._ends[path]
            _LOG.error("%s", cannot_follow(path, kind))
        return bool(kind)

    def _whole_lines(self, file: BinaryIO, path: str, offset: int, end: int) -> int:
        """Bytes up to the last line end of a block; of a longer line, up to its end. 0: none yet."""
        file.seek(offset)
        block = file.read(min(_BLOCK, end - offset))
        if (cut := block.rfind(b"\n")) >= 0:
            return cut + 1
        at = max(offset + len(block), self._searched.get(path, 0))
        file.seek(at)
        while block := file.read(min(_BLOCK, end - at)):
            if (cut := block.find(b"\n")) >= 0:
                self._searched.pop(path, None)
                return at + cut + 1 - offset
            at += len(block)
        self._searched[path] = at
        return 0


def bytes_between(behind: Mapping[str, Place], ahead: Mapping[str, Place]) -> int:
    """What one reader has read of its files and another, behind it, has not; to whole regions of lines."""
    return sum(max(0, place.offset - _read_of(behind.get(path), place)) for path, place in ahead.items())


def bytes_unread(places: Mapping[str, Place]) -> int:
    """By how much the files of these places are longer now than they were read."""
    found = ((_stat(path), place) for path, place in places.items())
    return sum(max(0, size.st_size - place.offset) for size, place in found if size is not None)


def _read_of(mine: Place | None, place: Place) -> int:
    return mine.offset if mine is not None and mine[1:3] == place[1:3] else 0


class _CountedLines(Iterator[bytes]):
    """Chunks as they are, counting the line ends that they hold: LF, CR LF or CR."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._after_cr = False
        self.ended = 0

    def __next__(self) -> bytes:
        chunk = next(self._chunks)
        self.ended += chunk.count(b"\n") + chunk.count(b"\r") - chunk.count(b"\r\n")
        self.ended -= self._after_cr and chunk.startswith(b"\n")
        self._after_cr = chunk.endswith(b"\r")
        return chunk


def _chunks(file: BinaryIO, offset: int, length: int) -> Iterator[bytes]:
    file.seek(offset)
    while length and (chunk := file.read(min(_BLOCK, length))):
        length -= len(chunk)
        yield chunk


def _stat(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except OSError:
        return None


def check_followed(patterns: Sequence[str]) -> None:
    """Raises where a pattern cannot be followed: UsageError for its kind, InputError for its path.

    A folder or a glob may be empty yet; compressed files are refused.
    """
    for pattern in patterns:
        _check_pattern(pattern)
    for path in followed_files(patterns):
        try:
            with open(path, "rb") as file:
                kind = compression_of(file.read(8))
        except OSError as error:
            raise InputError(f"cannot open {path}: {error.strerror or error}") from error
        if kind:
            raise UsageError(cannot_follow(path, kind))


def _check_pattern(pattern: str) -> None:
    if pattern == STDIN:
        raise UsageError("--streaming follows files, not stdin: let what writes it append to a file")
    if "://" in pattern:
        raise UsageError(f"--streaming follows local folders and files, got {pattern}")
    if any(sign in pattern for sign in "*?["):
        return
    if not os.path.exists(pattern):
        raise InputError(f"{pattern}: there is nothing to follow; make the folder, it may be empty")
    if not (os.path.isdir(pattern) or os.path.isfile(pattern)):
        raise UsageError(f"--streaming follows folders and files; {pattern} is a pipe or a device")


def cannot_follow(path: str, kind: str) -> str:
    """Why a compressed file is refused, and what to do."""
    return (
        f"--streaming cannot follow {path}: a {kind} file does not grow by lines; unpack it, or run "
        "without --streaming"
    )
