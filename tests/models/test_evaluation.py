"""The protocols hold out, learn and count as they say."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from models.evaluation import evaluate_leave_last_out, evaluate_prequential, without_item
from models.ranking.config import DEFAULT_RANKING
from models.ranking.index import learn_index
from models.ranking.log import encode_log, merge_logs
from models.ranking.ranker import rank
from models.views import UserView
from tests.models.ranking.worlds import interaction, random_views, view


def _chains(users: int = 60, items: int = 20) -> list[UserView]:
    """Everyone walks along a ring of items, so the next item is certain."""
    rng = np.random.default_rng(0)
    views = []
    for user in range(users):
        start = int(rng.integers(0, items))
        told = (interaction(f"i{(start + step) % items:02d}", user * 10 + step) for step in range(5))
        views.append(view(f"u{user:03d}", tuple(told)))
    return views


@pytest.mark.parametrize("learn", ["strict", "plus"])
def test_a_certain_next_item_is_found(learn: str) -> None:
    report = evaluate_leave_last_out(_chains(), learn="strict" if learn == "strict" else "plus", k=3)
    ours, popularity, _ = report.rows
    assert report.users == 60
    assert ours.hit_rate > 0.9 > popularity.hit_rate
    assert ours.hit_rate == ours.recall >= ours.ndcg >= ours.mrr


def test_plus_is_what_the_job_lists_without_the_held_out_events() -> None:
    views = random_views(11, users=40)
    report = evaluate_leave_last_out(views, learn="plus", k=5)
    kept = [
        without_item(one, one.interactions[-1].item_id) if len(one.interactions) >= 3 else one
        for one in views
    ]
    clock = max(one.newest_time for one in kept)
    index = learn_index(merge_logs([encode_log(kept)]), [], clock=clock)
    lists = rank(kept, index, DEFAULT_RANKING, clock, 5)
    ranks = []
    for one, places in zip(views, lists, strict=True):
        if len(one.interactions) >= 3:
            listed = [place.item_id for place in places]
            target = one.interactions[-1].item_id
            ranks.append(listed.index(target) + 1 if target in listed else 0)
    assert report.ranks == tuple(ranks)
    assert report.rows[0].hit_rate == pytest.approx(sum(map(bool, ranks)) / len(ranks))
    assert report.rows[0].ndcg == pytest.approx(
        sum(1 / math.log2(1 + place) for place in ranks if place) / len(ranks)
    )


def test_users_with_fewer_than_three_items_are_learned_from_but_not_asked() -> None:
    short = [view("short", (interaction("i00", 1), interaction("i01", 2)))]
    report = evaluate_leave_last_out([*_chains(), *short], k=3)
    assert report.users == 60
    with pytest.raises(ValueError, match="no user has feedback on at least 3 distinct items"):
        evaluate_leave_last_out(short)


def test_equal_scores_get_their_average_rank_in_the_baselines() -> None:
    views = [view(f"u{n}", tuple(interaction(f"{n}-{place}", place) for place in range(3))) for n in range(4)]
    # Of 12 items 10 are open to each user. By item-kNN all of them tie: their average rank is 5.5, within
    # half a place of 5. By popularity the 6 that others had come before the 4 that nobody had: 8.5.
    hits = {k: [row.hit_rate for row in evaluate_leave_last_out(views, k=k).rows[1:]] for k in (4, 5, 8)}
    assert hits == {4: [0.0, 0.0], 5: [0.0, 1.0], 8: [1.0, 1.0]}


def test_every_ranking_is_measured_for_coverage_and_novelty() -> None:
    # Everybody has the first, most the second, few the rest: popularity shows the same few to all.
    views = [
        view(
            f"u{n:02d}", tuple(interaction(f"i{(n * place) % 12:02d}", n * 10 + place) for place in range(4))
        )
        for n in (1, 2, 3, 5, 7, 8, 9, 10, 11)
    ]
    ours, popularity, nearest = evaluate_leave_last_out(views, k=2).rows
    for row in (ours, popularity, nearest):
        assert 0 < row.coverage <= 1
        assert row.novelty is not None and row.novelty >= 0
    assert popularity.coverage < nearest.coverage
    assert popularity.novelty is not None and nearest.novelty is not None
    assert popularity.novelty < nearest.novelty


def test_an_item_that_was_only_shown_is_among_the_items_ranked() -> None:
    views = _chains()
    shown = [replace(views[0], mentioned=("shown",)), *views[1:]]
    assert evaluate_leave_last_out(shown, k=3).items == evaluate_leave_last_out(views, k=3).items + 1


def test_prequential_predicts_every_event_after_the_first_block_before_learning_it() -> None:
    views = _chains()
    report = evaluate_prequential(views, k=3, refits=4)
    assert report.predictions == 240
    assert [row.name for row in report.rows] == ["livelist", "popularity", "item-kNN"]
    assert report.rows[0].hit_rate > report.rows[1].hit_rate
    with pytest.raises(ValueError, match="cannot be cut into 11 blocks"):
        evaluate_prequential(views[:1])


def test_a_report_is_plain_json() -> None:
    import json

    shown = json.loads(json.dumps(evaluate_leave_last_out(_chains(), k=3).as_json()))
    assert shown["protocol"] == "leave-last-out"
    assert [row["name"] for row in shown["rows"]] == ["livelist", "popularity", "item-kNN"]
    assert "ranks" not in shown
