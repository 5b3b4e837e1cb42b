"""Why an item is no longer on someone's list: the same pure core as the job, asked about one user."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from models.encoder.scorer import ScoringFailure, TextScorer
from models.errors import InputError
from models.pane import apply_pane, copy_of
from models.ranking.index import read_pointer
from models.ranking.item_index import ItemIndex
from models.ranking.ranker import score_of
from models.records import FeedbackEvent, Micros, RankedItem, ScoredFeedback
from models.state import UserState
from models.views import UserView, view_user
from pipeline.config import JobConfig
from pipeline.job import view_policy
from pipeline.reading import read_feedback
from transforms.rank_top_k import published_statistics


class Explainer:
    """Explains scores of some users' items against the index that a run has published."""

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

    def why_left(self, user_id: str, before: RankedItem, about: str | None, last_score: float) -> str:
        """Why an item that stood on the list before is gone now.

        `about` is the item that was spoken of; `last_score` is that of the last place now.
        """
        view, ranking = self._views[user_id], self._config.ranking
        spoken = next((one for one in view.interactions if one.item_id == about), None)
        score = score_of(view, self._index, ranking, self._clock, before.item_id) or 0.0
        held = [why for why in before.reasons if spoken and set(why.event_ids) & set(spoken.event_ids)]
        if spoken and spoken.liking < 0 and held:
            gone = sum(why.contribution for why in held)
            return f"No longer counts: {held[0].text[:1].lower()}{held[0].text[1:]} ({gone:+.2f})"
        return f"Outranked: it has {score:.2f}, the last place {last_score:.2f}"


def _scored(event: FeedbackEvent, scorer: TextScorer) -> ScoredFeedback:
    if event.text is None:
        return ScoredFeedback(event)
    result = scorer.score([event.text])[0]
    return ScoredFeedback(event, None if isinstance(result, ScoringFailure) else result.score)
