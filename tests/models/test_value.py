"""Law 4: text changes preference."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from models.records import FeedbackEvent, ScoredFeedback, TextScore
from models.state import CompactEvent, compact
from models.value import NO_OPINION, RatingScale, event_weight, opinion_of
from tests.models.strategies import START, scored_events

SCALE = RatingScale()


def score(polarity: float, intensity: float = 0.9, confidence: float = 0.9) -> TextScore:
    return TextScore(((1 - polarity) / 2, 0.0, (1 + polarity) / 2), polarity, intensity, confidence)


def event(kind: str, rating: float | None = None, polarity: float | None = None) -> CompactEvent:
    text = None if polarity is None else "words"
    feedback = FeedbackEvent("e", "ann", kind, START, item_id="coat", rating=rating, text=text)
    return compact(ScoredFeedback(feedback, None if polarity is None else score(polarity)))


def weight_of(compacted: CompactEvent) -> float:
    return event_weight(compacted, opinion_of(compacted, compacted.rating, SCALE) or NO_OPINION)


def test_bought_and_hated_is_negative() -> None:
    assert weight_of(event("purchase", polarity=-0.9)) < -0.2
    assert weight_of(event("purchase")) > 0.3
    assert weight_of(event("purchase", polarity=0.9)) > weight_of(event("purchase"))


def test_words_count_for_about_six_tenths_of_a_star_rating() -> None:
    stars = opinion_of(event("review", rating=5.0), 5.0, SCALE)
    words = opinion_of(
        compact(ScoredFeedback(FeedbackEvent("e", "a", "review", START, text="x"), score(1, 1, 1))),
        None,
        SCALE,
    )
    assert stars is not None and words is not None
    assert (stars.weight, words.weight) == (1.0, 0.6)


def test_stars_speak_before_words_and_a_conflict_counts_half() -> None:
    agreeing = weight_of(event("review", rating=5.0, polarity=0.9))
    furious = weight_of(event("review", rating=5.0, polarity=-0.9))
    assert agreeing == weight_of(event("review", rating=5.0))
    assert furious == agreeing / 2


@given(st.floats(1, 5), st.floats(1, 5))
def test_more_stars_never_weigh_less(low: float, high: float) -> None:
    low, high = sorted((low, high))
    assert weight_of(event("rating", low)) <= weight_of(event("rating", high))


@given(scored_events())
def test_weights_stay_between_minus_one_and_one(scored: ScoredFeedback) -> None:
    assert -1 <= weight_of(compact(scored)) <= 1


@given(st.floats(-1, 1))
def test_the_scale_and_its_inverse_agree(opinion: float) -> None:
    scale = RatingScale(0.0, 10.0)
    assert abs(scale.opinion(scale.rating(opinion)) - opinion) < 1e-9
