"""ScoreBeside: behaviour at once, words as soon as they are scored by a step that reads a source of its own.

For engines that run their steps beside one another, and whose steps push back on what feeds them. A model
that is slow pushes back on the texts' own source alone, where the backlog waits unread.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import apache_beam as beam
from apache_beam import typehints

from models.adapters.base import FeedbackAdapter, RawRecord
from models.cleaning import CleaningConfig
from models.encoder.scorer import ScoringFailure
from models.ingest import clean_or_reject, parse_or_reject
from models.records import FINAL, LATE_SCORE, SCORE_FOLLOWS, FeedbackEvent, ScoredFeedback
from models.times import wall_clock
from transforms.run_inference import ModelHandler, RunInference
from transforms.score_feedback import ScoredEvent


class ScoredBeside(NamedTuple):
    """What comes out."""

    scored: beam.PCollection[ScoredFeedback]
    dead_letters: beam.PCollection


@dataclass
class ScoreBeside(beam.PTransform):
    """PCollection[FeedbackEvent] -> ScoredBeside; `dead_letters` stays empty.

    An event with words comes out at once, without a score, and once more when its copy among `texts` is
    scored; without a score again where its words cannot be scored. `hints` are Beam's resource hints for
    the encoder's step alone, such as its GPU.
    """

    texts: beam.PCollection[FeedbackEvent]
    handler: ModelHandler
    hints: Mapping[str, str] = field(default_factory=dict)

    def expand(self, events: beam.PCollection[FeedbackEvent]) -> ScoredBeside:
        passed = events | "PassUnscored" >> beam.ParDo(_Pass()).with_outputs("dead_letters", main="scored")
        late = (
            self.texts
            | "RunEncoder" >> RunInference(self.handler).with_resource_hints(**self.hints)
            | "AsLateScores" >> beam.Map(_late).with_output_types(ScoredFeedback)
        )
        return ScoredBeside((passed.scored, late) | "BothSpeeds" >> beam.Flatten(), passed.dead_letters)


@dataclass
class TextsOf(beam.PTransform):
    """PCollection[RawRecord] -> PCollection[FeedbackEvent]: clean events with words, and nothing else.

    What is rejected is told where the same records are read for their behaviour.
    """

    adapter: FeedbackAdapter
    cleaning: CleaningConfig

    def expand(self, records: beam.PCollection[RawRecord]) -> beam.PCollection[FeedbackEvent]:
        with_words = records | "MayHaveWords" >> beam.Filter(_may_have_words)
        spread = with_words | "SpreadTexts" >> beam.Reshuffle()
        return spread | "CleanTexts" >> beam.ParDo(_CleanTexts(self.adapter, self.cleaning))


def _may_have_words(record: RawRecord) -> bool:
    return b'"text"' in record[0]


@typehints.with_output_types(ScoredFeedback)
class _Pass(beam.DoFn):
    def process(self, event: FeedbackEvent) -> Iterator[ScoredFeedback]:
        yield ScoredFeedback(event, None, FINAL if event.text is None else SCORE_FOLLOWS)


@typehints.with_output_types(FeedbackEvent)
class _CleanTexts(beam.DoFn):
    def __init__(self, adapter: FeedbackAdapter, cleaning: CleaningConfig) -> None:
        self._adapter = adapter
        self._cleaning = cleaning

    def process(self, record: RawRecord) -> Iterator[FeedbackEvent]:
        now = wall_clock()
        parsed = parse_or_reject(self._adapter, record, self._cleaning, now)
        if not isinstance(parsed, FeedbackEvent) or parsed.text is None:
            return
        event = clean_or_reject(parsed, self._cleaning, now)
        if isinstance(event, FeedbackEvent) and event.text is not None:
            yield event


def _late(scored: ScoredEvent) -> ScoredFeedback:
    event, result = scored
    score = None if result is None or isinstance(result, ScoringFailure) else result.score
    return ScoredFeedback(event, score, LATE_SCORE)
