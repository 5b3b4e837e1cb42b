"""Law 5: without its evidence an item's score falls by the stated contribution.

The reference below knows nothing of batches, candidates or slots: it adds up, in plain
Python, what the index's matrices say.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from models.ranking.evidence import Evidence
from models.ranking.item_index import ItemIndex
from models.ranking.ranker import _batch, explain, rank, score_of
from models.ranking.reasons import REASON_CODES, sentence
from models.ranking.sources import SOURCES, gather
from models.views import UserView
from tests.models.ranking.test_ranker import CLOCK, PLAIN, WORLDS, world
from tests.models.ranking.worlds import interaction


def _entry(index: ItemIndex, name: str, row: int, item: int) -> float:
    matrix = index.matrix(name)
    if matrix is None or row < 0:
        return 0.0
    for at in range(int(matrix.starts[row]), int(matrix.starts[row + 1])):
        if matrix.items[at] == item:
            return float(matrix.values[at])
    return 0.0


def _score_without(one: UserView, index: ItemIndex, item: int, event_ids: frozenset[str]) -> float:
    """The score from liked and disliked items by item-to-item sources, some evidence left out."""
    total = float(index.static_score[item])
    for sign in (1, -1):
        told = [i for i in one.interactions if sign * i.liking > 0 and i.strength > 0]
        for position, i in enumerate(reversed(told)):
            if position >= (index.history if sign > 0 else index.history // 2):
                break
            if event_ids & set(i.event_ids):
                continue
            weight = i.strength if sign > 0 else -i.strength * i.liking
            total += sum(
                weight * _entry(index, source.matrix, _row(index, source.name, i.item_id), item)
                * sum(index.fusion.channels[name] * decay**position
                      for name, decay in zip(source.channels(), source.decays, strict=True))
                for source in SOURCES
                if source.kind == ("liked" if sign > 0 else "disliked") and source.name != "own_words"
            )  # fmt: skip
    return total


def _row(index: ItemIndex, source: str, item_id: str) -> int:
    item = index.find(item_id)
    return int(index.category[item]) if source == "category" else item


def _plain(one: UserView) -> UserView:
    """Interactions only, without words: what the reference covers."""
    import dataclasses

    told = tuple(dataclasses.replace(i, words=b"") for i in one.interactions)
    return dataclasses.replace(one, interactions=told, queries=(), profile=(), topics=())


@settings(deadline=None, max_examples=25)
@given(WORLDS)
def test_without_its_evidence_a_score_falls_by_the_contribution(seed: int) -> None:
    views, _, index = world(seed)
    for one in map(_plain, views):
        for item in range(0, index.items, 3):
            item_id = index.item_ids[item]
            score = score_of(one, index, PLAIN, CLOCK, item_id)
            assert score is not None
            assert score == pytest.approx(_score_without(one, index, item, frozenset()), abs=1e-9)
            for reason in explain(one, index, PLAIN, CLOCK, item_id):
                if reason.event_ids:
                    without = _score_without(one, index, item, frozenset(reason.event_ids))
                    assert score - without == pytest.approx(reason.contribution, abs=1e-9)


@settings(deadline=None, max_examples=25)
@given(WORLDS)
def test_all_contributions_of_an_item_add_up_to_its_score(seed: int) -> None:
    views, _, index = world(seed)
    for one, places in zip(views, rank(views, index, PLAIN, CLOCK, 4), strict=True):
        for place in places:
            why = explain(one, index, PLAIN, CLOCK, place.item_id)
            assert sum(reason.contribution for reason in why) == pytest.approx(place.score, abs=1e-9)


@settings(deadline=None, max_examples=25)
@given(WORLDS)
def test_listed_reasons_are_the_largest_of_all_and_cite_the_users_own_events(seed: int) -> None:
    views, _, index = world(seed)
    for one, places in zip(views, rank(views, index, PLAIN, CLOCK, 4), strict=True):
        own = {event for told in one.interactions for event in told.event_ids}
        own |= {asked.event_id for asked in one.queries} | {said.event_id for said in one.profile}
        for place in places:
            assert 1 <= len(place.reasons) <= PLAIN.reasons
            contributions = [reason.contribution for reason in place.reasons]
            assert contributions == sorted(contributions, reverse=True)
            every = explain(one, index, PLAIN, CLOCK, place.item_id)
            most = max((reason.contribution for reason in every), default=0.0)
            assert max(contributions[0], 0.0) == pytest.approx(max(most, 0.0))
            for reason in place.reasons:
                assert reason.code in REASON_CODES
                assert set(reason.event_ids) <= own
                assert reason.text


def test_every_source_states_a_documented_code_and_gathers_by_its_own_contract() -> None:
    views, _, index = world(1)
    batch = _batch(views, index, PLAIN, CLOCK)
    found = set()
    for source in SOURCES:
        matrix = index.matrix(source.matrix)
        evidence: Evidence = getattr(batch, source.kind)
        one = gather(source, matrix, batch, index.idf, index.category) if matrix is not None else None
        if one is None:
            continue
        found.add(source.name)
        assert (one.value >= 0).all()
        pieces = set(zip(evidence.user.tolist(), evidence.local.tolist(), strict=True))
        assert set(zip(one.user.tolist(), one.local.tolist(), strict=True)) <= pieces
    assert {"graph", "words", "content", "own_words", "category", "query_words", "query_content"} <= found


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("co_occurrence", "Because you reviewed Linen blouse and liked it"),
        ("similar_words", "It is described like Linen blouse, which you reviewed and liked"),
        ("resembles_disliked", "It resembles Linen blouse, which you did not like"),
        ("your_words", "It fits what you wrote about Linen blouse"),
    ],
)
def test_a_sentence_names_the_item_and_what_was_done(code: str, expected: str) -> None:
    assert sentence(code, "Linen blouse", interaction("b", 1)) == expected


def test_a_click_without_a_word_is_not_called_liking() -> None:
    from dataclasses import replace

    click = replace(interaction("b", 1, kind="click"), rating=None)
    assert sentence("co_occurrence", "Linen blouse", click) == "Because you clicked Linen blouse"
