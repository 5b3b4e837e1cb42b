"""Which understood events are trusted, and how they are tidied; every policy and its default."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Final, Literal, get_args

from models.errors import BadRecord
from models.records import ITEM_KINDS, MICROS_PER_DAY, FeedbackEvent, Micros
from models.text import clean_and_redact, pseudonym, redact
from models.times import format_time

MissingRating = Literal["none", "drop", "mean", "median", "mode", "interpolate", "from_text"]
MissingText = Literal["keep", "drop"]
MissingField = Literal["dead_letters", "quarantine"]
NormalizeRatings = Literal["none", "mean", "zscore"]

#: Kinds that are about a rating or about words, for `missing_rating` and `missing_text`.
RATED_KINDS: Final = frozenset({"rating", "review"})
WORDED_KINDS: Final = frozenset({"review", "comment"})

MICROS_1990: Final[Micros] = 631_152_000_000_000  # 1990-01-01T00:00:00Z
_ITEM_KINDS = frozenset(ITEM_KINDS)


@dataclass(frozen=True, slots=True)
class CleaningConfig:
    """Every cleaning policy with its default; each is a flag of `livelist run`.

    The last four act on a user's set of events, not on one event: `models.views` applies them.
    """

    rating_scale: tuple[float, float] = (1.0, 5.0)  # lowest and highest; outside: quarantine
    max_text_chars: int = 4000  # longer texts keep their first and last half
    missing_item: MissingField = "dead_letters"  # of a kind that needs one
    missing_time: MissingField = "dead_letters"
    missing_text: MissingText = "keep"  # drop: a review or comment without words goes to quarantine
    user_id_key: bytes | None = field(default=None, repr=False)  # HMAC-SHA256; None: ids stay raw
    earliest_time: Micros = MICROS_1990  # older: quarantine
    future_tolerance: Micros = MICROS_PER_DAY  # further beyond the wall clock: quarantine
    missing_rating: MissingRating = "none"  # drop acts here, on ratings and reviews
    normalize_ratings: NormalizeRatings = "none"  # per user
    content_duplicates: bool = True  # same user, item, kind and text: the smallest event_id stands
    bursts: bool = True  # that no person makes: quarantine

    def __post_init__(self) -> None:
        low, high = self.rating_scale
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ValueError(f"rating_scale must be low:high with low < high, got {low:g}:{high:g}")
        if self.max_text_chars < 1:
            raise ValueError(f"max_text_chars must be at least 1, got {self.max_text_chars}")
        if self.future_tolerance < 0:
            raise ValueError(f"future_tolerance must not be negative, got {self.future_tolerance}")
        if self.user_id_key == b"":
            raise ValueError("user_id_key must not be empty; leave it out for raw ids")
        for name, allowed in _CHOICES.items():
            if (chosen := getattr(self, name)) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}; got {chosen!r}")

    @property
    def missing_time_code(self) -> str:
        """The error code of an event without time."""
        return "missing_field" if self.missing_time == "dead_letters" else "missing_time"

    @property
    def missing_item_code(self) -> str:
        """The error code of an item kind without item."""
        return "missing_field" if self.missing_item == "dead_letters" else "missing_item"


_CHOICES: Final[dict[str, tuple[str, ...]]] = {
    "missing_item": get_args(MissingField),
    "missing_time": get_args(MissingField),
    "missing_text": get_args(MissingText),
    "missing_rating": get_args(MissingRating),
    "normalize_ratings": get_args(NormalizeRatings),
}


def clean_event(event: FeedbackEvent, config: CleaningConfig, now: Micros) -> FeedbackEvent:
    """`event` with clean, redacted text and, given a key, a pseudonym for its user.

    Raises BadRecord where the event is incomplete or not to be trusted. `now` is the run's wall
    clock. A pure function of its arguments: neither order nor other events matter.
    """
    _check_time(event.event_time, config, now)
    text = None if event.text is None else clean_and_redact(event.text, config.max_text_chars)
    _check_needs(event, text, config)
    _check_rating(event, config)
    attributes = event.attributes
    if attributes:
        attributes = tuple([(name, _redact_attribute(value)) for name, value in attributes])
    key = config.user_id_key
    if key is None and text == event.text and attributes == event.attributes:
        return event
    return FeedbackEvent(
        event.event_id,
        event.user_id if key is None else pseudonym(event.user_id, key),
        event.kind,
        event.event_time,
        event.item_id,
        event.rating,
        text,
        event.value,
        event.locale,
        event.recommendation_id,
        attributes,
        event.revision,
        event.target_event_id,
        event.source_position,
    )


def _check_time(time: Micros, config: CleaningConfig, now: Micros) -> None:
    if time < config.earliest_time:
        earliest = _shown(config.earliest_time)
        raise BadRecord(
            "time_before_1990", f"event_time: {_shown(time)} is before {earliest}; check its unit"
        )
    if time > now + config.future_tolerance:
        reason = f"event_time: {_shown(time)} is ahead of this run's clock, {_shown(now)}"
        raise BadRecord("time_in_future", reason)


def _shown(time: Micros) -> str:
    try:
        return format_time(time)
    except OverflowError:
        return f"{time} µs"


def _check_needs(event: FeedbackEvent, text: str | None, config: CleaningConfig) -> None:
    kind = event.kind
    if kind in _ITEM_KINDS:
        if event.item_id is None:
            raise BadRecord(config.missing_item_code, f"item_id: every {kind} needs one, got none")
        if text is None and kind in WORDED_KINDS and config.missing_text == "drop":
            raise BadRecord("missing_text", f"text: {kind} without words, and --missing_text=drop")
    elif kind == "retract" and event.target_event_id is None:
        raise BadRecord("missing_field", "target_event_id: a retract needs one, got none")
    elif kind == "query" and text is None:
        raise BadRecord("missing_field", "text: a query needs one, got none")


def _check_rating(event: FeedbackEvent, config: CleaningConfig) -> None:
    rating = event.rating
    if rating is None:
        if config.missing_rating == "drop" and event.kind in RATED_KINDS:
            raise BadRecord("missing_rating", f"rating: {event.kind} without one, and --missing_rating=drop")
        return
    low, high = config.rating_scale
    if not low <= rating <= high:
        raise BadRecord("rating_out_of_scale", f"rating: expected {low:g} to {high:g}, got {rating:g}")


def _redact_attribute(value: str) -> str:
    """JSON text with personal numbers and addresses redacted, still JSON."""
    redacted = redact(value)
    if redacted == value:
        return value
    try:
        json.loads(redacted)
    except ValueError:  # a bare number became a mark
        return json.dumps(redacted, ensure_ascii=False)
    return redacted
