"""CleanFeedback: events to trusted, tidied events; what is not trusted goes to quarantine."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import apache_beam as beam
from apache_beam import typehints
from apache_beam.pvalue import DoOutputsTuple, TaggedOutput

from models.cleaning import CleaningConfig
from models.ingest import clean_or_reject
from models.records import FeedbackEvent, Micros
from transforms.parse_feedback import RejectingDoFn

#: Told beside the sum: texts that cleaning or redaction changed, and those of them that were too long.
TIDIED_TEXTS = "note.tidied_texts"
CUT_TEXTS = "note.cut_texts"


@dataclass
class CleanFeedback(beam.PTransform):
    """PCollection[FeedbackEvent] -> events, dead_letters, quarantine, accounting.

    `events` have clean, redacted text and, given a key, pseudonyms; `dead_letters` and `quarantine`
    are DeadLetter; `accounting` are (code, count), one a bundle and code. `now` is the wall clock
    that judges times in the future; None reads it at the start of each bundle.
    """

    cleaning: CleaningConfig = field(default_factory=CleaningConfig)
    now: Micros | None = None

    def expand(self, events: beam.PCollection[FeedbackEvent]) -> DoOutputsTuple:
        return events | "CleanEvent" >> beam.ParDo(_CleanFeedback(self.cleaning, self.now)).with_outputs(
            "dead_letters", "quarantine", "accounting", main="events"
        )


@typehints.with_input_types(FeedbackEvent)
@typehints.with_output_types(FeedbackEvent)
class _CleanFeedback(RejectingDoFn):
    def __init__(self, cleaning: CleaningConfig, now: Micros | None) -> None:
        super().__init__(now)
        self._cleaning = cleaning

    def process(self, event: FeedbackEvent) -> Iterable[FeedbackEvent | TaggedOutput]:
        cleaned = clean_or_reject(event, self._cleaning, self._now)
        if not isinstance(cleaned, FeedbackEvent):
            return (self.rejected(cleaned),)
        if event.text is not None and cleaned.text != event.text:
            self._counts[TIDIED_TEXTS] += 1
            self._counts[CUT_TEXTS] += len(event.text) > self._cleaning.max_text_chars
        return (cleaned,)
