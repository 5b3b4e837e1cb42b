"""Law 5: without its evidence an item's score falls by the stated contribution.

The closed form is in `reference.py`, written apart from the sources.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from models.ranking.evidence import Evidence
from models.ranking.item_index import ItemIndex
from models.ranking.ranker import _batch, explain, rank, score_of
from models.ranking.reasons import REASON_CODES, sentence
from models.ranking.sources import SOURCES, gather
from models.records import Reason
from tests.models.ranking.reference import Reference
from tests.models.ranking.test_ranker import CLOCK, PLAIN, WORLDS, world
from tests.models.ranking.worlds import interaction


def _any_weights(index: ItemIndex, seed: int) -> ItemIndex:
    """The same index under a fusion in which every channel counts."""
    random = np.random.default_rng(seed)
    fusion = index.fusion.as_json()
    fusion["channels"] = {
        name: float(random.uniform(0.1, 2.0)) * (-1 if name.startswith("disliked") else 1)
        for name in fusion["channels"]
    }
    return ItemIndex(index.arrays, {**index.meta, "fusion": fusion})


@settings(deadline=None, max_examples=12)
@given(WORLDS)
def test_without_its_evidence_a_score_falls_by_the_contribution(seed: int) -> None:
    views, _, index = world(seed)
    index = _any_weights(index, seed)
    for one in views:
        reference = Reference(one, index, PLAIN, CLOCK)
        for item in range(seed % 3, index.items, 3):
            item_id = index.item_ids[item]
            score = score_of(one, index, PLAIN, CLOCK, item_id)
            assert score == pytest.approx(reference.score(item), abs=1e-9)
            why = explain(one, index, PLAIN, CLOCK, item_id)
            stated = {_evidence(reason): reason.contribution for reason in why if reason.contribution}
            fallen = {evidence: given[item] for evidence, given in reference.given.items() if item in given}
            if static := float(index.static_score[item]):
                fallen["", ""] = static
            assert stated == pytest.approx(fallen, abs=1e-9)


def _evidence(reason: Reason) -> tuple[str, str]:
    """What a reason rests on, as the reference names it."""
    if reason.event_ids:
        return "event", reason.event_ids[-1]
    return ("topic", reason.text.split()[4]) if reason.code == "topic" else ("", "")


def test_the_worlds_have_evidence_of_every_source() -> None:
    found = set()
    for seed in range(6):
        views, _, index = world(seed)
        index = _any_weights(index, seed)
        for one in views:
            found |= {
                reason.code
                for item in range(index.items)
                for reason in explain(one, index, PLAIN, CLOCK, index.item_id(item))
            }
    assert found >= set(REASON_CODES) - {"seen_again"}


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
    click = interaction("b", 1, kind="click")._replace(rating=None)
    assert sentence("co_occurrence", "Linen blouse", click) == "Because you clicked Linen blouse"
