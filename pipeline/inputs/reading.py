"""Feedback and items from files without Beam: for `validate` and `evaluate`, and inside the job."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from models.adapters import adapter_of
from models.adapters.base import FeedbackAdapter, RawRecord
from models.adapters.framing import split_records
from models.cleaning import CleaningConfig
from models.ingest import clean_or_reject, parse_item_or_reject, parse_or_reject
from models.records import DeadLetter, FeedbackEvent, Item, Micros
from models.times import wall_clock
from pipeline.inputs.decompression import decompressed
from pipeline.inputs.finding import Input, check_inputs, open_input, total_bytes
from pipeline.progress import PROGRESS, READING, READING_ITEMS

MAX_RECORD_BYTES: Final = 1_048_576


@dataclass(frozen=True, slots=True)
class InputFormat:
    """How inputs are read."""

    name: str = "jsonl"  # one of models.adapters.FORMATS
    columns: tuple[tuple[str, str], ...] = ()  # --map: (field, column)
    constants: tuple[tuple[str, str], ...] = ()  # --set: (field, value)
    time_format: str = ""  # --time_format: how event_time is written, as in strptime
    max_record_bytes: int = MAX_RECORD_BYTES

    def __post_init__(self) -> None:
        if self.max_record_bytes < 1:
            raise ValueError(f"max_record_bytes must be at least 1, got {self.max_record_bytes}")

    @property
    def adapter(self) -> FeedbackAdapter:
        """The format's adapter; raises UsageError for an unknown name, mapped field or form of time."""
        return adapter_of(self.name, self.columns, self.constants, self.time_format)


def iterate_records(patterns: Iterable[str], form: InputFormat) -> Iterator[RawRecord]:
    """The raw records of all inputs, in order; raises InputError where one cannot be opened."""
    adapter, inputs = form.adapter, check_inputs(patterns)
    PROGRESS.enter(READING, total_bytes(inputs))
    for each in inputs:
        yield from read_told(each, adapter, form.max_record_bytes)


def read_told(
    source: Input, adapter: FeedbackAdapter, max_record_bytes: int, feedback: bool = True
) -> Iterator[RawRecord]:
    """As `read_records`, and tells this process's PROGRESS how far it is."""
    what, counts = "records" if feedback else "items", PROGRESS.counts
    for record in read_records(source, adapter, max_record_bytes, feedback, PROGRESS.advance):
        counts[what] += 1
        yield record


def read_records(
    source: Input,
    adapter: FeedbackAdapter,
    max_record_bytes: int,
    check_header: bool = True,
    consumed: Callable[[float], None] | None = None,
) -> Iterator[RawRecord]:
    """The raw records of one input, in order and in bounded memory; `consumed` hears of bytes used up."""
    with open_input(source.path) as stream:
        chunks = decompressed(stream, source.name, consumed)
        yield from split_records(chunks, adapter, source.name, max_record_bytes, check_header)


def check_headers(
    sources: Iterable[Input], adapter: FeedbackAdapter, max_record_bytes: int, feedback: bool = True
) -> None:
    """Reads each input's first record, so that an InputError about its header comes before the job."""
    for each in sources:
        next(read_records(each, adapter, max_record_bytes, feedback), None)


def read_feedback(
    patterns: Iterable[str],
    form: InputFormat | None = None,
    cleaning: CleaningConfig | None = None,
    now: Micros | None = None,
) -> Iterator[FeedbackEvent | DeadLetter]:
    """Trusted, tidied events, and the rows of what was rejected, in the order of the inputs.

    What the job's ParseFeedback and CleanFeedback do, by the same functions. `now` is the wall
    clock that judges times in the future.
    """
    form, cleaning = form or InputFormat(), cleaning or CleaningConfig()
    now = wall_clock() if now is None else now
    adapter = form.adapter
    for record in iterate_records(patterns, form):
        read = parse_or_reject(adapter, record, cleaning, now)
        yield clean_or_reject(read, cleaning, now) if isinstance(read, FeedbackEvent) else read


def read_items(
    patterns: Iterable[str], form: InputFormat | None = None, now: Micros | None = None
) -> Iterator[Item | DeadLetter]:
    """Catalogue entries, and the rows of what was rejected, in the order of the inputs."""
    form = form or InputFormat()
    now = wall_clock() if now is None else now
    adapter, inputs = form.adapter, check_inputs(patterns)
    PROGRESS.enter(READING_ITEMS, total_bytes(inputs))
    for each in inputs:
        for record in read_told(each, adapter, form.max_record_bytes, feedback=False):
            yield parse_item_or_reject(adapter, record, now)
