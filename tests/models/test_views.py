"""Views are functions of the canonical set: imputation, normalisation, interactions."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.records import FeedbackEvent, ScoredFeedback, TextScore
from models.state import CompactEvent, StateConfig, compact, join
from models.views import RatingStatistics, ViewPolicy, effective_ratings, refusals, view_user
from tests.models.strategies import START, feedback

TTL = StateConfig().ttl_micros
POLICY = ViewPolicy()


def review(
    number: int, rating: float | None, polarity: float | None = None, item: str = "coat"
) -> CompactEvent:
    text = f"words {number}" if polarity is not None else None
    event = FeedbackEvent(
        f"e{number}", "ann", "review", START + number, item_id=item, rating=rating, text=text
    )
    score = (
        TextScore((0, 0, 1), polarity, 1.0, 1.0, (("fit", 0.5),), "praise") if polarity is not None else None
    )
    return compact(ScoredFeedback(event, score))


def imputed(method: str, *ratings: float | None) -> list[float]:
    events = [review(n * 10, rating) for n, rating in enumerate(ratings)]
    known = effective_ratings(events, ViewPolicy(missing_rating=method), RatingStatistics(4.2, 4.0, 5.0))
    return [known[event.slot] for event in events]


def test_missing_ratings_are_imputed_as_the_policy_says() -> None:
    assert imputed("mean", 1.0, None, 4.0) == [1.0, 2.5, 4.0]
    assert imputed("median", 1.0, 1.0, None, 5.0) == [1.0, 1.0, 1.0, 5.0]
    assert imputed("mode", 5.0, None, 3.0, 5.0) == [5.0, 5.0, 3.0, 5.0]
    assert imputed("interpolate", 1.0, None, 3.0, None) == [1.0, 2.0, 3.0, 3.0]
    assert imputed("mean", None, None) == [4.2, 4.2]
    assert imputed("mode", None) == [5.0]


def test_ratings_are_imputed_from_words_and_only_from_words() -> None:
    events = [review(1, None, polarity=0.5), review(2, None)]
    known = effective_ratings(events, ViewPolicy(missing_rating="from_text"), None)
    assert known == {events[0].slot: pytest.approx(4.0)}


def test_normalising_centres_a_user_and_stays_on_the_scale() -> None:
    events = [review(1, 4.0), review(2, 5.0)]
    by_mean = effective_ratings(events, ViewPolicy(normalize_ratings="mean"), None)
    assert list(by_mean.values()) == [2.5, 3.5]
    by_zscore = effective_ratings(events, ViewPolicy(normalize_ratings="zscore"), None)
    assert list(by_zscore.values()) == [2.0, 4.0]


def test_the_newest_opinion_speaks_for_all_events_on_an_item() -> None:
    bought = compact(ScoredFeedback(FeedbackEvent("e0", "ann", "purchase", START, item_id="coat")))
    view = view_user("ann", join([bought, review(5, None, polarity=-0.9)], 10), POLICY, START, TTL)
    (interaction,) = view.interactions
    assert interaction.event_ids == ("e0", "e5")
    assert interaction.value < -0.3
    assert view.topics[0][0] == "fit"
    assert view.topics[0][1] < 0


def test_impressions_alone_are_no_interaction() -> None:
    seen = compact(ScoredFeedback(FeedbackEvent("e0", "ann", "impression", START, item_id="coat")))
    assert view_user("ann", join([seen], 10), POLICY, START, TTL).interactions == ()


def test_queries_and_profile_reach_the_view() -> None:
    query = FeedbackEvent("q", "ann", "query", START, text="a warm coat for winter")
    profile = FeedbackEvent("p", "ann", "profile", START, attributes=(("style", '"casual"'),))
    view = view_user(
        "ann", join([compact(ScoredFeedback(e)) for e in (query, profile)], 10), POLICY, START, TTL
    )
    assert [one.event_id for one in view.queries] == ["q"]
    assert [(one.name, one.value) for one in view.profile] == [("style", "casual")]


def test_what_is_older_than_the_ttl_does_not_count() -> None:
    state = join([review(1, 5.0), review(10, 5.0, item="dress")], 10)
    view = view_user("ann", state, POLICY, START + 10, 5)
    assert [one.item_id for one in view.interactions] == ["dress"]


@given(st.lists(feedback().map(compact), max_size=30), st.randoms(use_true_random=False))
def test_a_view_does_not_depend_on_the_order_of_arrival(
    events: list[CompactEvent], shuffled: random.Random
) -> None:
    expected = view_user("ann", join(events, 12), POLICY, START, TTL)
    shuffled.shuffle(events)
    assert view_user("ann", join(events, 12), POLICY, START, TTL) == expected


@given(st.lists(feedback().map(compact), max_size=30))
def test_a_view_never_cites_what_it_did_not_accept(events: list[CompactEvent]) -> None:
    state = join(events, 50)
    refused = refusals(state.sorted_events(), POLICY)
    accepted = {event.event_id for slot, event in state.events.items() if slot not in refused}
    view = view_user("ann", state, POLICY, START, TTL)
    assert {e for one in view.interactions for e in one.event_ids} <= accepted


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(ValueError, match="missing_rating must be one of none, drop"):
        ViewPolicy(missing_rating="guess")


def test_an_item_that_was_only_shown_is_mentioned_and_no_interaction() -> None:
    shown = [
        compact(ScoredFeedback(FeedbackEvent(f"s{n}", "ann", "impression", START + n, item_id=item)))
        for n, item in enumerate(("scarf", "coat"))
    ]
    view = view_user("ann", join([*shown, review(5, 4.0)], 10), POLICY, START, TTL)
    assert [one.item_id for one in view.interactions] == ["coat"]
    assert view.mentioned == ("scarf",)
