"""What ranking sees of a user: a pure function of the canonical set, never of arrival order."""

from __future__ import annotations

import json
import math
import statistics as statistics_of
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Final, NamedTuple, TypeAlias

import numpy as np

from models.records import KIND_CODES, MICROS_PER_DAY, MICROS_PER_SECOND, Micros
from models.state import CompactEvent, Slot, UserState, precedence
from models.text import word_ids
from models.value import NO_OPINION, STRENGTH_BY_CODE, RatingScale, opinion_of

ACCEPTED: Final = "accepted"
DUPLICATE: Final = "duplicate"
SUPERSEDED: Final = "superseded"
RETRACTED: Final = "retracted"

MISSING_RATING_POLICIES: Final = ("none", "drop", "mean", "median", "mode", "interpolate", "from_text")
NORMALIZE_RATINGS_POLICIES: Final = ("none", "mean", "zscore")

_RatingOf: TypeAlias = Callable[[CompactEvent], float | None]
_RATED_KINDS: Final = frozenset({KIND_CODES["rating"], KIND_CODES["review"]})
_QUERY: Final = KIND_CODES["query"]
_PROFILE: Final = KIND_CODES["profile"]


class Interaction(NamedTuple):
    """All that a user did with one item, as one evidence: it counts, and is cited, as a whole."""

    item_id: str
    event_ids: tuple[str, ...]  # the evidence, oldest first
    time: Micros  # of the newest of them
    kind: str  # the strongest kind, for the sentence of the reason
    strength: float  # (0, 1], how much these kinds say
    liking: float  # [-1, 1], by stars, else by words, else a mild prior
    conflict: bool  # stars and words disagree; liking is halved
    rating: float | None  # the newest, after imputation and normalisation
    polarity: float | None  # of the newest text
    words: bytes  # uint16 little-endian hashed words of the user's texts about it
    text_hashes: tuple[int, ...]  # of those texts

    @property
    def value(self) -> float:
        """Signed value in [-1, 1]: bought and hated is negative."""
        return self.strength * self.liking


@dataclass(frozen=True, slots=True)
class Query:
    """A request in words."""

    event_id: str
    time: Micros
    words: bytes  # uint16 little-endian
    text_hash: int
    topics: tuple[str, ...]
    intent: str | None


@dataclass(frozen=True, slots=True)
class ProfileAttribute:
    """One declared attribute, the newest value of its name."""

    event_id: str
    name: str
    value: str
    words: bytes  # uint16 little-endian hashed words of the value


@dataclass(frozen=True, slots=True)
class UserView:
    """A user at a clock: the only input of ranking and of the index besides the catalogue."""

    user_id: str
    interactions: tuple[Interaction, ...]  # oldest first by (time, newest event_id)
    queries: tuple[Query, ...]  # oldest first
    profile: tuple[ProfileAttribute, ...]  # sorted by name
    topics: tuple[tuple[str, float], ...]  # affinity from liked texts, sorted by name; values in [-1, 1]
    newest_time: Micros  # newest event_time of an accepted event; 0 for an empty state
    mentioned: tuple[str, ...] = ()  # other items, sorted, that events name without saying anything of them


@dataclass(frozen=True, slots=True)
class RatingStatistics:
    """Published statistics of the index, for users who never rated."""

    mean: float
    median: float
    mode: float


@dataclass(frozen=True)
class ViewPolicy:
    """The cleaning policies that are views over the state, so that they undo exactly."""

    rating_scale: RatingScale = field(default_factory=RatingScale)
    missing_rating: str = "none"  # one of MISSING_RATING_POLICIES; drop has acted before the state
    normalize_ratings: str = "none"  # one of NORMALIZE_RATINGS_POLICIES
    content_duplicates: bool = True  # same item, kind and text: the smallest event_id stands
    bursts: bool = True
    burst_events: int = 200
    burst_seconds: float = 10.0
    burst_text_items: int = 10
    burst_text_characters: int = 40

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("missing_rating", self.missing_rating, MISSING_RATING_POLICIES),
            ("normalize_ratings", self.normalize_ratings, NORMALIZE_RATINGS_POLICIES),
        ):
            if value not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")

    @property
    def keeps_ratings(self) -> bool:
        """Whether every rating counts as it was given, and only those."""
        return self.missing_rating in ("none", "drop") and self.normalize_ratings == "none"


def refusals(events: Sequence[CompactEvent], policy: ViewPolicy) -> dict[Slot, tuple[str, str]]:
    """Of a canonical set, given oldest first: the slots that are not accepted, each with why.

    That is DUPLICATE, SUPERSEDED, RETRACTED or an error code of the quarantine, and the evidence in words.
    Bursts are judged before content duplicates: the evidence is what was sent.
    """
    codes: dict[Slot, tuple[str, str]] = {}
    standing = _standing_copies(events, codes)
    if policy.bursts:
        standing = _without_bursts(standing, policy, codes)
    if policy.content_duplicates:
        _mark_content_duplicates(standing, codes)
    return codes


def _standing_copies(
    events: Sequence[CompactEvent], codes: dict[Slot, tuple[str, str]]
) -> list[CompactEvent]:
    """Drops retracted ids; of one id at several times, the highest (revision, content hash) stands."""
    if not any(event.retracted for event in events) and len({event.event_id for event in events}) == len(
        events
    ):
        return list(events)
    retracted = {event.event_id for event in events if event.retracted}
    best: dict[str, CompactEvent] = {}
    for event in events:
        if event.event_id not in retracted:
            other = best.get(event.event_id)
            if other is None or precedence(event) >= precedence(other):
                best[event.event_id] = event
    for event in events:
        if event.event_id in retracted:
            codes[event.slot] = (RETRACTED, "")
        elif best[event.event_id] is not event:
            codes[event.slot] = (SUPERSEDED, f"event_id {event.event_id} came again with another time")
    return [event for event in events if event.slot not in codes]


def _without_bursts(
    events: list[CompactEvent], policy: ViewPolicy, codes: dict[Slot, tuple[str, str]]
) -> list[CompactEvent]:
    """Quarantines what no person does; whole-day timestamps say nothing about pace."""
    if len(events) >= policy.burst_events:
        _mark_fast_events([event for event in events if event.event_time % MICROS_PER_DAY], policy, codes)
    if len(events) >= policy.burst_text_items:
        _mark_repeated_texts(events, policy, codes)
    return [event for event in events if event.slot not in codes]


def _mark_fast_events(
    timed: list[CompactEvent], policy: ViewPolicy, codes: dict[Slot, tuple[str, str]]
) -> None:
    span = int(policy.burst_seconds * MICROS_PER_SECOND)
    size = policy.burst_events
    marked_until = 0
    for end in range(size - 1, len(timed)):
        start = end - size + 1
        if timed[end].event_time - timed[start].event_time <= span:
            evidence = (
                f"{size} events within {policy.burst_seconds:g} s, "
                f"from {timed[start].event_id} to {timed[end].event_id}"
            )
            for event in timed[max(start, marked_until) : end + 1]:
                codes[event.slot] = ("burst_events", evidence)
            marked_until = end + 1


def _mark_repeated_texts(
    events: list[CompactEvent], policy: ViewPolicy, codes: dict[Slot, tuple[str, str]]
) -> None:
    items_by_text: dict[int, set[str]] = defaultdict(set)
    for event in events:
        if event.text_length >= policy.burst_text_characters and event.item_id is not None:
            items_by_text[event.text_hash].add(event.item_id)
    repeated = {
        text: len(items) for text, items in items_by_text.items() if len(items) >= policy.burst_text_items
    }
    for event in events:
        if event.text_hash in repeated and event.item_id is not None:
            evidence = f"the same text of {event.text_length} characters on {repeated[event.text_hash]} items"
            codes[event.slot] = ("burst_text", evidence)


def _mark_content_duplicates(events: list[CompactEvent], codes: dict[Slot, tuple[str, str]]) -> None:
    first: dict[tuple[str | None, int, int], CompactEvent] = {}
    texts = 0
    for event in events:
        if event.text_length:
            texts += 1
            key = (event.item_id, event.kind, event.text_hash)
            other = first.get(key)
            if other is None or event.event_id < other.event_id:
                first[key] = event
    if texts == len(first):
        return
    for event in events:
        if event.text_length:
            stands = first[(event.item_id, event.kind, event.text_hash)]
            if stands is not event:
                codes[event.slot] = (DUPLICATE, f"the same words as {stands.event_id}")


def accepted_events(state: UserState, policy: ViewPolicy, clock: Micros, ttl: Micros) -> list[CompactEvent]:
    """The events that count, oldest first: not among the `refusals`, not older than `ttl` at `clock`."""
    oldest = clock - ttl
    events = state.sorted_events()
    if refused := refusals(events, policy):
        events = [event for event in events if event.slot not in refused]
    return [event for event in events if event.event_time >= oldest]


def view_user(
    user_id: str,
    state: UserState,
    policy: ViewPolicy,
    clock: Micros,
    ttl: Micros,
    statistics: RatingStatistics | None = None,
) -> UserView:
    """The view of a user at `clock` (microseconds): see `UserView`."""
    return view_events(user_id, accepted_events(state, policy, clock, ttl), policy, statistics)


def view_events(
    user_id: str,
    events: Sequence[CompactEvent],
    policy: ViewPolicy,
    statistics: RatingStatistics | None = None,
) -> UserView:
    """The view of accepted events, given oldest first."""
    rating_of = _rating_reader(events, policy, statistics)
    by_item: dict[str, list[CompactEvent]] = {}
    queries = []
    profile: dict[str, ProfileAttribute] = {}
    for event in events:
        if event.kind == _QUERY:
            queries.append(_query(event))
        elif event.kind == _PROFILE:
            profile.update({name: _attribute(event, name, value) for name, value in event.attributes})
        elif event.item_id is not None:
            by_item.setdefault(event.item_id, []).append(event)
    interactions = [_interaction(item, evidence, rating_of, policy) for item, evidence in by_item.items()]
    told = [interaction for interaction in interactions if interaction is not None]
    told.sort(key=lambda interaction: (interaction.time, interaction.event_ids[-1]))
    return UserView(
        user_id=user_id,
        interactions=tuple(told),
        queries=tuple(queries),
        profile=tuple(profile[name] for name in sorted(profile)),
        topics=_topic_affinity(events, rating_of, policy),
        newest_time=events[-1].event_time if events else 0,
        mentioned=tuple(sorted(by_item.keys() - {interaction.item_id for interaction in told}))
        if len(told) < len(by_item)
        else (),
    )


def _interaction(
    item_id: str, evidence: list[CompactEvent], rating_of: _RatingOf, policy: ViewPolicy
) -> Interaction | None:
    """One item's events as one evidence; the newest opinion speaks for all of them.

    None when the kinds say nothing, as impressions do.
    """
    strength = 0.0
    strongest = evidence[0]
    opinion = NO_OPINION
    rating = None
    for event in evidence:
        if STRENGTH_BY_CODE[event.kind] > strength:
            strength, strongest = STRENGTH_BY_CODE[event.kind], event
        rated = rating_of(event)
        rating = rating if rated is None else rated
        opinion = opinion_of(event, rated, policy.rating_scale) or opinion
    if strength == 0.0:
        return None
    texts = [event for event in evidence if event.text_length]
    scored = [event.score for event in texts if event.score is not None]
    return Interaction(
        item_id=item_id,
        event_ids=tuple(event.event_id for event in evidence),
        time=evidence[-1].event_time,
        kind=strongest.kind_name,
        strength=strength,
        liking=opinion.liking,
        conflict=opinion.conflict,
        rating=rating,
        polarity=scored[-1].polarity * 1e-4 if scored else None,
        words=b"".join([event.words for event in texts]),
        text_hashes=tuple([event.text_hash for event in texts]),
    )


def _query(event: CompactEvent) -> Query:
    score = event.score
    return Query(
        event_id=event.event_id,
        time=event.event_time,
        words=event.words,
        text_hash=event.text_hash,
        topics=tuple(name for name, _ in score.topics) if score is not None else (),
        intent=score.intent or None if score is not None else None,
    )


def _attribute(event: CompactEvent, name: str, value: str) -> ProfileAttribute:
    """Attribute values are JSON text on the event; people and words see the plain value."""
    plain = json.loads(value)
    shown = plain if isinstance(plain, str) else value
    return ProfileAttribute(event.event_id, name, shown, word_ids(shown).tobytes())


def _topic_affinity(
    events: Sequence[CompactEvent], rating_of: _RatingOf, policy: ViewPolicy
) -> tuple[tuple[str, float], ...]:
    """Mean liking of the texts on a topic, weighted by topic and shrunk by one text, in [-1, 1]."""
    total: dict[str, float] = defaultdict(float)
    weight: dict[str, float] = defaultdict(float)
    read = [(event, event.score.topics) for event in events if event.score is not None]
    for event, topics in read:
        opinion = opinion_of(event, rating_of(event), policy.rating_scale) or NO_OPINION
        for name, thousandths in topics:
            total[name] += thousandths * 1e-3 * opinion.liking
            weight[name] += thousandths * 1e-3
    return tuple((name, total[name] / (weight[name] + 1.0)) for name in sorted(total))


def _rating_reader(
    events: Sequence[CompactEvent], policy: ViewPolicy, statistics: RatingStatistics | None
) -> _RatingOf:
    """The rating of one of the events, after imputation and normalisation."""
    if policy.keeps_ratings:
        return attrgetter("rating")
    ratings = effective_ratings(events, policy, statistics)
    return lambda event: ratings.get(event.slot)


def effective_ratings(
    events: Sequence[CompactEvent], policy: ViewPolicy, statistics: RatingStatistics | None
) -> dict[Slot, float]:
    """Ratings after imputation and normalisation, by slot, on the declared scale."""
    ratings = {event.slot: event.rating for event in events if event.rating is not None}
    if policy.missing_rating not in ("none", "drop"):
        missing = [event for event in events if event.rating is None and event.kind in _RATED_KINDS]
        if missing:
            ratings |= _imputed(missing, ratings, policy, statistics)
    if policy.normalize_ratings != "none" and len(ratings) > 1:
        ratings = _normalized(ratings, policy)
    return ratings


def _imputed(
    missing: list[CompactEvent],
    known: dict[Slot, float],
    policy: ViewPolicy,
    statistics: RatingStatistics | None,
) -> dict[Slot, float]:
    method = policy.missing_rating
    if method == "from_text":
        scale = policy.rating_scale
        return {e.slot: scale.rating(e.score.polarity * 1e-4) for e in missing if e.score is not None}
    if not known:
        if statistics is None:
            return {}
        fallback = {"median": statistics.median, "mode": statistics.mode}.get(method, statistics.mean)
        return {event.slot: fallback for event in missing}
    if method == "interpolate":
        times = sorted(known)
        at = [float(time) for time, _ in times]
        values = [known[slot] for slot in times]
        return {event.slot: float(np.interp(event.event_time, at, values)) for event in missing}
    values = sorted(known.values())
    if method == "mean":
        value = math.fsum(values) / len(values)
    elif method == "median":
        value = statistics_of.median(values)
    else:
        value = min(statistics_of.multimode(values))
    return {event.slot: value for event in missing}


def _normalized(ratings: dict[Slot, float], policy: ViewPolicy) -> dict[Slot, float]:
    """Centres a user's ratings on the scale's middle; zscore also makes one deviation half a half-scale."""
    scale = policy.rating_scale
    values = sorted(ratings.values())
    mean = math.fsum(values) / len(values)
    middle = scale.rating(0.0)
    factor = 1.0
    if policy.normalize_ratings == "zscore":
        deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values))
        factor = (scale.high - scale.low) / 4.0 / deviation if deviation > 0 else 0.0
    return {
        slot: min(scale.high, max(scale.low, middle + factor * (value - mean)))
        for slot, value in ratings.items()
    }
