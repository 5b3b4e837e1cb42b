"""FollowOnCluster: files that grow, as an endless source whose place is in the engine's checkpoints.

Every worker must see the files, and the folder of the job, under the same paths. When a file DRAIN
appears in that folder, what is there is read to its end, then the source ends, and with it the job.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import msgpack
from apache_beam.coders import Coder
from apache_beam.io.unbounded_source import (
    CheckpointMark,
    UnboundedReader,
    UnboundedSource,
)
from apache_beam.utils.timestamp import MAX_TIMESTAMP, Timestamp

from models.adapters.base import RawRecord
from pipeline.flink.plan import POLL_SECONDS
from pipeline.flink.reading import ReadByTimer
from pipeline.inputs.finding import followed_files
from pipeline.inputs.growing_files import GrowingFiles, Place, check_followed
from pipeline.inputs.progress import Progress, read_progress, write_progress
from pipeline.inputs.reading import MAX_RECORD_BYTES

DRAIN: Final = "DRAIN"
#: A source of the job has come to its end, and will read nothing more.
ALL_READ: Final = "ALL_READ"
_PROGRESS: Final = "read.json"
_TAIL: Final = 1 << 20
_TELL_SECONDS: Final = 1.0
#: A bundle without a record ends after so long. Checkpoints wait for it.
IDLE_BUNDLE_SECONDS: Final = 0.25
FIND_SECONDS: Final = 0.5
#: Timestamps are times of arrival; the watermark stays so far behind the wall clock.
OUT_OF_ORDER_SECONDS: Final = 60.0


def progress_file(job_folder: Path, pulled: int | None = None) -> Path:
    """Where the reader of the followed files tells how far it is; with a number that of a pulled input."""
    return job_folder / (_PROGRESS if pulled is None else f"pulled-{pulled}.json")


def forget_progress(job_folder: Path) -> None:
    """A job that begins anew has read nothing."""
    for file in (job_folder / _PROGRESS, *job_folder.glob("pulled-*.json")):
        file.unlink(missing_ok=True)


def unread_bytes(patterns: Sequence[str], progress: Progress) -> int:
    """Of the files that are followed, what stands behind their reader in whole lines."""
    unread = 0
    for path in followed_files(patterns):
        with suppress(OSError), open(path, "rb") as file:
            unread += _to_last_line_end(file, progress.offsets.get(path, 0), os.path.getsize(path))
    return unread


def _to_last_line_end(file: BinaryIO, begin: int, end: int) -> int:
    """Bytes from `begin` to behind the last line end before `end`; looks at the last megabyte only."""
    start = max(begin, end - _TAIL)
    file.seek(start)
    place = file.read(max(0, end - start)).rfind(b"\n")
    return start + place + 1 - begin if place >= 0 else 0


class PlacesMark(CheckpointMark):
    """Path -> Place. Files need no acknowledgement, so finalizing does nothing."""

    def __init__(self, places: Mapping[str, Place]) -> None:
        self.places = dict(places)


class PlacesMarkCoder(Coder):
    """Deterministic bytes: the engine finds a parked reader by them."""

    def encode(self, value: PlacesMark) -> bytes:
        packed: bytes = msgpack.packb(sorted(value.places.items()))
        return packed

    def decode(self, encoded: bytes) -> PlacesMark:
        rows = msgpack.unpackb(encoded, use_list=False)
        return PlacesMark({path: Place._make(place) for path, place in rows})

    def is_deterministic(self) -> bool:
        return True


@dataclass(frozen=True)
class FollowOnCluster(UnboundedSource):
    """The source. One reader reads all files: what follows is spread, reading is not what bounds the job."""

    patterns: tuple[str, ...]
    job_folder: str
    max_record_bytes: int = MAX_RECORD_BYTES
    poll_seconds: float = POLL_SECONDS
    wait_seconds: float = IDLE_BUNDLE_SECONDS
    tells: bool = False  # in the job's folder, how far it has read

    def split(self, desired_num_splits: int, options: object = None) -> Iterable[UnboundedSource]:
        return [self]

    def create_reader(self, options: object, checkpoint_mark: PlacesMark | None) -> UnboundedReader:
        return ClusterReader(self, {} if checkpoint_mark is None else checkpoint_mark.places)

    def get_checkpoint_mark_coder(self) -> Coder:
        return PlacesMarkCoder()


def follow_on_cluster(
    patterns: Sequence[str],
    job_folder: Path,
    max_record_bytes: int = MAX_RECORD_BYTES,
    poll_seconds: float = POLL_SECONDS,
    tells: bool = False,
) -> ReadByTimer:
    """Pipeline -> endless PCollection[RawRecord] of JSON lines.

    Raises UsageError or InputError where a pattern cannot be followed.
    """
    check_followed(patterns)
    whole = tuple(str(Path(pattern).absolute()) for pattern in patterns)
    source = FollowOnCluster(whole, str(job_folder.absolute()), max_record_bytes, poll_seconds, tells=tells)
    return ReadByTimer(source, job_folder.absolute() / ALL_READ)


class ClusterReader(UnboundedReader):
    """Gives out what is there; a bundle that has nothing yet waits a while for its first record."""

    def __init__(self, source: FollowOnCluster, places: Mapping[str, Place]) -> None:
        self._source = source
        self._drain = Path(source.job_folder) / DRAIN
        self._files = GrowingFiles(source.patterns, source.max_record_bytes, places)
        self._current: RawRecord | None = None
        self._found = float("-inf")  # when new files were looked for
        self._ended = False
        self._given = False  # whether this bundle has a record
        self._arrived = 0.0
        self._file = progress_file(Path(source.job_folder))
        self._progress = read_progress(self._file) if source.tells else Progress({}, 0.0)
        self._read_at = self._progress.moved
        self._told = 0.0

    def start(self) -> bool:
        return self.advance()

    def advance(self) -> bool:
        """Whether there is another record."""
        ends = time.monotonic() + (0.0 if self._given else self._source.wait_seconds)
        self._current = self._files.take()
        while self._current is None and not self._ended:
            draining = self._drain.exists()
            self._look(draining)
            self._current = self._files.take()
            self._ended = draining and self._current is None
            if time.monotonic() + self._source.poll_seconds > ends:
                break
            if self._current is None and not self._ended:
                time.sleep(self._source.poll_seconds)
        if self._current is None:
            return False
        self._given, self._read_at = True, time.time()
        return True

    def get_current(self) -> RawRecord:
        assert self._current is not None
        return self._current

    def get_current_timestamp(self) -> Timestamp:
        return Timestamp(self._arrived)

    def get_watermark(self) -> Timestamp:
        return MAX_TIMESTAMP if self._ended else Timestamp(time.time() - OUT_OF_ORDER_SECONDS)

    def get_checkpoint_mark(self) -> PlacesMark:
        self._given = False
        if self._source.tells and time.monotonic() - self._told > _TELL_SECONDS:
            self._tell()
        return PlacesMark(self._files.places)

    def _tell(self) -> None:
        offsets = {path: place.offset for path, place in self._files.places.items()}
        if offsets != self._progress.offsets:
            self._progress = Progress(offsets, self._read_at)  # not now: what was read may be written by now
        self._told = time.monotonic()
        write_progress(self._file, self._progress)

    def _look(self, draining: bool) -> None:
        now = time.monotonic()
        find_new = draining or now - self._found >= FIND_SECONDS
        self._files.look(find_new)
        self._arrived = time.time()
        if find_new:
            self._found = now
