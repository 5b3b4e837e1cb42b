"""FollowLog: folders and files that grow, and spools, as an endless source of raw records.

    live_state(run_id), with followed_logs holding the run's LiveLog
    records = pipeline | follow_log(run_id)
    ...
    live_state(run_id).stop.set()  # a drain: what is there is read, then the source ends

The place in the log is with the process, like all that this engine keeps: checkpoints hold it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

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
from pipeline.live.log import LiveLog
from pipeline.live.state import LiveState, live_state

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
#: or of what is read in so long.
MAX_BUNDLE_SECONDS: Final = 2.0
#: Timestamps are times of arrival; the watermark stays so far behind the wall clock.
OUT_OF_ORDER_SECONDS: Final = 60.0
_LOG: Final = logging.getLogger(__name__)


def _nothing() -> bool:
    return False


@dataclass
class Followed:
    """What the reader of a run is given by its launcher."""

    log: LiveLog
    waits: Callable[[], bool] = _nothing  # whether something wants an empty bundle
    unfinished: Callable[[], bool] = _nothing  # whether a drain has to wait for more bundles
    end: Callable[[], None] = field(default=lambda: None)  # all is read: the last bundles begin


_followed: Final[dict[str, Followed]] = {}


def follow(run_id: str, followed: Followed) -> None:
    """Hands the log of a run to its reader in this process."""
    _followed[run_id] = followed


def forget_followed(run_id: str) -> None:
    """Frees what a run that has ended left here."""
    _followed.pop(run_id, None)


class FollowMark(CheckpointMark):
    """Checkpoint of the engine: the number of a bundle. What was read is with the process."""

    def __init__(self, bundle: int) -> None:
        self.bundle = bundle


class FollowMarkCoder(Coder):
    """Deterministic bytes: the engine finds a parked reader by them."""

    def encode(self, value: FollowMark) -> bytes:
        return value.bundle.to_bytes(8, "big")

    def decode(self, encoded: bytes) -> FollowMark:
        return FollowMark(int.from_bytes(encoded, "big"))

    def is_deterministic(self) -> bool:
        return True


@dataclass(frozen=True)
class FollowLog(UnboundedSource):
    """The source. One reader reads all files, for on one machine reading is not what bounds the job."""

    run_id: str
    poll_seconds: float = POLL_SECONDS

    def split(self, desired_num_splits: int, options: object = None) -> Iterable[UnboundedSource]:
        return [self]

    def create_reader(self, options: object, checkpoint_mark: FollowMark | None) -> UnboundedReader:
        return FollowReader(self)

    def get_checkpoint_mark_coder(self) -> Coder:
        return FollowMarkCoder()


def follow_log(run_id: str) -> ReadFromUnboundedSource:
    """Pipeline -> endless PCollection[RawRecord]; ends after `live_state(run_id).stop` is set."""
    return ReadFromUnboundedSource(
        FollowLog(run_id),
        poll_interval=0.0,  # the reader waits by itself: FnApiRunner would not
        max_records_per_bundle=MAX_BUNDLE_RECORDS,
        max_read_time_seconds=MAX_BUNDLE_SECONDS,
    ).with_output_types(typehints.Tuple[bytes, str, bytes, str])


class FollowReader(UnboundedReader):
    """One bundle reads what was there when it began; with nothing there it waits, holding up nobody."""

    def __init__(self, source: FollowLog) -> None:
        self._poll_seconds = source.poll_seconds
        self._state: LiveState = live_state(source.run_id)
        self._followed = _followed[source.run_id]
        self._log = self._followed.log
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
            self._current = self._log.take()
            return self._current is not None
        self._state.begin_bundle(self._log.places)
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
        return FollowMark(self._state.bundle)

    def _await_record(self) -> RawRecord | None:
        """The first record of a bundle, as soon as there is one, for a while."""
        deadline = time.monotonic() + _IDLE_SECONDS
        if (early := self._next_bundle - time.monotonic()) > 0 and not self._draining:
            self._state.stop.wait(early)
        while not self._draining:
            stopping = self._state.stop.is_set()
            looked = time.monotonic()
            self._look(find_new=stopping)
            if stopping:
                _LOG.info("draining: what is there is read, and nothing that comes later")
            # What is there at the stop is read to its end, and nothing that comes later.
            self._draining = stopping
            record = self._log.take()
            if record is not None:
                return record
            if stopping:
                break
            self._state.caught_up.set()
            self._state.between_bundles()
            now = time.monotonic()
            if now >= deadline or self._followed.waits():
                self._begin_empty()
                return None
            self._state.stop.wait(max(self._poll_seconds, (now - looked) * _POLL_SHARE))
        return self._last_records()

    def _begin_empty(self) -> None:
        """A bundle without records: it takes what was scored, and makes the lists that are due."""
        self._arrived = time.time()
        self._state.read_first(self._arrived)

    def _look(self, find_new: bool) -> None:
        find_new |= time.monotonic() - self._found >= FIND_SECONDS
        self._log.look(find_new)
        if find_new:
            self._found = time.monotonic()

    def _last_records(self) -> RawRecord | None:
        record = self._log.take()
        if record is not None:
            return record
        self._state.unfinished = tuple(self._log.unfinished())
        self._state.caught_up.set()
        deadline = time.monotonic() + _IDLE_SECONDS
        while self._followed.unfinished():
            self._state.between_bundles()
            if self._followed.waits() or time.monotonic() >= deadline:
                self._begin_empty()
                return None
            time.sleep(self._poll_seconds)
        self._ended = True
        return None
