"""A history as the pure core sees it, without a pipeline: for `evaluate` and for explaining single lists.

The functions that read, clean, score and join are the job's own; only the shuffle is missing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from models.encoder.scorer import ScoringFailure, ScoringResult, TextScorer
from models.encoder.serving import SHIPPED, published_version
from models.errors import InputError
from models.pane import apply_pane, copy_of
from models.records import FeedbackEvent, Item, Micros, ScoredFeedback
from models.state import CompactEvent, UserState
from models.text import text_hash
from models.views import RatingStatistics, UserView, ViewPolicy, accepted_events, view_events
from pipeline.config import JobConfig
from pipeline.inputs.reading import read_feedback, read_items
from pipeline.job import NO_MODEL, view_policy
from pipeline.progress import JOINING, PROGRESS, SCORING
from transforms.build_index import TextVector, item_text, owned_vectors

_BATCH: Final = 512  # texts scored together
#: (model version, text) -> its score
KnownScores: TypeAlias = dict[tuple[str, str], ScoringResult]


@dataclass(slots=True)
class History:
    """Everybody's feedback at one clock."""

    clock: Micros  # the newest accepted event_time, or --now
    policy: ViewPolicy
    events: dict[str, list[CompactEvent]]  # user_id -> the events that count, oldest first
    items: list[Item] = field(default_factory=list)
    vectors: list[TextVector] = field(default_factory=list)  # (text hash, item_id or "", float16)

    def views(self, statistics: RatingStatistics | None = None) -> list[UserView]:
        """The view of every user, by user_id."""
        return [
            view_events(user_id, self.events[user_id], self.policy, statistics)
            for user_id in sorted(self.events)
        ]

    def without_item(self, view: UserView, item_id: str) -> UserView:
        """A user's view as if there had been no event about an item; what it lacks already stays away."""
        left = {one.item_id for one in view.interactions} | set(view.mentioned)
        left.discard(item_id)
        events = self.events[view.user_id]
        kept = [event for event in events if not event.item_id or event.item_id in left]
        return view_events(view.user_id, kept, self.policy)


def load_history(
    config: JobConfig,
    users: Collection[str] | None = None,
    known: KnownScores | None = None,
) -> History:
    """Reads, cleans, scores and joins a history; only of some `users` when they are given.

    `known` are texts that were scored before; the others are added to it. Raises InputError when
    nothing is accepted, DeploymentError when the model is not sound.
    """
    read = read_feedback(config.inputs, config.form, config.cleaning)
    accepted = [event for event in read if isinstance(event, FeedbackEvent)]
    if not accepted:
        raise InputError("no event was accepted; `livelist validate` says why")
    clock = max(event.event_time for event in accepted) if config.now is None else config.now
    catalogue = read_items(config.items, config.form) if config.items else ()
    items = [item for item in catalogue if isinstance(item, Item)]
    wanted = [event for event in accepted if users is None or event.user_id in users]
    texts = [event.text for event in wanted if event.text is not None]
    scores = score_texts(config, [*texts, *(item_text(item) for item in items if users is None)], known)
    PROGRESS.enter(JOINING)
    states = _join(_scored(wanted, scores), config, clock - config.allowed_lateness)
    policy, ttl = view_policy(config), config.state.ttl_micros
    return History(
        clock,
        policy,
        {user_id: accepted_events(state, policy, clock, ttl) for user_id, state in states.items()},
        items,
        vectors_of(scores, items),
    )


def score_texts(
    config: JobConfig, texts: Iterable[str], known: KnownScores | None = None
) -> dict[str, ScoringResult]:
    """The score of each distinct text by one model; none with `--model none`.

    Those that it gave before, which are in `known`, are not scored again; the others are added.
    """
    distinct = sorted({text for text in texts if text})
    if config.model == NO_MODEL or not distinct:
        return {}
    known = {} if known is None else known
    version = published_version(config.model or SHIPPED)
    if missing := [text for text in distinct if (version, text) not in known]:
        PROGRESS.enter(SCORING, len(missing))
        scorer = TextScorer.load(config.model, config.topics, config.providers, config.threads)
        if scorer.model_version != version:  # it was published meanwhile
            version, missing = scorer.model_version, distinct
        PROGRESS.texts = lambda: scorer.texts
        for begin in range(0, len(missing), _BATCH):
            batch = missing[begin : begin + _BATCH]
            for text, result in zip(batch, scorer.score(batch), strict=True):
                known[version, text] = result
            PROGRESS.advance(len(batch))
    return {text: known[version, text] for text in distinct}


def _scored(events: Sequence[FeedbackEvent], scores: dict[str, ScoringResult]) -> Iterator[ScoredFeedback]:
    """Events with their scores; like the job, without those whose text could not be scored."""
    for event in events:
        result = None if event.text is None else scores.get(event.text)
        if not isinstance(result, ScoringFailure):
            yield ScoredFeedback(event, None if result is None else result.score)


def _join(scored: Iterable[ScoredFeedback], config: JobConfig, oldest: Micros) -> dict[str, UserState]:
    copies = defaultdict(list)
    for each in scored:
        copies[each.event.user_id].append(copy_of(each, 0))
    states = {user_id: UserState() for user_id in copies}
    for user_id, state in states.items():
        apply_pane(state, copies[user_id], config.state, view_policy(config), oldest)
    return states


def vectors_of(scores: dict[str, ScoringResult], items: Iterable[Item]) -> list[TextVector]:
    """(text hash, item_id whose catalogue text it is or "", float16 vector) of each scored text."""
    return list(owned_vectors(_vectors(scores), items))


def _vectors(scores: dict[str, ScoringResult]) -> Iterator[TextVector]:
    for text, result in scores.items():
        if not isinstance(result, ScoringFailure):
            yield text_hash(text), result.score.model_version, result.embedding
