"""Laws of a list, on random worlds."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.ranking.config import DEFAULT_RANKING, RankingConfig
from models.ranking.item_index import ItemIndex
from models.ranking.ranker import explain, rank, score_of
from models.records import Item
from models.views import UserView
from tests.models.ranking.worlds import (
    declared,
    interaction,
    learn,
    query,
    random_items,
    random_views,
    view,
)

CLOCK = 1_700_000_000_000_000
WORLDS = st.integers(0, 30)
SIZES = st.integers(1, 25)
PLAIN = RankingConfig(diversity=0.0)
_CACHE: dict[int, tuple[list[UserView], list[Item], ItemIndex]] = {}


def world(seed: int) -> tuple[list[UserView], list[Item], ItemIndex]:
    if seed not in _CACHE:
        views, items = random_views(seed), random_items(seed)
        _CACHE[seed] = views, items, learn(views, items, seed)
    return _CACHE[seed]


@settings(deadline=None, max_examples=40)
@given(WORLDS, SIZES)
def test_a_list_has_at_most_k_places_without_gaps_or_repeats(seed: int, k: int) -> None:
    views, _, index = world(seed)
    for places in rank(views, index, DEFAULT_RANKING, CLOCK, k):
        assert [place.rank for place in places] == list(range(1, len(places) + 1))
        assert len({place.item_id for place in places}) == len(places) <= k


@settings(deadline=None, max_examples=40)
@given(WORLDS, SIZES)
def test_scores_descend_when_nothing_is_diversified(seed: int, k: int) -> None:
    views, _, index = world(seed)
    for places in rank(views, index, PLAIN, CLOCK, k):
        scores = [place.score for place in places]
        assert scores == sorted(scores, reverse=True)


@settings(deadline=None, max_examples=40)
@given(WORLDS, SIZES)
def test_a_list_is_full_of_eligible_items_or_has_all_of_them(seed: int, k: int) -> None:
    views, items, index = world(seed)
    available = {item.item_id for item in items if item.available}
    for one, places in zip(views, rank(views, index, DEFAULT_RANKING, CLOCK, k), strict=True):
        eligible = available - {told.item_id for told in one.interactions}
        listed = {place.item_id for place in places}
        assert listed <= eligible
        assert len(places) == min(k, len(eligible))


@settings(deadline=None, max_examples=25)
@given(WORLDS, SIZES, st.integers(1, 12))
def test_a_user_gets_the_same_bytes_alone_and_in_any_batch(seed: int, k: int, size: int) -> None:
    views, _, index = world(seed)
    alone = [rank([one], index, DEFAULT_RANKING, CLOCK, k)[0] for one in views]
    together = rank(views, index, DEFAULT_RANKING, CLOCK, k)
    some = rank(list(reversed(views[:size])), index, DEFAULT_RANKING, CLOCK, k)
    assert together == alone
    assert list(reversed(some)) == alone[:size]


@settings(deadline=None, max_examples=25)
@given(WORLDS)
def test_the_best_k_are_those_of_the_whole_catalogue(seed: int) -> None:
    views, items, index = world(seed)
    for one, places in zip(views[:4], rank(views[:4], index, PLAIN, CLOCK, 4), strict=True):
        seen = {told.item_id for told in one.interactions}
        scores = {
            item.item_id: score_of(one, index, PLAIN, CLOCK, item.item_id)
            for item in items
            if item.available and item.item_id not in seen
        }
        best = sorted((score for score in scores.values() if score is not None), reverse=True)[: len(places)]
        assert [place.score for place in places] == pytest.approx(best, abs=1e-12)


def test_a_new_user_gets_popular_items_and_is_told_so() -> None:
    views = [view(f"u{n}", (interaction("loved", n), interaction(f"other{n}", n + 50))) for n in range(4)]
    places = rank([view("new")], learn(views), DEFAULT_RANKING, CLOCK, 3)[0]
    assert places[0].item_id == "loved"
    assert [reason.code for reason in places[0].reasons] == ["popular_new_user"]


def test_who_knows_everything_sees_it_again_and_is_told_so() -> None:
    one = view("u", (interaction("a", 1), interaction("b", 2), interaction("bad", 3, -0.7)))
    places = rank([one], learn([one]), DEFAULT_RANKING, CLOCK, 5)[0]
    assert {place.item_id for place in places} == {"a", "b"}
    assert all(place.reasons[-1].code == "seen_again" for place in places)


def _walker(number: int, items: tuple[str, ...]) -> UserView:
    """Goes through the items from a start of its own."""
    turned = [items[(number + at) % len(items)] for at in range(len(items))]
    return view(f"u{number}", tuple(interaction(item, number + 40 * at) for at, item in enumerate(turned)))


def test_what_goes_together_is_listed_first_and_cites_the_feedback() -> None:
    pairs = [_walker(n, ("strings", "picks", "tuner")) for n in range(8)]
    others = [_walker(n + 20, ("socks", "shoes", "laces")) for n in range(8)]
    asked = view("me", (interaction("strings", 90), interaction("tuner", 80)))
    place = rank([asked], learn([*pairs, *others]), DEFAULT_RANKING, CLOCK, 1)[0][0]
    assert place.item_id == "picks"
    assert place.reasons[0].code == "co_occurrence"
    assert place.reasons[0].event_ids == ("e000090",)
    assert place.reasons[0].text == "Because you reviewed strings and liked it"


def test_a_disliked_item_lowers_what_resembles_it_and_gives_nothing_positive() -> None:
    items = [
        Item("coat", title="warm zipper coat", category="clothes", tags=("zipper",)),
        Item("jacket", title="warm zipper jacket", category="clothes", tags=("zipper",)),
        Item("guitar", title="string guitar", category="music"),
    ]
    index = learn([view("u", (interaction("guitar", 1),))], items)
    hated = view("me", (interaction("coat", 5, -0.7),))
    neutral = score_of(view("new"), index, PLAIN, CLOCK, "jacket")
    lowered = score_of(hated, index, PLAIN, CLOCK, "jacket")
    assert neutral is not None and lowered is not None
    assert lowered < neutral
    why = explain(hated, index, PLAIN, CLOCK, "jacket")
    assert [reason.code for reason in why if reason.contribution < 0] == ["resembles_disliked"]
    assert all(reason.contribution <= 0 for reason in why if reason.event_ids)


def test_a_request_brings_what_it_names_to_the_top() -> None:
    items = [Item("g", title="acoustic guitar"), Item("b", title="linen blouse"), Item("c", title="cable")]
    index = learn([view("u", (interaction("c", 1),))], items)
    asked = view("me", (), (query("I want a linen blouse", 0),))
    place = rank([asked], index, DEFAULT_RANKING, asked.queries[0].time, 1)[0][0]
    assert place.item_id == "b"
    assert place.reasons[0].code == "query"
    assert place.reasons[0].event_ids == ("q1",)


def test_an_old_request_counts_less() -> None:
    items = [Item("g", title="acoustic guitar"), Item("b", title="linen blouse")]
    index = learn([view("u", (interaction("g", 1),))], items)
    asked = view("me", (), (query("linen blouse", 0),))
    week = int(DEFAULT_RANKING.query_half_life_days * 86_400_000_000)
    fresh, older = (
        sum(
            reason.contribution
            for reason in explain(asked, index, PLAIN, asked.queries[0].time + age, "b")
            if reason.code == "query"
        )
        for age in (0, week)
    )
    assert older == pytest.approx(fresh / 2)


def test_a_declared_attribute_counts_and_is_cited() -> None:
    items = [Item("g", title="guitar", category="music"), Item("b", title="blouse", category="clothes")]
    index = learn([view("u", (interaction("g", 1),))], items)
    place = rank([view("me", (), (), (declared("likes", "clothes"),))], index, DEFAULT_RANKING, CLOCK, 1)[0][
        0
    ]
    assert place.item_id == "b"
    assert place.reasons[0].code == "profile"
    assert place.reasons[0].event_ids == ("p-likes",)


def test_ties_break_by_popularity_then_item_id() -> None:
    index = learn([], [Item("b"), Item("a"), Item("c")])
    places = rank([view("u")], index, DEFAULT_RANKING, CLOCK, 3)[0]
    assert [place.item_id for place in places] == ["a", "b", "c"]


def test_a_list_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        rank([], learn([]), DEFAULT_RANKING, CLOCK, 0)


def test_feedback_on_an_item_outside_the_index_is_no_evidence() -> None:
    index = learn([], [Item("a"), Item("b")])
    stranger = view("u", (interaction("unknown", 1),))
    places = rank([stranger], index, DEFAULT_RANKING, CLOCK, 2)[0]
    assert [place.item_id for place in places] == ["a", "b"]
    assert explain(stranger, index, DEFAULT_RANKING, CLOCK, "unknown") == []


def test_seen_items_may_be_listed_when_asked_for_but_never_disliked_ones() -> None:
    one = view("u", (interaction("a", 1), interaction("bad", 2, -0.7)))
    config = dataclasses.replace(DEFAULT_RANKING, exclude_seen=False)
    places = rank([one], learn([one], [Item("c")]), config, CLOCK, 5)[0]
    assert {place.item_id for place in places} == {"a", "c"}
