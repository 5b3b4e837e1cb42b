"""ParseFeedback: raw records to events; what cannot be understood goes to dead_letters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import apache_beam as beam
from apache_beam import typehints
from apache_beam.pvalue import DoOutputsTuple, TaggedOutput
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.windowed_value import WindowedValue

from models.accounting import DEAD_LETTERED, INPUT, QUARANTINED
from models.adapters import JsonLinesAdapter
from models.adapters.base import FeedbackAdapter, RawRecord
from models.cleaning import CleaningConfig
from models.errors import ERROR_CODES
from models.ingest import parse_item_or_reject, parse_or_reject
from models.records import DeadLetter, FeedbackEvent, Item, Micros
from models.times import wall_clock


@dataclass
class ParseFeedback(beam.PTransform):
    """PCollection[RawRecord] -> events, dead_letters, quarantine, accounting.

    `events` are FeedbackEvent not yet cleaned; `dead_letters` and `quarantine` are DeadLetter (the
    latter only under --missing_time=quarantine); `accounting` are (code, count), one a bundle and
    code of `models.accounting`. `now` is the wall clock that stamps rejects; None reads it at the
    start of each bundle.
    """

    adapter: FeedbackAdapter = field(default_factory=JsonLinesAdapter)
    cleaning: CleaningConfig = field(default_factory=CleaningConfig)
    now: Micros | None = None

    def expand(self, records: beam.PCollection[RawRecord]) -> DoOutputsTuple:
        return records | "ParseRecord" >> beam.ParDo(
            _ParseFeedback(self.adapter, self.cleaning, self.now)
        ).with_outputs("dead_letters", "quarantine", "accounting", main="events")


@dataclass
class ParseItems(beam.PTransform):
    """PCollection[RawRecord] -> items, dead_letters: the catalogue, beside the accounting of feedback."""

    adapter: FeedbackAdapter = field(default_factory=JsonLinesAdapter)
    now: Micros | None = None

    def expand(self, records: beam.PCollection[RawRecord]) -> DoOutputsTuple:
        return records | "ParseItem" >> beam.ParDo(_ParseItems(self.adapter, self.now)).with_outputs(
            "dead_letters", main="items"
        )


class RejectingDoFn(beam.DoFn):
    """Counts what it rejects and tells the counts at the end of a bundle: only committed ones count."""

    def __init__(self, now: Micros | None) -> None:
        self._fixed_now = now
        self._now: Micros = 0
        self._counts: Counter[str] = Counter()

    def start_bundle(self) -> None:
        self._now = wall_clock() if self._fixed_now is None else self._fixed_now
        self._counts = Counter()

    def finish_bundle(self) -> Iterator[TaggedOutput]:
        for counted in sorted(self._counts.items()):
            windowed: WindowedValue = GlobalWindows.windowed_value_at_end_of_window(counted)
            yield TaggedOutput("accounting", windowed)

    def rejected(self, row: DeadLetter) -> TaggedOutput:
        """`row`, counted, on its way to its table."""
        table = ERROR_CODES[row.error_code].table
        self._counts[(QUARANTINED if table == "quarantine" else DEAD_LETTERED) + row.error_code] += 1
        return TaggedOutput(table, row)


@typehints.with_input_types(typehints.Tuple[bytes, str, bytes, str])
@typehints.with_output_types(FeedbackEvent)
class _ParseFeedback(RejectingDoFn):
    def __init__(self, adapter: FeedbackAdapter, cleaning: CleaningConfig, now: Micros | None) -> None:
        super().__init__(now)
        self._adapter = adapter
        self._cleaning = cleaning

    def process(self, record: RawRecord) -> Iterable[FeedbackEvent | TaggedOutput]:
        self._counts[INPUT] += 1
        parsed = parse_or_reject(self._adapter, record, self._cleaning, self._now)
        return (parsed if isinstance(parsed, FeedbackEvent) else self.rejected(parsed),)


@typehints.with_input_types(typehints.Tuple[bytes, str, bytes, str])
@typehints.with_output_types(Item)
class _ParseItems(beam.DoFn):
    def __init__(self, adapter: FeedbackAdapter, now: Micros | None) -> None:
        self._adapter = adapter
        self._now = now

    def process(self, record: RawRecord) -> Iterable[Item | TaggedOutput]:
        now = wall_clock() if self._now is None else self._now
        parsed = parse_item_or_reject(self._adapter, record, now)
        return (parsed if isinstance(parsed, Item) else TaggedOutput("dead_letters", parsed),)
