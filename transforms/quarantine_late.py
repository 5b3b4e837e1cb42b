"""QuarantineLate: lateness is decided here, before any window, so that Beam never drops silently."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import apache_beam as beam
from apache_beam.pvalue import DoOutputsTuple, TaggedOutput

from models.errors import BadRecord
from models.records import MICROS_PER_DAY, DeadLetter, FeedbackEvent, Micros
from models.rejects import reject_event
from models.times import wall_clock
from transforms.parse_feedback import RejectingDoFn

STAGE = "quarantine_late"


@dataclass
class QuarantineLate(beam.PTransform):
    """PCollection[FeedbackEvent] -> events, quarantine, accounting.

    An event older than `allowed_lateness` microseconds before the clock is late. In a bounded
    run the clock is `now`, or the newest event_time of the run, never the order of arrival; in
    an endless run it is the wall clock. Erasures are never late.
    """

    allowed_lateness: Micros
    now: Micros | None = None
    endless: bool = False
    user_id_key: bytes | None = None

    def expand(self, events: beam.PCollection[FeedbackEvent]) -> DoOutputsTuple:
        judge = _JudgeLateness(self.allowed_lateness, self.user_id_key)
        if self.endless:
            judged = beam.ParDo(judge, None)
        elif self.now is not None:
            judged = beam.ParDo(judge, self.now)
        else:
            newest = events | "TimesOf" >> beam.Map(_time_of) | "NewestOf" >> beam.CombineGlobally(_newest)
            judged = beam.ParDo(judge, beam.pvalue.AsSingleton(newest))
        return events | "JudgeLateness" >> judged.with_output_types(
            FeedbackEvent, quarantine=DeadLetter, accounting=tuple[str, int]
        ).with_outputs("quarantine", "accounting", main="events")


def _time_of(event: FeedbackEvent) -> Micros:
    return event.event_time


def _newest(times: Iterator[Micros]) -> Micros:
    return max(times, default=0)


class _JudgeLateness(RejectingDoFn):
    def __init__(self, allowed_lateness: Micros, user_id_key: bytes | None) -> None:
        super().__init__(None)
        self._allowed = allowed_lateness
        self._key = user_id_key

    def process(self, event: FeedbackEvent, clock: Micros | None) -> Iterator[FeedbackEvent | TaggedOutput]:
        age = (wall_clock() if clock is None else clock) - event.event_time
        if age <= self._allowed or event.kind == "erase":
            yield event
            return
        days, allowed = age / MICROS_PER_DAY, self._allowed / MICROS_PER_DAY
        error = BadRecord("late", f"event_time: {days:.3g} days before the clock, {allowed:.3g} are allowed")
        # The id is a pseudonym already where a key is given.
        yield self.rejected(reject_event(STAGE, error, event, self._now))
