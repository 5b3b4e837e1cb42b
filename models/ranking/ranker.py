"""Lists from views and an index: score, filter, choose, diversify, explain. Pure.

Users are ranked in batches for speed; a user's list is the same bytes alone and in any
batch. Ties break by score, then popularity, then item_id.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.ranking.config import RankingConfig
from models.ranking.diversity import diversify
from models.ranking.evidence import Batch, view_batch
from models.ranking.item_index import ItemIndex
from models.ranking.log import Ints
from models.ranking.reasons import explain_selected
from models.ranking.scoring import CELLS, Scored, score
from models.records import Micros, RankedItem, Reason
from models.views import UserView

Ranked = tuple[RankedItem, ...]


def rank(
    views: Sequence[UserView], index: ItemIndex, config: RankingConfig, clock: Micros, k: int
) -> list[Ranked]:
    """The best k items of each user, ranks 1..n without gaps.

    n < k only when fewer items are eligible: available, not seen, not disliked. When none is,
    seen ones are listed with a reason that says so; a list is empty only when nothing is
    available. `clock` (microseconds) ages requests. Raises ValueError when k < 1.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    step = max(1, CELLS // max(index.items, 1))
    return [
        ranked
        for begin in range(0, len(views), step)
        for ranked in _rank_batch(views[begin : begin + step], index, config, clock, k)
    ]


def _rank_batch(
    views: Sequence[UserView], index: ItemIndex, config: RankingConfig, clock: Micros, k: int
) -> list[Ranked]:
    batch = _batch(views, index, config, clock)
    eligible, seen_again = _eligible(batch, index, config)
    extra = config.diversity_pool * k + np.diff(batch.histories.starts)
    scored = score(batch, index, extra, eligible)
    diversity = 0.0 if index.fusion.by_popularity else config.diversity
    pool = config.diversity_pool * k if diversity > 0 else k
    pools = [_best(scored, index, user, pool) for user in range(len(views))]
    chosen = diversify(scored, index, pools, k, diversity)
    selected = np.concatenate(chosen) if chosen else np.zeros(0, dtype=np.int64)
    reasons = explain_selected(views, batch, scored, index, selected, config.reasons)
    return _lists(scored, index, chosen, selected, reasons, seen_again)


def _batch(views: Sequence[UserView], index: ItemIndex, config: RankingConfig, clock: Micros) -> Batch:
    return view_batch(
        views,
        index.find,
        index.find_text,
        index.find_attribute,
        index.find_topic,
        index.history,
        config,
        clock,
    )


def _eligible(
    batch: Batch, index: ItemIndex, config: RankingConfig
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """(users, items) who may be shown what, and (users,) who only has what was seen."""
    histories = batch.histories
    eligible = np.repeat(index.available[None, :], batch.users, axis=0)
    hidden = (histories.item >= 0) & (histories.strength > 0)
    if not config.exclude_seen:
        hidden &= histories.liking < 0
    user, item = histories.user[hidden], histories.item[hidden]
    eligible[user, item] = False
    seen_again: NDArray[np.bool_] = np.logical_not(eligible.any(axis=1))
    for one in seen_again.nonzero()[0]:  # only who knows everything loses the filter
        eligible[one] = index.available
        eligible[one, item[(user == one) & (histories.liking[hidden] < 0)]] = False
        if not eligible[one].any():
            eligible[one] = index.available
    return eligible, seen_again


def _best(scored: Scored, index: ItemIndex, user: int, most: int) -> Ints:
    """The candidates of a user with the highest score, then popularity, then item_id."""
    found = scored.candidates
    begin, end = int(found.starts[user]), int(found.starts[user + 1])
    scores = scored.score[begin:end]
    if len(scores) > most:
        least = np.partition(scores, len(scores) - most)[len(scores) - most]
        places = (scores >= least).nonzero()[0]
    else:
        places = np.arange(len(scores))
    order = np.lexsort((-index.popularity[found.item[begin + places]], -scores[places]))
    best: Ints = begin + places[order[:most]]
    return best


def _lists(
    scored: Scored,
    index: ItemIndex,
    chosen: list[Ints],
    selected: Ints,
    reasons: list[tuple[Reason, ...]],
    seen_again: NDArray[np.bool_],
) -> list[Ranked]:
    scores: list[float] = scored.score[selected].tolist()
    item: list[int] = scored.candidates.item[selected].tolist()
    lists: list[Ranked] = []
    at = 0
    for user, candidates in enumerate(chosen):
        places = range(at, at + len(candidates))
        known = bool(seen_again[user])
        lists.append(
            tuple(
                RankedItem(rank, index.item_id(item[place]), scores[place], _with_seen(reasons[place], known))
                for rank, place in enumerate(places, 1)
            )
        )
        at += len(candidates)
    return lists


def _with_seen(reasons: tuple[Reason, ...], seen_again: bool) -> tuple[Reason, ...]:
    if not seen_again:
        return reasons
    return (*reasons, Reason("seen_again", (), 0.0, "You know it already; nothing new was left"))


def explain(
    view: UserView, index: ItemIndex, config: RankingConfig, clock: Micros, item_id: str
) -> list[Reason]:
    """All contributions to one item's score, listed or not, negative ones too; [] for an unknown item."""
    item = index.find(item_id)
    if item < 0:
        return []
    batch = _batch([view], index, config, clock)
    eligible, _ = _eligible(batch, index, config)
    forced = np.array([item], dtype=np.int64)
    extra = config.diversity_pool + np.diff(batch.histories.starts)
    scored = score(batch, index, extra, eligible, forced)
    selected = (scored.candidates.item == item).nonzero()[0]
    return list(explain_selected([view], batch, scored, index, selected, 1 << 20, negative=True)[0])


def score_of(
    view: UserView, index: ItemIndex, config: RankingConfig, clock: Micros, item_id: str
) -> float | None:
    """The additive score of one item for a user, None for an unknown item."""
    item = index.find(item_id)
    if item < 0:
        return None
    batch = _batch([view], index, config, clock)
    eligible, _ = _eligible(batch, index, config)
    nothing = np.zeros(1, dtype=np.int64)
    scored = score(batch, index, nothing, eligible, np.array([item], dtype=np.int64))
    return float(scored.score[scored.candidates.item == item][0])
