"""A user's state: a join-semilattice of events.

The state is a map from slot (event_time, event_id) to the greatest copy seen of that
slot, cut to the newest N slots, beside registers that only grow. Merging takes the
greater copy, the union and the cut, so it commutes, associates and repeats without
effect: duplicates, shuffles and redelivery cannot change it. A slot's key holds its
time, so that the cut is the top N of a set, which is exact in any order.

Copies of a slot are ordered by (retracted, revision, content hash, score). A retraction
is the top of its slot and keeps it, whether it comes before or after its target.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final, NamedTuple, TypeAlias

import msgpack

from models.records import (
    KIND_CODES,
    KINDS,
    MICROS_PER_DAY,
    FeedbackEvent,
    Micros,
    ScoredFeedback,
    TextScore,
)
from models.text import text_hash, word_ids

STATE_FORMAT: Final = 1
NEVER: Final[Micros] = -(1 << 62)
_SCORE_UNIT: Final = 10_000
_TOPIC_UNIT: Final = 1_000

Slot: TypeAlias = tuple[Micros, str]


@dataclass(frozen=True)
class StateConfig:
    """How much of a user is kept."""

    max_events: int = 500  # slots; the newest stay
    ttl_micros: Micros = 7_300 * MICROS_PER_DAY  # an older event no longer counts

    def __post_init__(self) -> None:
        if self.max_events < 1:
            raise ValueError(f"max_events must be at least 1, got {self.max_events}")
        if self.ttl_micros < 1:
            raise ValueError(f"ttl_micros must be positive, got {self.ttl_micros}")


class CompactScore(NamedTuple):
    """A text score in integers: polarity, intensity, confidence in 1e-4, topics in 1e-3."""

    model_version: str
    polarity: int
    intensity: int
    confidence: int
    topics: tuple[tuple[str, int], ...]
    intent: str


class CompactEvent(NamedTuple):
    """What the state keeps of one copy of an event: no text, no vectors."""

    event_time: Micros
    event_id: str
    retracted: bool
    revision: int
    content_hash: int
    score: CompactScore | None
    kind: int  # position in KINDS
    item_id: str | None
    rating: float | None
    value: float | None
    text_hash: int
    text_length: int  # characters; 0 without text
    words: bytes  # uint16 little-endian hashed words
    attributes: tuple[tuple[str, str], ...]  # of a profile event

    @property
    def slot(self) -> Slot:
        return (self.event_time, self.event_id)

    @property
    def kind_name(self) -> str:
        return KINDS[self.kind]


def precedence(event: CompactEvent) -> tuple[bool, int, int, tuple[object, ...]]:
    """The total order of the copies of one slot; the greatest stands."""
    return (event.retracted, event.revision, event.content_hash, event.score or ())


def compact(scored: ScoredFeedback) -> CompactEvent:
    """The compact copy of an event; a retract becomes the top of its target's slot."""
    event = scored.event
    if event.kind == "retract":
        return retraction(event.event_time, event.target_event_id or "")
    text = event.text or ""
    return CompactEvent(
        event_time=event.event_time,
        event_id=event.event_id,
        retracted=False,
        revision=event.revision,
        content_hash=content_hash(event),
        score=_compact_score(scored.score),
        kind=KIND_CODES[event.kind],
        item_id=event.item_id,
        rating=event.rating,
        value=event.value,
        text_hash=text_hash(text) if text else 0,
        text_length=len(text),
        words=word_ids(text).tobytes() if text else b"",
        attributes=event.attributes if event.kind == "profile" else (),
    )


def retraction(event_time: Micros, event_id: str) -> CompactEvent:
    """The top element of a slot: whatever copy of the target comes, this stands."""
    kind = KIND_CODES["retract"]
    return CompactEvent(event_time, event_id, True, 0, 0, None, kind, None, None, None, 0, 0, b"", ())


def content_hash(event: FeedbackEvent) -> int:
    """A signed 64-bit hash of all that the sender said, but for revision and position."""
    content = (
        event.kind, event.item_id, event.rating, event.text, event.value, event.locale,
        event.recommendation_id, event.attributes, event.target_event_id,
    )  # fmt: skip
    digest = blake2b(repr(content).encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int(struct.unpack("<q", digest)[0])


def _compact_score(score: TextScore | None) -> CompactScore | None:
    if score is None:
        return None
    return CompactScore(
        score.model_version,
        round(score.polarity * _SCORE_UNIT),
        round(score.intensity * _SCORE_UNIT),
        round(score.confidence * _SCORE_UNIT),
        tuple((name, round(weight * _TOPIC_UNIT)) for name, weight in score.topics),
        score.intent or "",
    )


@dataclass(slots=True)
class UserState:
    """One user's canonical set and registers. `merge` is the join of the semilattice."""

    events: dict[Slot, CompactEvent] = field(default_factory=dict)
    erased_time: Micros = NEVER  # events up to this event_time are void
    version: Micros = 0  # hybrid logical clock of the last list
    scored_time: Micros = 0  # wall clock of the last text score

    def add(self, event: CompactEvent) -> bool:
        """Joins one copy and tells whether it changed the set; call `cut` after the last."""
        if event.event_time <= self.erased_time:
            return False
        slot = (event.event_time, event.event_id)
        standing = self.events.get(slot)
        if standing is not None and precedence(event) <= precedence(standing):
            return False
        self.events[slot] = event
        return True

    def erase(self, event_time: Micros) -> None:
        """Joins an erasure: everything up to `event_time` is void, now and later."""
        if event_time <= self.erased_time:
            return
        self.erased_time = event_time
        self.events = {slot: event for slot, event in self.events.items() if slot[0] > event_time}

    def cut(self, max_events: int) -> int:
        """Keeps the newest `max_events` slots; returns how many were dropped."""
        surplus = len(self.events) - max_events
        if surplus <= 0:
            return 0
        for slot in sorted(self.events)[:surplus]:
            del self.events[slot]
        return surplus

    def merge(self, other: UserState, max_events: int) -> None:
        """Joins another state of the same user into this one."""
        self.erase(other.erased_time)
        for event in other.events.values():
            self.add(event)
        self.cut(max_events)
        self.version = max(self.version, other.version)
        self.scored_time = max(self.scored_time, other.scored_time)

    def next_version(self, wall_time: Micros) -> Micros:
        """Advances the hybrid logical clock: at least the wall clock, never repeating.

        A list that is emitted again after a restore thus wins over what the lost attempt
        had written; a wall clock that runs back only advances the counter.
        """
        self.version = max(wall_time, self.version + 1)
        return self.version

    def sorted_events(self) -> list[CompactEvent]:
        """The slots, oldest first by (event_time, event_id)."""
        return [self.events[slot] for slot in sorted(self.events)]

    def encode(self) -> bytes:
        """Deterministic bytes: equal states encode equally."""
        events = self.sorted_events()
        packed: bytes = msgpack.packb(
            (STATE_FORMAT, self.erased_time, self.version, self.scored_time, events)
        )
        return packed

    @classmethod
    def decode(cls, encoded: bytes) -> UserState:
        """Reads what `encode` wrote; raises ValueError for an unknown format."""
        form, erased_time, version, scored_time, rows = msgpack.unpackb(encoded, use_list=False)
        if form != STATE_FORMAT:
            expected = f"state format {STATE_FORMAT} was expected, {form} came"
            raise ValueError(f"{expected}: restore with the release that wrote it")
        events = {row[:2]: event_from_row(row) for row in rows}  # which begins with its slot
        return cls(events, erased_time, version, scored_time)


def event_from_row(row: tuple[object, ...]) -> CompactEvent:
    """A compact event from its unpacked tuple."""
    event = CompactEvent._make(row)
    if event.score is not None:
        event = event._replace(score=CompactScore._make(event.score))
    return event


def join(events: Iterable[CompactEvent], max_events: int) -> UserState:
    """The state of a set of copies, in any order."""
    state = UserState()
    for event in events:
        state.add(event)
    state.cut(max_events)
    return state
