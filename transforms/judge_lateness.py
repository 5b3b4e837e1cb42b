"""JudgeLateness: feedback that is much older than what stands before it in the log is quarantined.

For endless runs that read an ordered log in one process. The clock is the newest event_time so far,
but never ahead of the wall clock: so a log of last year is read whole, and a sender whose clock is
ahead makes nobody else late. It is kept in checkpoints and never runs back, so a restart goes on with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import apache_beam as beam
from apache_beam.pvalue import DoOutputsTuple, TaggedOutput

from models.pane import copy_of
from models.records import MICROS_PER_DAY, DeadLetter, FeedbackEvent, Micros, ScoredFeedback
from models.times import wall_clock
from transforms.live_store import live_store
from transforms.update_state import quarantined


@dataclass
class JudgeLateness(beam.PTransform):
    """PCollection[FeedbackEvent] -> `events` in time, `quarantine` (DeadLetter), `accounting` (code, count).

    An erasure is never late.
    """

    allowed: Micros  # before the clock
    run_id: str  # whose LiveStore keeps that time

    def expand(self, events: beam.PCollection[FeedbackEvent]) -> DoOutputsTuple:
        judged = beam.ParDo(_Judge(self.allowed, self.run_id)).with_output_types(
            FeedbackEvent, quarantine=DeadLetter, accounting=tuple[str, int]
        )
        return events | "Judge" >> judged.with_outputs("quarantine", "accounting", main="events")


class _Judge(beam.DoFn):
    def __init__(self, allowed: Micros, run_id: str) -> None:
        self._allowed = allowed
        self._run_id = run_id

    def setup(self) -> None:
        self._store = live_store(self._run_id)

    def process(self, event: FeedbackEvent) -> Iterator[FeedbackEvent | TaggedOutput]:
        self._store.newest = max(self._store.newest, min(event.event_time, wall_clock()))
        too_old = self._store.newest - self._allowed - event.event_time
        if too_old <= 0 or event.kind == "erase":
            yield event
            return
        copy = copy_of(ScoredFeedback(event, None), 0)
        evidence = f"{too_old / MICROS_PER_DAY:.3g} days older than what is still in time"
        yield TaggedOutput("quarantine", quarantined(event.user_id, copy, "late", evidence))
        yield TaggedOutput("accounting", ("quarantined.late", 1))
