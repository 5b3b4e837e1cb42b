"""FollowFiles: folders and files that grow, as an endless source of raw records.

records = pipeline | follow_files(["events/"], run_id)
...
live_state(run_id).stop.set()  # a drain: what is there is read, then the source ends
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgpack
from apache_beam import typehints
from apache_beam.coders import Coder
from apache_beam.io.unbounded_source import (
    CheckpointMark,
    ReadFromUnboundedSource,
    UnboundedReader,
    UnboundedSource,
)
from apache_beam.utils.timestamp import MAX_TIMESTAMP, Timestamp

from models.adapters.base import RawRecord
from pipeline.growing_files import GrowingFiles, Place, check_followed
from pipeline.live_state import LiveState, live_state
from pipeline.reading import MAX_RECORD_BYTES

#: An idle reader looks at its files this often, and for new files this often.
POLL_SECONDS: Final = 0.025
FIND_SECONDS: Final = 0.5
#: It takes at most a share of one core for that, however many files there are: 1 in
_POLL_SHARE: Final = 20
#: A bundle begins so long after the one before at the soonest: each writes a file a table.
MIN_BUNDLE_SECONDS: Final = 0.1
#: An idle reader stays in its bundle so long; an empty bundle costs the engine some milliseconds.
_IDLE_SECONDS: Final = 1.0
#: A bundle reads what was there when it began; a backlog is cut into bundles of so many records,
MAX_BUNDLE_RECORDS: Final = 20_000
#: or of what is read and scored in so long.
MAX_BUNDLE_SECONDS: Final = 2.0
#: Timestamps are times of arrival; the watermark stays so far behind the wall clock.
OUT_OF_ORDER_SECONDS: Final = 60.0


class FollowMark(CheckpointMark):
    """Checkpoint: path -> Place. Files need no acknowledgement, so finalizing does nothing."""

    def __init__(self, places: Mapping[str, Place]) -> None:
        self.places = dict(places)


class FollowMarkCoder(Coder):
    """Deterministic bytes: the engine finds a parked reader by them."""

    def encode(self, value: FollowMark) -> bytes:
        packed: bytes = msgpack.packb(sorted(value.places.items()))
        return packed

    def decode(self, encoded: bytes) -> FollowMark:
        rows = msgpack.unpackb(encoded, use_list=False)
        return FollowMark({path: Place._make(place) for path, place in rows})

    def is_deterministic(self) -> bool:
        return True


@dataclass(frozen=True)
class FollowFiles(UnboundedSource):
    """The source. One reader reads all files, for on one machine reading is not what bounds the job."""

    patterns: tuple[str, ...]
    run_id: str
    max_record_bytes: int = MAX_RECORD_BYTES
    poll_seconds: float = POLL_SECONDS

    def split(self, desired_num_splits: int, options: object = None) -> Iterable[UnboundedSource]:
        return [self]

    def create_reader(self, options: object, checkpoint_mark: FollowMark | None) -> UnboundedReader:
        return FollowReader(self, {} if checkpoint_mark is None else checkpoint_mark.places)

    def get_checkpoint_mark_coder(self) -> Coder:
        return FollowMarkCoder()


def follow_files(
    patterns: Sequence[str], run_id: str, max_record_bytes: int = MAX_RECORD_BYTES
) -> ReadFromUnboundedSource:
    """Pipeline -> endless PCollection[RawRecord] of JSON lines; ends after `live_state(run_id).stop` is set.

    Raises UsageError or InputError where a pattern cannot be followed.
    """
    check_followed(patterns)
    return ReadFromUnboundedSource(
        FollowFiles(tuple(patterns), run_id, max_record_bytes),
        poll_interval=0.0,  # the reader waits by itself: FnApiRunner would not
        max_records_per_bundle=MAX_BUNDLE_RECORDS,
        max_read_time_seconds=MAX_BUNDLE_SECONDS,
    ).with_output_types(typehints.Tuple[bytes, str, bytes, str])


class FollowReader(UnboundedReader):
    """One bundle reads what was there when it began; with nothing there it waits, holding up nobody."""

    def __init__(self, source: FollowFiles, places: Mapping[str, Place]) -> None:
        self._poll_seconds = source.poll_seconds
        self._state: LiveState = live_state(source.run_id)
        self._files = GrowingFiles(source.patterns, source.max_record_bytes, places)
        self._current: RawRecord | None = None
        self._arrived = 0.0
        self._found = float("-inf")  # when new files were looked for
        self._next_bundle = float("-inf")
        self._in_bundle = False  # a record of this bundle was given out
        self._draining = False
        self._ended = False

    def start(self) -> bool:
        return self.advance()

    def advance(self) -> bool:
        """Whether there is another record for this bundle."""
        if self._in_bundle:
            self._current = self._files.take()
            return self._current is not None
        self._state.begin_bundle()
        self._current = self._await_record()
        if self._current is not None:
            self._in_bundle = True
            self._next_bundle = time.monotonic() + MIN_BUNDLE_SECONDS
            self._arrived = time.time()
            self._state.read_first(self._arrived)
        return self._in_bundle

    def get_current(self) -> RawRecord:
        assert self._current is not None
        return self._current

    def get_current_timestamp(self) -> Timestamp:
        return Timestamp(self._arrived)

    def get_watermark(self) -> Timestamp:
        return MAX_TIMESTAMP if self._ended else Timestamp(time.time() - OUT_OF_ORDER_SECONDS)

    def get_checkpoint_mark(self) -> FollowMark:
        self._in_bundle = False
        return FollowMark(self._files.places)

    def _await_record(self) -> RawRecord | None:
        """The first record of a bundle, as soon as there is one, for a while."""
        deadline = time.monotonic() + _IDLE_SECONDS
        if (early := self._next_bundle - time.monotonic()) > 0 and not self._draining:
            self._state.stop.wait(early)
        while not self._draining:
            stopping = self._state.stop.is_set()
            looked = time.monotonic()
            self._look(find_new=stopping)
            # What is there at the stop is read to its end, and nothing that comes later.
            self._draining = stopping
            record = self._files.take()
            if record is not None:
                return record
            if stopping:
                break
            self._state.caught_up.set()
            now = time.monotonic()
            if now >= deadline:
                return None
            self._state.stop.wait(max(self._poll_seconds, (now - looked) * _POLL_SHARE))
        return self._last_records()

    def _look(self, find_new: bool) -> None:
        find_new |= time.monotonic() - self._found >= FIND_SECONDS
        self._files.look(find_new)
        if find_new:
            self._found = time.monotonic()

    def _last_records(self) -> RawRecord | None:
        record = self._files.take()
        if record is not None:
            return record
        self._state.unfinished = tuple(self._files.unfinished())
        self._state.caught_up.set()
        self._ended = True
        return None
