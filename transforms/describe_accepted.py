"""DescribeAccepted: the rows of `scored_feedback`, one per event that counts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import apache_beam as beam

from models.pane import EventCopy
from models.records import ITEM_KINDS, SCORE_FOLLOWS, TextScore
from models.tables import ScoredRow
from models.value import NO_OPINION, RatingScale, event_weight, opinion_of
from models.views import ViewPolicy, effective_ratings

_ITEM_CODES = range(len(ITEM_KINDS))


@dataclass
class DescribeAccepted(beam.PTransform):
    """PCollection[(user_id, list[EventCopy])] -> PCollection[ScoredRow]; none for what awaits its score."""

    policy: ViewPolicy = field(default_factory=ViewPolicy)

    def expand(self, accepted: beam.PCollection[tuple[str, list[EventCopy]]]) -> beam.PCollection[ScoredRow]:
        return accepted | "DescribeEvents" >> beam.ParDo(_DescribeEvents(self.policy))


class _DescribeEvents(beam.DoFn):
    def __init__(self, policy: ViewPolicy) -> None:
        self._policy = policy

    def process(self, element: tuple[str, list[EventCopy]]) -> Iterator[ScoredRow]:
        user_id, copies = element
        ratings = effective_ratings([copy.event for copy in copies], self._policy, None)
        for copy in copies:
            if copy.phase != SCORE_FOLLOWS:
                yield describe(user_id, copy, ratings.get(copy.event.slot), self._policy.rating_scale)


def describe(user_id: str, copy: EventCopy, rating: float | None, scale: RatingScale) -> ScoredRow:
    """The row of one accepted event; only feedback on items has a weight.

    `rating` is what the weight goes by: the event's own after imputation and normalisation.
    """
    event = copy.event
    opinion = opinion_of(event, rating, scale) or NO_OPINION
    weight = event_weight(event, opinion) if event.kind in _ITEM_CODES else None
    return ScoredRow(
        copy.event_id, user_id, event.kind_name, event.item_id, event.event_time, event.rating,
        score_of(copy), weight, opinion.conflict, copy.source_position,
    )  # fmt: skip


def score_of(copy: EventCopy) -> TextScore | None:
    """The text score of a copy, put together again from what the state keeps and what it does not."""
    score, details = copy.event.score, copy.details
    if score is None or details is None:
        return None
    return TextScore(
        sentiment=details.sentiment,
        polarity=score.polarity / 10_000,
        intensity=score.intensity / 10_000,
        confidence=score.confidence / 10_000,
        topics=tuple((name, weight / 1_000) for name, weight in score.topics),
        intent=score.intent or None,
        aspects=details.aspects,
        language=details.language,
        model_version=score.model_version,
    )
