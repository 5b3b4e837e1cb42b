"""ReadByTimer: an endless source that a looping timer reads, in place of Beam's splittable reading.

For every bundle of a splittable source, several a second, the runner of the pinned jars makes a state with a
name of its own and never forgets it (apache/beam#27648): a job that lives for days would die of them. Here
the place in the source is one state and the watermark the hold of one timer, and both are overwritten. The
timer lies behind the watermark of its input, which is at its end from the start, so it fires again as soon
as its bundle is done; the reader itself waits for its first record.
"""

from __future__ import annotations

import pickle
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

import apache_beam as beam
from apache_beam import typehints
from apache_beam.coders import BytesCoder
from apache_beam.io.unbounded_source import CheckpointMark, UnboundedReader, UnboundedSource
from apache_beam.pvalue import TaggedOutput
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import (
    ReadModifyWriteRuntimeState,
    ReadModifyWriteStateSpec,
    RuntimeTimer,
    TimerSpec,
    on_timer,
)
from apache_beam.transforms.window import TimestampedValue
from apache_beam.utils.timestamp import MAX_TIMESTAMP, MIN_TIMESTAMP

from models.adapters.base import RawRecord

#: A backlog is cut into bundles of so many records, or of what is read in so long.
MAX_BUNDLE_RECORDS: Final = 2_000
MAX_BUNDLE_SECONDS: Final = 0.5
#: A source is cut into so many parts at most.
_SPLITS: Final = 20
#: A reader that nobody asks for any more, since its part is read by another worker, is closed after so long.
_KEPT_SECONDS: Final = 60.0
_MARKS: Final = "marks"


class ReadByTimer(beam.PTransform):
    """Pipeline -> endless PCollection[RawRecord]; marks are finalized with the checkpoints that hold them.

    A part that ends is never read again, not even by a job that is restored from there: so it is told by
    the file `ended`, whose folder the workers share.
    """

    def __init__(self, source: UnboundedSource, ended: Path | None = None) -> None:
        super().__init__()
        self._source = source
        self._ended = ended

    def expand(self, pipeline: beam.Pipeline) -> beam.PCollection[RawRecord]:
        read = (
            pipeline
            | "Start" >> beam.Impulse()
            | "Split" >> beam.ParDo(_Split(self._source))
            | "Read"
            >> beam.ParDo(_Read(secrets.token_hex(8), self._ended)).with_outputs(_MARKS, main="records")
        )
        read[_MARKS] | "Acknowledge" >> beam.ParDo(_Acknowledge())
        return read.records


@typehints.with_output_types(typehints.KV[str, bytes])
class _Split(beam.DoFn):
    """The parts of a source, numbered."""

    def __init__(self, source: UnboundedSource) -> None:
        self._source = source

    def process(self, element: bytes) -> Iterator[tuple[str, bytes]]:
        for number, part in enumerate(self._source.split(_SPLITS)):
            yield str(number), pickle.dumps(part)


class _Parked(NamedTuple):
    reader: UnboundedReader
    mark: bytes  # where it stands
    since: float


class _Readers:
    """Those of this process between two bundles: each may come to another instance of its step."""

    def __init__(self) -> None:
        self._parked: dict[str, _Parked] = {}
        self._lock = threading.Lock()

    def take(self, name: str, mark: bytes | None) -> UnboundedReader | None:
        """The reader of that name, where it stands at the mark."""
        with self._lock:
            found = self._parked.pop(name, None)
            forgotten = [each for each, parked in self._parked.items() if _is_forgotten(parked)]
            closed = [self._parked.pop(each).reader for each in forgotten]
        if found is not None and found.mark != mark:  # the engine went back to a checkpoint
            closed.append(found.reader)
            found = None
        for reader in closed:
            reader.close()
        return found.reader if found is not None else None

    def park(self, name: str, mark: bytes, reader: UnboundedReader) -> None:
        """Keeps it for the next bundle."""
        with self._lock:
            before = self._parked.pop(name, None)
            self._parked[name] = _Parked(reader, mark, time.monotonic())
        if before is not None:
            before.reader.close()

    def close(self, step: str) -> None:
        """Those of a step that ends."""
        with self._lock:
            ended = [self._parked.pop(name).reader for name in list(self._parked) if name.startswith(step)]
        for reader in ended:
            reader.close()


def _is_forgotten(parked: _Parked) -> bool:
    return time.monotonic() - parked.since > _KEPT_SECONDS


_readers: Final = _Readers()
#: Marks on their way to `_Acknowledge`, which is fused with the reading and so in the same process.
_marks: Final[dict[str, CheckpointMark]] = {}

_SOURCE_STATE: Final = ReadModifyWriteStateSpec("source", BytesCoder())
_MARK_STATE: Final = ReadModifyWriteStateSpec("mark", BytesCoder())
_AGAIN: Final = TimerSpec("again", TimeDomain.WATERMARK)
_SOURCE: Any = beam.DoFn.StateParam(_SOURCE_STATE)
_MARK: Any = beam.DoFn.StateParam(_MARK_STATE)
_TIMER: Any = beam.DoFn.TimerParam(_AGAIN)


@typehints.with_output_types(typehints.Tuple[bytes, str, bytes, str])
class _Read(beam.DoFn):
    """A part of a source by key."""

    def __init__(self, step: str, ended: Path | None = None) -> None:
        self._step = step
        self._ended = ended

    def teardown(self) -> None:
        _readers.close(self._step)

    def process(
        self,
        element: tuple[str, bytes],
        source: ReadModifyWriteRuntimeState = _SOURCE,
        again: RuntimeTimer = _TIMER,
    ) -> None:
        source.write(element[1])
        again.set(MIN_TIMESTAMP)

    @on_timer(_AGAIN)
    def read(
        self,
        part: str = beam.DoFn.KeyParam,
        source: ReadModifyWriteRuntimeState = _SOURCE,
        mark: ReadModifyWriteRuntimeState = _MARK,
        again: RuntimeTimer = _TIMER,
    ) -> Iterator[TimestampedValue | TaggedOutput]:
        """One bundle: what is there, or comes while the reader waits."""
        pickled, stands = source.read(), mark.read()
        name = f"{self._step}/{part}"
        of: UnboundedSource = pickle.loads(pickled)
        coder = of.get_checkpoint_mark_coder()
        reader = _readers.take(name, stands)
        try:
            if reader is not None:
                more = reader.advance()
            else:
                reader = of.create_reader(None, coder.decode(stands) if stands is not None else None)
                more = reader.start()
            count, ends = 0, time.monotonic() + MAX_BUNDLE_SECONDS
            while more:
                yield TimestampedValue(reader.get_current(), reader.get_current_timestamp())
                count += 1
                more = count < MAX_BUNDLE_RECORDS and time.monotonic() < ends and reader.advance()
            watermark = reader.get_watermark()
            reached = reader.get_checkpoint_mark()
        except BaseException:
            if reader is not None:
                reader.close()
            raise
        encoded = coder.encode(reached)
        mark.write(encoded)
        if type(reached).finalize_checkpoint is not CheckpointMark.finalize_checkpoint:
            token = secrets.token_hex(8)
            _marks[token] = reached
            yield TaggedOutput(_MARKS, token)
        if watermark >= MAX_TIMESTAMP:
            reader.close()
            self._tell_end()
            return
        _readers.park(name, encoded, reader)
        again.set(watermark)

    def _tell_end(self) -> None:
        if self._ended is not None:
            with suppress(OSError):  # the job's folder went: nobody is there to be told
                self._ended.touch()


class _Acknowledge(beam.DoFn):
    """Tells a mark when the checkpoint that holds its bundle is complete."""

    def process(self, token: str, finalizer: Any = beam.DoFn.BundleFinalizerParam) -> None:
        if (mark := _marks.pop(token, None)) is not None:
            finalizer.register(mark.finalize_checkpoint)
