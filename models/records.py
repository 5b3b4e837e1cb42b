"""The records that cross a stage, with units, clocks and ranges.

Times are integers, microseconds since 1970-01-01T00:00:00Z (`Micros`), so that
ordering and arithmetic are exact. Read this file first, then `pipeline/recommender.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

Micros: TypeAlias = int

MICROS_PER_SECOND: Final = 1_000_000
MICROS_PER_DAY: Final = 86_400 * MICROS_PER_SECOND

#: Kinds that need an `item_id`.
ITEM_KINDS: Final[tuple[str, ...]] = (
    "impression", "view", "click", "dwell", "like", "dislike", "share", "save",
    "cart", "purchase", "rating", "review", "comment", "skip", "hide",
)  # fmt: skip
#: Kinds about the user or about another event.
USER_KINDS: Final[tuple[str, ...]] = ("query", "profile", "retract", "erase")
#: Kinds that command the state rather than feed it.
CONTROL_KINDS: Final[frozenset[str]] = frozenset({"profile", "retract", "erase"})
#: Every kind; the position is the number stored in the compact state, so append only.
KINDS: Final[tuple[str, ...]] = ITEM_KINDS + USER_KINDS
KIND_CODES: Final[dict[str, int]] = {kind: code for code, kind in enumerate(KINDS)}


#: The copies of an event whose text an endless run scores apart: what counts at once, and what follows.
FINAL: Final = ""
SCORE_FOLLOWS: Final = "score_follows"
LATE_SCORE: Final = "late_score"
#: A text that was read once more, by a newer model.
SCORED_ANEW: Final = "scored_anew"


@dataclass(frozen=True, slots=True)
class FeedbackEvent:
    """One piece of feedback, as a user gave it; text is already cleaned and redacted."""

    event_id: str  # unique within a user; a retract has its own
    user_id: str  # raw, or an HMAC-SHA256 pseudonym when a key is given
    kind: str  # one of KINDS
    event_time: Micros  # when the user acted; a retract carries its target's
    item_id: str | None = None
    rating: float | None = None  # on the declared scale, default 1 to 5
    text: str | None = None  # None when there are no words
    value: float | None = None  # kind-specific: seconds of a dwell, price of a purchase
    locale: str | None = None
    recommendation_id: str | None = None  # the list this reacts to
    attributes: tuple[tuple[str, str], ...] = ()  # sorted (name, JSON text); unknown fields land here
    revision: int = 0  # an edit has the same event_id and event_time, and a higher revision
    target_event_id: str | None = None  # of a retract
    source_position: str = ""  # where it was read, e.g. "events.jsonl:0000000042"; not content


@dataclass(frozen=True, slots=True)
class Item:
    """One entry of the catalogue."""

    item_id: str
    title: str = ""
    description: str = ""
    category: str = ""
    tags: tuple[str, ...] = ()
    price: float | None = None
    published_at: Micros | None = None
    available: bool = True


@dataclass(frozen=True, slots=True)
class TextScore:
    """What the encoder read in one text."""

    sentiment: tuple[float, float, float]  # probabilities: negative, neutral, positive; sum 1
    polarity: float  # [-1, 1]
    intensity: float  # [0, 1]
    confidence: float  # [0, 1]; low for languages the model does not know
    topics: tuple[tuple[str, float], ...] = ()  # (name, similarity or probability), best first
    intent: str | None = None  # None when nothing matches
    aspects: tuple[tuple[str, float], ...] = ()  # (name, polarity); may be empty
    language: str = "und"  # BCP 47 primary tag
    model_version: str = ""


@dataclass(frozen=True, slots=True)
class ScoredText:
    """A text's score and its embedding; the embedding goes to the index, never to the state."""

    score: TextScore
    embedding: bytes  # float16, unit length, shape (dimension,)
    cut: bool = False  # the text was longer than the model reads and lost its middle


@dataclass(frozen=True, slots=True)
class ScoredFeedback:
    """An accepted event with its score (None without text)."""

    event: FeedbackEvent
    score: TextScore | None = None
    phase: str = FINAL  # of the two speeds of an endless run


@dataclass(frozen=True, slots=True)
class Reason:
    """Why an item is listed, and what the list would lose without it."""

    code: str  # one of models.ranking.reasons.REASON_CODES
    event_ids: tuple[str, ...]  # evidence; empty for popularity and other common causes
    contribution: float  # additive score lost if the evidence had not been there
    text: str = ""  # one sentence for people


@dataclass(frozen=True, slots=True)
class RankedItem:
    """One place of a list."""

    rank: int  # from 1
    item_id: str
    score: float  # additive, before diversity
    reasons: tuple[Reason, ...]  # largest contribution first


@dataclass(frozen=True, slots=True)
class TopK:
    """One refreshed list."""

    user_id: str
    state_version: int  # hybrid logical clock, microseconds; never repeats for a user
    items: tuple[RankedItem, ...]  # empty only for a tombstone
    event_time: Micros  # newest event_time seen for the user
    scored_time: Micros | None  # wall clock, when the last text behind it was scored
    emitted_time: Micros  # wall clock
    window_end: Micros | None  # None in a bounded run
    model_version: str
    index_version: str
    trigger_event_ids: tuple[str, ...]  # the newest events behind this refresh
    list_hash: str  # of items, scores and reasons
    tombstone: bool = False  # the user was erased
    hindsight: bool = False  # from --emit_history: past events, final index


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A rejected input. `dead_letters/` cannot be understood, `quarantine/` is not trusted."""

    stage: str
    error_code: str  # one of models.errors.ERROR_CODES
    reason: str  # what was expected, what came, what to do
    payload: str  # redacted
    source_position: str
    time: Micros  # wall clock
