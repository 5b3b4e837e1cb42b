"""ReadPulled: any pulled source as an endless source of raw records, acknowledged by checkpoints.

source = pulled_source("kafka://127.0.0.1:9092/feedback?group=livelist", splits=2)
records = pipeline | read_pulled(source)

A message is acknowledged when the engine has completed the checkpoint that holds its effects, and
not before. A reader is rebuilt from a checkpoint's mark: a Kafka partition from the offsets in it,
whatever the broker's own say; a subscription by being given again what was not acknowledged.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
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
from apache_beam.utils.timestamp import MAX_TIMESTAMP, MIN_TIMESTAMP, Timestamp

from models.adapters.base import RawRecord
from models.records import Micros
from models.times import wall_clock
from pipeline.connectors.addresses import KafkaTopic, SourceAddress
from pipeline.connectors.base import PullSource, Received
from pipeline.connectors.messages import event_time_of, record_of
from pipeline.connectors.registry import make_source
from pipeline.connectors.uris import parse_source
from pipeline.connectors.watermark import Watermark
from pipeline.inputs.progress import Progress, read_progress, write_progress
from pipeline.inputs.reading import MAX_RECORD_BYTES

#: Messages taken over from the source at a time.
_POLLED: Final = 1000
_TELL_SECONDS: Final = 1.0
#: A drain ends when nothing came for so long.
_DRAIN_QUIET_SECONDS: Final = 2.0
#: Where acknowledgements are late, it waits so long for them; what they miss comes again to the next job.
_DRAIN_OWED_SECONDS: Final = 30.0


class PulledMark(CheckpointMark):
    """Offsets to resume from, and in this process what to acknowledge; `reader` tells marks apart."""

    def __init__(
        self, reader: str, offsets: Mapping[str, int], acknowledge: Callable[[], None] | None = None
    ) -> None:
        self.reader = reader
        self.offsets = dict(offsets)
        self._acknowledge = acknowledge

    def finalize_checkpoint(self) -> None:
        """The checkpoint is complete."""
        if self._acknowledge is not None:
            self._acknowledge()


class PulledMarkCoder(Coder):
    """Deterministic bytes: the engine finds a parked reader by them."""

    def encode(self, value: PulledMark) -> bytes:
        packed: bytes = msgpack.packb([value.reader, sorted(value.offsets.items())])
        return packed

    def decode(self, encoded: bytes) -> PulledMark:
        reader, offsets = msgpack.unpackb(encoded)
        return PulledMark(reader, dict(offsets))

    def is_deterministic(self) -> bool:
        return True


@dataclass(frozen=True)
class PulledSource(UnboundedSource):
    """The source, or one split of it."""

    address: SourceAddress
    splits: int = 1  # at most: Kafka's partitions are dealt out, a subscription gets as many pullers
    drain_file: str = ""  # when it appears, what is there is read, then the source ends
    max_record_bytes: int = MAX_RECORD_BYTES
    out_of_order_seconds: float = 60.0
    idle_seconds: float = 30.0
    wait_seconds: float = 0.0  # for the first message of a bundle
    doubtful: bool = False  # whether the engine finalizes more than its checkpoint holds, see `Doubted`
    told: str = ""  # the file in which its reader tells how far it is
    event_time: Callable[[bytes], Micros | None] = event_time_of
    partitions: tuple[int, ...] | None = None  # of this split
    all_partitions: bool = False  # the one split of a Kafka topic: those too that it is given later
    name: str = field(default_factory=lambda: secrets.token_hex(8))  # unique to the split

    def split(self, desired_num_splits: int, options: object = None) -> Iterable[UnboundedSource]:
        """Independent parts. Of several, a Kafka topic's partitions are those that it has now."""
        count = min(self.splits, desired_num_splits)
        if not isinstance(self.address, KafkaTopic):
            return [replace(self, splits=1, name=f"{self.name}-{part}") for part in range(count)]
        from pipeline.connectors.kafka import partitions_of

        if count == 1:
            return [replace(self, all_partitions=True, name=f"{self.name}-0")]
        present = partitions_of(self.address)
        parts = [tuple(present[start::count]) for start in range(min(count, len(present)))]
        return [replace(self, splits=1, name=f"{self.name}-{min(part)}", partitions=part) for part in parts]

    def create_reader(self, options: object, checkpoint_mark: PulledMark | None) -> UnboundedReader:
        return PulledReader(self, checkpoint_mark)

    def get_checkpoint_mark_coder(self) -> Coder:
        return PulledMarkCoder()

    def pull_source(self) -> PullSource:
        """The source behind it, not opened yet."""
        if isinstance(self.address, KafkaTopic) and (self.all_partitions or self.partitions is not None):
            from pipeline.connectors.kafka import KafkaSource

            return KafkaSource(self.address, self.partitions, self.all_partitions)
        return make_source(self.address)


def pulled_source(
    uri: str | SourceAddress,
    splits: int = 1,
    drain_file: Path | None = None,
    wait_seconds: float = 0.0,
    max_record_bytes: int = MAX_RECORD_BYTES,
    doubtful: bool = False,
    told: Path | None = None,
) -> PulledSource:
    """The source of a URI. Raises UsageError or DeploymentError for it."""
    address = parse_source(uri) if isinstance(uri, str) else uri
    make_source(address)
    drained = str(drain_file.absolute()) if drain_file else ""
    return PulledSource(
        address,
        splits,
        drained,
        max_record_bytes,
        wait_seconds=wait_seconds,
        doubtful=doubtful,
        told=str(told.absolute()) if told else "",
    )


def read_pulled(
    source: PulledSource,
    poll_seconds: float = 0.1,
    max_records_per_bundle: int = 2_000,
    max_bundle_seconds: float = 0.5,
) -> ReadFromUnboundedSource:
    """Pipeline -> endless PCollection[RawRecord]. An idle reader is asked again after `poll_seconds`."""
    return ReadFromUnboundedSource(
        source,
        poll_interval=poll_seconds,
        max_records_per_bundle=max_records_per_bundle,
        max_read_time_seconds=max_bundle_seconds,
    ).with_output_types(typehints.Tuple[bytes, str, bytes, str])


@dataclass
class Doubted:
    """Receipts that an engine calls checkpointed before they are.

    Flink's portable runner finalizes, when a checkpoint is complete, every bundle that has ended by then,
    also those that ended after it was taken. So what it tells is taken for true only when it tells of a
    bundle that ended after that: then another checkpoint is complete, which holds them.
    """

    _told: list[list[str]] = field(default_factory=list)
    _told_at: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def tell(self, given: list[str], ended: float, now: float) -> list[list[str]]:
        """A bundle that gave these out and ended then was finalized now; returns what is true by that."""
        with self._lock:
            true: list[list[str]] = []
            if ended > self._told_at:
                true, self._told = self._told, []
            self._told.append(given)
            self._told_at = now
            return true


class _Receipts:
    """What a split has given out and not acknowledged; its readers in this process share it."""

    def __init__(self, doubtful: bool) -> None:
        self._doubted = Doubted() if doubtful else None
        self._finalized: deque[list[str]] = deque()  # from the engine's thread
        self.owed = 0  # marks with receipts that are not acknowledged

    def finalize(self, given: list[str], ended: float) -> None:
        """The engine calls a bundle that ended then checkpointed."""
        if self._doubted is None:
            self._finalized.append(given)
        else:
            self._finalized.extend(self._doubted.tell(given, ended, time.monotonic()))

    def acknowledge(self, pull: PullSource) -> None:
        """All that is in a checkpoint."""
        while self._finalized:
            given = self._finalized.popleft()
            if given:
                pull.commit(given)
                self.owed -= 1


#: Split -> its reader in this process. An engine that goes back to a checkpoint makes a new reader and
#: forgets the one before, which would hold its messages until it is found idle. Flink's makes a new one
#: where the one before was parked by another instance of the step: then it takes over the connection.
_readers: Final[dict[str, PulledReader]] = {}


class PulledReader(UnboundedReader):
    """Gives out what has come; waits no longer than the source says."""

    def __init__(self, source: PulledSource, mark: PulledMark | None) -> None:
        self._source = source
        self._from = mark.reader if mark is not None else ""
        self._offsets = dict(mark.offsets) if mark is not None else {}
        self._id = secrets.token_hex(8)
        self._marks = 0
        self._pull: PullSource | None = None
        self._polled: deque[Received] = deque()
        self._current: Received | None = None
        self._event_time: Micros = 0
        self._given: list[str] = []  # receipts since the last mark
        self._receipts = _Receipts(source.doubtful)
        self._watermark = Watermark(source.out_of_order_seconds, source.idle_seconds, wall_clock())
        self._last_came = time.monotonic()
        self._read_at = read_progress(Path(source.told)).moved if source.told else 0.0
        self._told = 0.0
        self._ended = False

    def start(self) -> bool:
        """Connects; raises InputError or DeploymentError."""
        before = _readers.pop(self._source.name, None)
        _readers[self._source.name] = self
        if before is not None and before.stands_at(self._from):
            self._take_over(before)
            return self.advance()
        if before is not None:
            before.close()
        pull = self._source.pull_source()
        pull.open(self._offsets)
        self._pull = pull
        return self.advance()

    def advance(self) -> bool:
        """Whether there is another record."""
        self._current = self._next()
        if self._current is None:
            return False
        key, _, offset = self._current.position.rpartition(":")
        self._given.append(self._current.receipt)
        self._read_at = time.time()
        if isinstance(self._source.address, KafkaTopic):
            self._offsets[key] = int(offset) + 1
        else:
            key = ""
        now = wall_clock()
        said = self._source.event_time(self._current.payload)
        self._event_time = min(said if said is not None else self._current.publish_time or now, now)
        self._watermark.observe(key, self._event_time, now)
        return True

    def get_current(self) -> RawRecord:
        assert self._current is not None
        return record_of(self._current.payload, self._current.position, self._source.max_record_bytes)

    def get_current_timestamp(self) -> Timestamp:
        return Timestamp(micros=self._event_time)

    def get_watermark(self) -> Timestamp:
        if self._ended:
            return MAX_TIMESTAMP
        value = self._watermark.value(wall_clock())
        return MIN_TIMESTAMP if value is None else Timestamp(micros=value)

    def get_checkpoint_mark(self) -> PulledMark:
        """All that was given out."""
        if self._source.told and time.monotonic() - self._told > _TELL_SECONDS:
            self._told = time.monotonic()
            write_progress(Path(self._source.told), Progress(dict(self._offsets), self._read_at))
        given, self._given = self._given, []
        self._receipts.owed += bool(given)
        self._marks += 1
        receipts, ended = self._receipts, time.monotonic()
        return PulledMark(self._name, self._offsets, lambda: receipts.finalize(given, ended))

    def close(self) -> None:
        """Gives back what no complete checkpoint holds."""
        if _readers.get(self._source.name) is self:
            del _readers[self._source.name]
        pull, self._pull = self._pull, None
        if pull is not None:
            self._receipts.acknowledge(pull)
            pull.close()

    def stands_at(self, mark: str) -> bool:
        """Whether a reader made from that mark would go on where this one is, which nobody needs then."""
        return self._pull is not None and not self._given and mark == self._name

    @property
    def _name(self) -> str:
        """Of the last mark."""
        return f"{self._id}-{self._marks}"

    def _take_over(self, before: PulledReader) -> None:
        self._pull, before._pull = before._pull, None
        self._id, self._marks = before._id, before._marks
        self._offsets, self._polled = before._offsets, before._polled
        self._receipts, self._watermark = before._receipts, before._watermark
        self._last_came, self._read_at = before._last_came, before._read_at

    def _next(self) -> Received | None:
        if self._polled:
            return self._polled.popleft()
        if self._pull is None:
            raise RuntimeError("this reader was closed: another one reads its split")
        self._receipts.acknowledge(self._pull)
        wait = 0.0 if self._given else self._source.wait_seconds  # what this bundle has is not held up
        self._polled.extend(self._pull.poll(_POLLED, wait))
        if self._polled:
            self._last_came = time.monotonic()
            return self._polled.popleft()
        quiet = time.monotonic() - self._last_came
        owes = self._source.doubtful and self._receipts.owed
        self._ended = (
            quiet >= (_DRAIN_OWED_SECONDS if owes else _DRAIN_QUIET_SECONDS)
            and bool(self._source.drain_file)
            and Path(self._source.drain_file).exists()
        )
        return None
