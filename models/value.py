"""The value model (law 4): what a piece of feedback says, signed.

    value(event)  = strength(kind) x liking
    liking        = (w0 p0 + w o) / (w0 + w)

`o` in [-1, 1] is the opinion and `w` its weight: the stars on the declared scale with
weight 1 where there are stars, else the polarity of the words with weight
.6 x intensity x confidence, else only what the kind itself says (a like, a hide).
(w0, p0) is a mild prior: who buys without a word is somewhat pleased. Stars and words
that clearly disagree are a conflict, and count half.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from models.records import KINDS
from models.state import CompactEvent

#: How much a kind says about its user, in [0, 1]; 0: says nothing about liking.
KIND_STRENGTH: Final[dict[str, float]] = {
    "impression": 0.0, "view": 0.3, "click": 0.4, "dwell": 0.4, "like": 0.8, "dislike": 0.8,
    "share": 0.8, "save": 0.7, "cart": 0.8, "purchase": 1.0, "rating": 1.0, "review": 1.0,
    "comment": 0.8, "skip": 0.3, "hide": 0.8,
}  # fmt: skip

PRIOR_LIKING: Final = 0.5
PRIOR_WEIGHT: Final = 0.25
WORDS_WEIGHT: Final = 0.6  # of a star rating, as measured on four review sets
CONFLICT_FACTOR: Final = 0.5
_CONFLICT_STARS: Final = 0.5  # at least one star from the middle of a 1:5 scale
_CONFLICT_WORDS: Final = 0.3  # polarity x confidence

STRENGTH_BY_CODE: Final[tuple[float, ...]] = tuple(KIND_STRENGTH.get(kind, 0.0) for kind in KINDS)


@dataclass(frozen=True, slots=True)
class RatingScale:
    """The declared scale of ratings, both ends included."""

    low: float = 1.0
    high: float = 5.0

    def opinion(self, rating: float) -> float:
        """Maps the scale to [-1, 1]; its middle is 0."""
        return 2.0 * (rating - self.low) / (self.high - self.low) - 1.0

    def rating(self, opinion: float) -> float:
        """The inverse of `opinion`."""
        return self.low + (opinion + 1.0) * (self.high - self.low) / 2.0


@dataclass(frozen=True, slots=True)
class Opinion:
    """How an item was liked, and how much that says."""

    opinion: float  # [-1, 1]
    weight: float  # [0, 1]
    conflict: bool = False

    @property
    def liking(self) -> float:
        """Shrunk towards the prior, halved by a conflict; in [-1, 1]."""
        liking = (PRIOR_WEIGHT * PRIOR_LIKING + self.weight * self.opinion) / (PRIOR_WEIGHT + self.weight)
        return CONFLICT_FACTOR * liking if self.conflict else liking


NO_OPINION: Final = Opinion(0.0, 0.0)
_KIND_OPINIONS: Final = {
    "like": Opinion(1.0, 1.0), "dislike": Opinion(-1.0, 1.0), "hide": Opinion(-1.0, 1.0),
    "skip": Opinion(-0.5, 1.0), "share": Opinion(0.8, 0.5), "save": Opinion(0.8, 0.5),
}  # fmt: skip
#: Of the kinds that are an opinion by themselves.
OPINION_BY_CODE: Final[tuple[Opinion | None, ...]] = tuple(_KIND_OPINIONS.get(kind) for kind in KINDS)


def opinion_of(event: CompactEvent, rating: float | None, scale: RatingScale) -> Opinion | None:
    """The opinion an event carries, None when it carries none.

    `rating` is the event's rating after imputation and normalisation.
    """
    score = event.score
    if rating is not None:
        stars = scale.opinion(rating)
        return Opinion(stars, 1.0, score is not None and _disagree(stars, score.polarity, score.confidence))
    if score is not None:
        weight = WORDS_WEIGHT * (score.intensity * 1e-4) * (score.confidence * 1e-4)
        return Opinion(score.polarity * 1e-4, weight)
    return OPINION_BY_CODE[event.kind]


def _disagree(stars: float, polarity: int, confidence: int) -> bool:
    words = polarity * confidence * 1e-8
    return stars * words < 0 and abs(stars) >= _CONFLICT_STARS and abs(words) >= _CONFLICT_WORDS


def event_weight(event: CompactEvent, opinion: Opinion) -> float:
    """The signed value of one event by itself, in [-1, 1], with the opinion it tells."""
    return STRENGTH_BY_CODE[event.kind] * opinion.liking
