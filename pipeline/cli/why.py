"""What feedback no longer speaks for an item: the same pure core as the job, asked about a few users."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from models.encoder.scorer import ScoringFailure, TextScorer
from models.errors import InputError
from models.pane import apply_pane, copy_of
from models.ranking.index import read_pointer
from models.ranking.item_index import ItemIndex
from models.records import FeedbackEvent, Micros, RankedItem, ScoredFeedback
from models.state import UserState
from models.views import UserView, view_user
from pipeline.config import JobConfig
from pipeline.job import view_policy
from pipeline.reading import read_feedback
from transforms.rank_top_k import published_statistics


class Explainer:
    """Knows some users' views against the index that a run has published."""

    def __init__(self, config: JobConfig, users: Iterable[str]) -> None:
        directory = read_pointer(Path(config.output))
        if directory is None:
            raise InputError(f"{config.output} holds no item index; run the job first")
        self._config = config
        self._index = ItemIndex.open(directory, verify=False)
        events = read_feedback(config.inputs, config.form, config.cleaning)
        accepted = [event for event in events if isinstance(event, FeedbackEvent)]
        self._clock: Micros = (
            max(event.event_time for event in accepted) if config.now is None else config.now
        )
        wanted = set(users)
        self._views = self._make_views([event for event in accepted if event.user_id in wanted])

    def _make_views(self, events: list[FeedbackEvent]) -> Mapping[str, UserView]:
        scorer = TextScorer.load(self._config.model, self._config.topics, self._config.providers)
        policy, config = view_policy(self._config), self._config.state
        states: dict[str, UserState] = {}
        for event in events:
            state = states.setdefault(event.user_id, UserState())
            apply_pane(state, [copy_of(_scored(event, scorer), self._clock)], config, policy)
        statistics = published_statistics(self._index)
        return {
            user_id: view_user(user_id, state, policy, self._clock, config.ttl_micros, statistics)
            for user_id, state in states.items()
        }

    def lost_support(self, user_id: str, before: RankedItem, about: str | None) -> float:
        """What feedback on `about` gave an item of the earlier list, if it has turned negative; else 0."""
        spoken = next((one for one in self._views[user_id].interactions if one.item_id == about), None)
        if spoken is None or spoken.liking >= 0:
            return 0.0
        return sum(why.contribution for why in before.reasons if set(why.event_ids) & set(spoken.event_ids))


def _scored(event: FeedbackEvent, scorer: TextScorer) -> ScoredFeedback:
    if event.text is None:
        return ScoredFeedback(event)
    result = scorer.score([event.text])[0]
    return ScoredFeedback(event, None if isinstance(result, ScoringFailure) else result.score)
