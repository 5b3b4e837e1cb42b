"""The job, as the paragraph that describes it.

`build_recommender` takes and returns PCollections, so that tests, a laptop and production
differ only in the sources, sinks and scorer that are handed in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import apache_beam as beam

from models.accounting import DEAD_LETTERED
from models.ranking.config import IndexConfig, RankingConfig
from models.records import DeadLetter, FeedbackEvent, Item, Micros
from models.state import StateConfig
from models.views import ViewPolicy
from pipeline.progress import PROGRESS
from transforms.account_for_input import AccountForInput
from transforms.aggregate_trends import AggregateTrends
from transforms.build_index import BuildIndex, item_text
from transforms.describe_accepted import DescribeAccepted
from transforms.measure_quality import MeasureQuality
from transforms.rank_top_k import RankLive, RankTopK
from transforms.suppress_unchanged import SuppressUnchanged
from transforms.tell_canary import TellCanary
from transforms.update_state import UpdateUserState, UserRefresh


@dataclass(frozen=True)
class RecommenderConfig:
    """What the parts of a bounded run need to know."""

    index_root: str  # the published item index lives in <index_root>/index
    k: int = 10
    state: StateConfig = field(default_factory=StateConfig)
    policy: ViewPolicy = field(default_factory=ViewPolicy)
    index: IndexConfig = field(default_factory=IndexConfig)
    ranking: RankingConfig = field(default_factory=RankingConfig)
    now: Micros | None = None  # the ranking clock; None: the newest accepted event_time
    allowed_lateness: Micros | None = None  # before the clock; None: nothing is late
    history_window_seconds: float | None = None  # None: no history
    trend_window_seconds: float = 86_400.0


def build_recommender(
    events: beam.PCollection[FeedbackEvent],
    items: beam.PCollection[Item],
    accounting: tuple[beam.PCollection[tuple[str, int]], ...],
    score_feedback: beam.PTransform,
    config: RecommenderConfig,
) -> dict[str, beam.PCollection]:
    """From clean feedback to the tables, by name; `accounting` is what the stages before counted.

    Each text is scored; every event joins its user's state; the canonical sets teach the item
    index, which is published; then each user's list is ranked against it. What was rejected,
    what counts, its trends and the books of the run come out beside the lists.
    """
    scored = events | "ScoreFeedback" >> score_feedback
    catalogue = items | "ScoreCatalogue" >> ScoreCatalogue(score_feedback)
    joined = scored.scored | "UpdateUserState" >> UpdateUserState(
        config.state, config.policy, allowed_lateness=config.allowed_lateness, now=config.now
    )
    clock = joined.newest | "RankingClock" >> RankingClock(config.now)
    refreshes = joined.refreshes | "CountUsers" >> beam.Map(_count_user)
    index = {
        "refreshes": refreshes,
        "text_vectors": (scored.text_vectors, catalogue) | "AllVectors" >> beam.Flatten(),
        "items": items,
        "clock": clock,
    } | "BuildIndex" >> BuildIndex(config.index_root, config.state, config.policy, config.index)
    lists = refreshes | "RankTopK" >> RankTopK(
        index, clock, config.k, config.state, config.policy, config.ranking, config.history_window_seconds
    )
    accepted = joined.accepted | "DescribeAccepted" >> DescribeAccepted(config.policy)
    told = accepted | "AggregateTrends" >> AggregateTrends(config.trend_window_seconds)
    failed = scored.dead_letters | "CountFailed" >> beam.Map(_count_dead_letter)
    checks = accepted | "MeasureQuality" >> MeasureQuality(index, config.trend_window_seconds)
    compared = scored.comparisons | "TellCanary" >> TellCanary()
    books = (
        *accounting,
        scored.accounting,
        failed,
        joined.accounting,
    ) | "AccountForInput" >> AccountForInput()
    return {
        "recommendations": lists,
        "scored_feedback": accepted,
        "trends": told.trends,
        "alerts": told.alerts,
        "quality": (books, checks, compared) | "AllQuality" >> beam.Flatten(),
        "dead_letters": scored.dead_letters,
        "quarantine": joined.quarantine,
    }


@dataclass
class RankingClock(beam.PTransform):
    """Newest accepted event times -> the one clock of a bounded run, in microseconds."""

    now: Micros | None

    def expand(self, newest: beam.PCollection[int]) -> beam.PCollection[int]:
        if self.now is not None:
            return newest.pipeline | "Given" >> beam.Create([self.now])
        return newest | "Newest" >> beam.CombineGlobally(_newest)


def _newest(times: Iterable[int]) -> int:
    return max(times, default=0)


@dataclass
class ScoreCatalogue(beam.PTransform):
    """PCollection[Item] -> text vectors of the catalogue's own words, by the same scorer."""

    score_feedback: beam.PTransform

    def expand(self, items: beam.PCollection[Item]) -> beam.PCollection[tuple[int, str, bytes]]:
        texts = items | "ItemTexts" >> beam.FlatMap(_as_feedback)
        return (texts | "ScoreItemTexts" >> self.score_feedback).text_vectors


def _as_feedback(item: Item) -> Iterator[FeedbackEvent]:
    if text := item_text(item):
        yield FeedbackEvent(item.item_id, "", "query", 0, text=text)


def _count_user(refresh: UserRefresh) -> UserRefresh:
    PROGRESS.counts["users"] += 1
    return refresh


def _count_dead_letter(letter: DeadLetter) -> tuple[str, int]:
    return DEAD_LETTERED + letter.error_code, 1


def build_live_recommender(
    events: beam.PCollection[FeedbackEvent],
    score_feedback: beam.PTransform,
    config: RecommenderConfig,
    refresh_every_seconds: float = 1.0,
    keep_in: str = "",
    panes_of_bundles: bool = False,
) -> dict[str, beam.PCollection]:
    """The endless form: lists follow the panes of event time, ranked by the index that is published.

    `events` carry their event times as timestamps. A list that shows nothing new is held back
    until it does, or until the drain. The index is learned by bounded runs over the same log.

    Engines that keep no time are told by `keep_in`, a name of the run: there the panes are bundles,
    nothing waits for a shuffle or a timer, what is kept is with the process, and the launcher emits
    at the end what was held back. `panes_of_bundles` is for engines whose states and timers are live,
    but which would keep something for every window of event time for ever.
    """
    scored = events | "ScoreFeedback" >> score_feedback
    joined = scored.scored | "UpdateUserState" >> UpdateUserState(
        config.state,
        config.policy,
        refresh_every_seconds,
        keep_in=keep_in,
        panes_of_bundles=panes_of_bundles,
    )
    refreshed = joined.refreshes | "RankLive" >> RankLive(
        config.index_root, config.k, config.state, config.policy, config.ranking, keep_in=keep_in
    )
    emitted = refreshed | "SuppressUnchanged" >> SuppressUnchanged(keep_in)
    return {
        "recommendations": emitted.lists,
        "scored_feedback": joined.accepted | "DescribeAccepted" >> DescribeAccepted(config.policy),
        "accounting": joined.accounting,
        "suppressed": emitted.accounting,
        "dead_letters": scored.dead_letters,
        "quarantine": joined.quarantine,
    }
