"""Hypothesis strategies for feedback, shared by the law tests."""

from __future__ import annotations

from hypothesis import strategies as st

from models.records import MICROS_PER_DAY, MICROS_PER_SECOND, FeedbackEvent, ScoredFeedback, TextScore

START = 1_700_000_000 * MICROS_PER_SECOND
ITEMS = ("apron", "boots", "coat", "dress", "earrings", "fleece")
TEXTS = (
    "the zipper broke after a day",
    "lovely, soft and warm",
    "too small, sent it back",
    "worth every penny, my favourite coat so far this year",
)
KINDS_WITH_TEXT = ("review", "comment", "purchase")
BEHAVIOUR = ("view", "click", "like", "dislike", "cart", "purchase", "hide", "impression")

times = st.integers(0, 40).map(lambda step: START + step * MICROS_PER_DAY // 8 + step)


@st.composite
def events(draw: st.DrawFn, user_id: str = "ann") -> FeedbackEvent:
    """One event of any kind but retract and erase; ids may collide on purpose."""
    kind = draw(st.sampled_from((*KINDS_WITH_TEXT, *BEHAVIOUR, "rating", "query", "profile")))
    number = draw(st.integers(0, 30))
    return FeedbackEvent(
        event_id=f"e{number:02d}",
        user_id=user_id,
        kind=kind,
        event_time=START + number * MICROS_PER_SECOND * 3_600,
        item_id=None if kind in ("query", "profile") else draw(st.sampled_from(ITEMS)),
        rating=draw(st.none() | st.integers(1, 5).map(float)) if kind in ("rating", "review") else None,
        text=draw(st.sampled_from(TEXTS)) if kind in (*KINDS_WITH_TEXT, "query") else None,
        attributes=(("style", '"casual"'),) if kind == "profile" else (),
        revision=draw(st.integers(0, 2)),
    )


@st.composite
def scores(draw: st.DrawFn) -> TextScore:
    """A score with polarity to four decimals, as the scorer gives it."""
    polarity = draw(st.integers(-10_000, 10_000)) / 10_000
    return TextScore(
        sentiment=((1 - polarity) / 2, 0.0, (1 + polarity) / 2),
        polarity=polarity,
        intensity=draw(st.integers(0, 10_000)) / 10_000,
        confidence=draw(st.integers(0, 10_000)) / 10_000,
        topics=draw(st.sampled_from(((), (("quality", 0.5),), (("fit", 0.7), ("price", 0.4))))),
        language="en",
        model_version=draw(st.sampled_from(("m1", "m2"))),
    )


@st.composite
def scored_events(draw: st.DrawFn, user_id: str = "ann") -> ScoredFeedback:
    """An event with a score where it has words; at times still unscored."""
    event = draw(events(user_id))
    return ScoredFeedback(event, draw(st.none() | scores()) if event.text else None)


@st.composite
def feedback(draw: st.DrawFn, user_id: str = "ann") -> ScoredFeedback:
    """A scored event, or the retraction of one that may or may not have come."""
    scored = draw(scored_events(user_id))
    if not draw(st.integers(0, 5)):
        event = scored.event
        return ScoredFeedback(
            FeedbackEvent(
                event_id=f"retract-{event.event_id}",
                user_id=user_id,
                kind="retract",
                event_time=event.event_time,
                target_event_id=event.event_id,
            )
        )
    return scored
