"""ScoreLate: behaviour at once, words as soon as they are scored beside the job.

For engines that run one bundle at a time: there a model in the path of the events would hold up
every list. So events pass without a score, and a lane of its own reads the same log behind them,
scores what has words, and hands the scored copies to the end of the next bundle.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import apache_beam as beam
from apache_beam import typehints
from apache_beam.pvalue import DoOutputsTuple
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.windowed_value import WindowedValue

from models.encoder.scorer import ScoringFailure, ScoringResult
from models.records import FINAL, LATE_SCORE, SCORE_FOLLOWS, SCORED_ANEW, FeedbackEvent, ScoredFeedback
from models.text import text_hash
from transforms.live_store import live_store

#: Batches that wait to be taken; the lane reads no further meanwhile.
_MOST_BATCHES: Final = 4


class ScoredBatch(NamedTuple):
    """What the lane scored together, and how far it had read then."""

    scored: Sequence[tuple[FeedbackEvent, ScoringResult]]
    cursor: object
    anew: bool = False  # they had scores


@dataclass
class ScoreQueue:
    """Between the lane and the bundles; bounded."""

    ready: threading.Event = field(default_factory=threading.Event)  # something waits to be taken
    _batches: deque[ScoredBatch] = field(default_factory=deque)
    _room: threading.Condition = field(default_factory=threading.Condition)
    cursor: object = None  # of what was taken last
    failed: int = 0  # texts without a score

    def put(self, batch: ScoredBatch, stop: threading.Event) -> bool:
        """Hands a batch over, as soon as there is room; False when `stop` is set before."""
        with self._room:
            while len(self._batches) >= _MOST_BATCHES:
                if stop.is_set():
                    return False
                self._room.wait(0.1)
            self._batches.append(batch)
            if batch.scored:
                self.ready.set()
        return True

    def take(self) -> list[ScoredBatch]:
        """All that waits."""
        with self._room:
            batches = list(self._batches)
            self._batches.clear()
            self.ready.clear()
            self._room.notify_all()
        if batches:
            self.cursor = batches[-1].cursor
        return batches


_queues: Final[dict[str, ScoreQueue]] = {}


def score_queue(run_id: str) -> ScoreQueue:
    """The queue of a run in this process, made when first asked for."""
    return _queues.setdefault(run_id, ScoreQueue())


def forget_queue(run_id: str) -> None:
    """Frees what a run that has ended left here."""
    _queues.pop(run_id, None)


@dataclass
class ScoreLate(beam.PTransform):
    """PCollection[FeedbackEvent] -> `scored` (ScoredFeedback) and `dead_letters`, which stays empty.

    An event with words comes out at once, without a score, and once more when the lane has scored it.
    """

    run_id: str

    def expand(self, events: beam.PCollection[FeedbackEvent]) -> DoOutputsTuple:
        return events | "PassAndJoinScores" >> beam.ParDo(_PassAndJoinScores(self.run_id)).with_outputs(
            "dead_letters", main="scored"
        )


@typehints.with_output_types(ScoredFeedback)
class _PassAndJoinScores(beam.DoFn):
    def __init__(self, run_id: str) -> None:
        self._run_id = run_id

    def setup(self) -> None:
        self._queue = score_queue(self._run_id)
        self._store = live_store(self._run_id)

    def process(self, event: FeedbackEvent) -> Iterator[ScoredFeedback]:
        yield ScoredFeedback(event, None, FINAL if event.text is None else SCORE_FOLLOWS)

    def finish_bundle(self) -> Iterator[WindowedValue]:
        for batch in self._queue.take():
            for event, result in batch.scored:
                phase = SCORED_ANEW if batch.anew else LATE_SCORE
                yield GlobalWindows.windowed_value(self._late(event, result, phase))

    def _late(self, event: FeedbackEvent, result: ScoringResult, phase: str) -> ScoredFeedback:
        if isinstance(result, ScoringFailure):
            self._queue.failed += phase == LATE_SCORE
            return ScoredFeedback(event, None, phase)
        self._store.keep_vector(text_hash(event.text or ""), result.score.model_version, result.embedding)
        return ScoredFeedback(event, result.score, phase)
