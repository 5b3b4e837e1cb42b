"""Evaluation protocols over a history, on the same index and ranker as the job.

Leave-last-out: users with at least three distinct items; the last item is held out and the
whole catalogue is ranked. `plus` learns from all but the last item of every such user,
which is what a stream knows by then; `strict` learns from all but the last two and is
queried with all but the last, as papers do. Prequential: every interaction is predicted
before it is learned from.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from models.ranking.config import DEFAULT_INDEX, DEFAULT_RANKING, IndexConfig, RankingConfig
from models.ranking.index import learn_index
from models.ranking.item_index import ItemIndex
from models.ranking.log import Ints, encode_log, merge_logs
from models.ranking.ranker import rank
from models.records import Item, Micros
from models.views import UserView

Learn: TypeAlias = Literal["strict", "plus"]
Vectors: TypeAlias = Sequence[tuple[int, str, bytes]]
#: The user's view as if there had been no event about the item.
WithoutItem: TypeAlias = Callable[[UserView, str], UserView]
#: From rows of what users had to scores of all items.
_Scores: TypeAlias = Callable[[sp.csr_array], NDArray[np.float64]]
_LEAST_ITEMS: Final = 3
_BATCH: Final = 256


@dataclass(frozen=True, slots=True)
class Metrics:
    """Of lists of k items against one held-out item each, averaged over the predictions."""

    name: str
    hit_rate: float  # share of predictions whose item is among the first k
    ndcg: float  # 1 / log2(1 + rank) of it, 0 beyond k
    mrr: float  # 1 / rank of it, 0 beyond k
    recall: float  # of one item: the hit rate
    coverage: float  # share of the available items that stand on any list
    novelty: float | None  # mean of -log2(share of users who had the listed item); None without lists


class Predictions(NamedTuple):
    """Of one ranking: the rank of each held-out item, 0 for a miss, and the items that were listed."""

    ranks: list[float]
    listed: list[tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class EvaluationReport:
    """What was measured and how; `rows[0]` is the project's ranking, the others stand beside it."""

    protocol: str
    learn: str | None
    k: int
    users: int  # that were asked
    predictions: int
    items: int
    interactions: int  # in the history
    rows: tuple[Metrics, ...]
    ranks: tuple[int, ...]  # of each held-out item on its list, by sorted user_id; 0: not among the k

    def as_json(self) -> dict[str, Any]:
        """Without the single ranks."""
        shown = asdict(self)
        del shown["ranks"]
        return shown


def without_item(view: UserView, item_id: str) -> UserView:
    """Drops what a view says of an item. Topics stay: a caller with the events rebuilds the view instead."""
    kept = tuple(one for one in view.interactions if one.item_id != item_id)
    mentioned = tuple(one for one in view.mentioned if one != item_id)
    times = [one.time for one in kept] + [query.time for query in view.queries]
    return replace(view, interactions=kept, mentioned=mentioned, newest_time=max(times, default=0))


def evaluate_leave_last_out(
    views: Sequence[UserView],
    items: Sequence[Item] = (),
    vectors: Vectors = (),
    learn: Learn = "plus",
    k: int = 10,
    *,
    index_config: IndexConfig = DEFAULT_INDEX,
    ranking_config: RankingConfig = DEFAULT_RANKING,
    without: WithoutItem = without_item,
    baselines: bool = True,
) -> EvaluationReport:
    """Predicts each user's last item. Raises ValueError when no user has three distinct items."""
    views = sorted(views, key=lambda view: view.user_id)
    asked = [view for view in views if len(view.interactions) >= _LEAST_ITEMS]
    if not asked:
        raise ValueError("no user has feedback on at least 3 distinct items; nothing can be held out")
    queries = [without(view, view.interactions[-1].item_id) for view in asked]
    learned = _learned(
        views, dict(zip((view.user_id for view in asked), queries, strict=True)), learn, without
    )
    clock = max(view.newest_time for view in learned)
    index = learn_index(merge_logs([encode_log(learned)]), items, vectors, index_config, clock)
    targets = [view.interactions[-1].item_id for view in asked]
    newest = max(clock, *(view.newest_time for view in queries))
    listed = list(_listed(queries, index, ranking_config, newest, k))
    ranks = _ranks(listed, targets)
    found = {"livelist": Predictions([float(place) for place in ranks], listed)}
    if baselines:
        found |= _baselines(learned, queries, targets, index, k)
    rows = [_metrics(name, made, index, len(learned)) for name, made in found.items()]
    interactions = sum(len(view.interactions) for view in views)
    return EvaluationReport(
        "leave-last-out", learn, k, len(asked), len(asked), index.items, interactions, tuple(rows), ranks
    )


def evaluate_prequential(
    views: Sequence[UserView],
    items: Sequence[Item] = (),
    vectors: Vectors = (),
    k: int = 10,
    *,
    index_config: IndexConfig = DEFAULT_INDEX,
    ranking_config: RankingConfig = DEFAULT_RANKING,
    refits: int = 10,
) -> EvaluationReport:
    """Predicts every interaction, in order of time, from what was known just before it.

    The order is cut into `refits` + 1 equal blocks. The first only teaches; before each later
    block an index is learned from all that came before, and within the block each user's own
    history stays live. Users' topics are left out, as a view's include what came later. A user's
    first interaction is predicted too: by what suits everyone.
    """
    order = sorted(
        (one.time, one.event_ids[-1], view.user_id, user, place)
        for user, view in enumerate(views)
        for place, one in enumerate(view.interactions)
    )
    if len(order) <= refits:
        raise ValueError(f"{len(order)} interactions cannot be cut into {refits + 1} blocks")
    cuts = np.linspace(0, len(order), refits + 2).astype(int).tolist()
    found: dict[str, Predictions] = defaultdict(lambda: Predictions([], []))
    index = None
    for begin, end in pairwise(cuts[1:]):
        known = [0] * len(views)
        for _, _, _, user, place in order[:begin]:
            known[user] = max(known[user], place + 1)
        clock = order[begin - 1][0]
        learned = [_past(view, count, clock) for view, count in zip(views, known, strict=True) if count]
        index = learn_index(merge_logs([encode_log(learned)]), items, vectors, index_config, clock)
        asked = [(views[user], place) for _, _, _, user, place in order[begin:end]]
        pasts = [_past(view, place, view.interactions[place].time) for view, place in asked]
        targets = [view.interactions[place].item_id for view, place in asked]
        block = list(_listed(pasts, index, ranking_config, clock, k))
        ours = Predictions([float(place) for place in _ranks(block, targets)], block)
        made = {"livelist": ours} | _baselines(learned, pasts, targets, index, k)
        for name, predictions in made.items():
            found[name].ranks.extend(predictions.ranks)
            found[name].listed.extend(predictions.listed)
    assert index is not None
    rows = tuple(_metrics(name, made, index, len(views)) for name, made in found.items())
    ranks = tuple(int(place) for place in found["livelist"].ranks)
    return EvaluationReport(
        "prequential", None, k, len(views), len(ranks), index.items, len(order), rows, ranks
    )


def _past(view: UserView, count: int, clock: Micros) -> UserView:
    """The view as of its first `count` interactions, without what has no time: topics and mere mentions."""
    kept = view.interactions[:count]
    queries = tuple(query for query in view.queries if query.time <= clock)
    newest = max([one.time for one in kept] + [query.time for query in queries], default=0)
    return replace(view, interactions=kept, queries=queries, topics=(), newest_time=newest, mentioned=())


def _numbering(views: Iterable[UserView], index: ItemIndex, targets: Sequence[str]) -> dict[str, int]:
    """Every item of the catalogue, of the views and of the targets, numbered by sorted id."""
    catalogue = {index.item_ids[item] for item in range(index.items)}
    mentioned = {one.item_id for view in views for one in view.interactions}
    return {item: number for number, item in enumerate(sorted(catalogue | mentioned | set(targets)))}


def _learned(
    views: Sequence[UserView], queries: dict[str, UserView], learn: Learn, without: WithoutItem
) -> list[UserView]:
    if learn not in ("strict", "plus"):
        raise ValueError(f"learn must be strict or plus, got {learn!r}")
    kept = [queries.get(view.user_id, view) for view in views]
    if learn == "plus":
        return kept
    return [
        without(view, view.interactions[-1].item_id) if view.user_id in queries else view for view in kept
    ]


def _listed(
    views: Sequence[UserView], index: ItemIndex, config: RankingConfig, clock: Micros, k: int
) -> Iterator[tuple[str, ...]]:
    for begin in range(0, len(views), _BATCH):
        for ranked in rank(views[begin : begin + _BATCH], index, config, clock, k):
            yield tuple(place.item_id for place in ranked)


def _ranks(listed: Iterable[tuple[str, ...]], targets: Sequence[str]) -> tuple[int, ...]:
    return tuple(
        items.index(target) + 1 if target in items else 0
        for items, target in zip(listed, targets, strict=True)
    )


def _metrics(name: str, made: Predictions, index: ItemIndex, users: int) -> Metrics:
    shown = [place for items in made.listed for item in items if (place := index.find(item)) >= 0]
    share = np.maximum(index.popularity[shown], 0.5) / max(users, 1)
    available = int(index.available.sum())
    return Metrics(
        name,
        *_accuracy(made.ranks),
        coverage=len(set(shown)) / available if available else 0.0,
        novelty=float(np.mean(-np.log2(np.minimum(share, 1.0)))) if shown else None,
    )


def _accuracy(ranks: Sequence[float]) -> tuple[float, float, float, float]:
    """Hit rate, NDCG, MRR, recall of ranks from 1, 0 for a miss."""
    count = max(len(ranks), 1)
    hits = [place for place in ranks if place > 0]
    hit_rate = len(hits) / count
    ndcg = math.fsum(1.0 / math.log2(1.0 + place) for place in hits) / count
    return hit_rate, ndcg, math.fsum(1.0 / place for place in hits) / count, hit_rate


def _baselines(
    learned: Sequence[UserView], queries: Sequence[UserView], targets: Sequence[str], index: ItemIndex, k: int
) -> dict[str, Predictions]:
    """Popularity by count and item-kNN by cosine, over all items; of equals each has the average rank."""
    place = _numbering((*learned, *queries), index, targets)
    train, asked = _incidence(learned, place), _incidence(queries, place)
    goal = np.array([place[target] for target in targets], dtype=np.int64)
    counts = np.asarray(train.sum(axis=0)).ravel()
    together = sp.csr_array(train.T @ train)
    together.setdiag(0)
    scale = np.divide(1.0, np.sqrt(counts), out=np.zeros_like(counts), where=counts > 0)
    cosine = sp.csr_array(together.multiply(scale[:, None]).multiply(scale[None, :]))
    names = list(place)
    scores: dict[str, _Scores] = {
        "popularity": lambda rows: np.repeat(counts[None, :], rows.shape[0], axis=0),
        "item-kNN": lambda rows: np.asarray((rows @ cosine).todense()),
    }
    return {name: _predictions(asked, goal, score, names, k) for name, score in scores.items()}


def _incidence(views: Sequence[UserView], place: dict[str, int]) -> sp.csr_array:
    row = [number for number, view in enumerate(views) for _ in view.interactions]
    column = [place[one.item_id] for view in views for one in view.interactions]
    return sp.csr_array((np.ones(len(row)), (row, column)), shape=(len(views), len(place)))


def _predictions(
    asked: sp.csr_array, goal: Ints, score: _Scores, names: Sequence[str], k: int
) -> Predictions:
    """Ranks and lists of the items that each user has not had; a rank beyond k is a miss."""
    made = Predictions([], [])
    for begin in range(0, len(goal), _BATCH):
        rows = asked[begin : begin + _BATCH]
        scores = score(rows)
        scores[rows.nonzero()] = -np.inf
        mine = goal[begin : begin + _BATCH]
        reached = scores[np.arange(len(mine)), mine][:, None]
        above = (scores > reached).sum(axis=1)
        equal = (scores == reached).sum(axis=1)
        ranks = above + (equal + 1) / 2
        made.ranks.extend(np.where(ranks < k + 1, ranks, 0.0).tolist())
        made.listed.extend(tuple(names[item] for item in row.nonzero()[0]) for row in _best(scores, k))
    return made


def _best(scores: NDArray[np.float64], k: int) -> NDArray[np.bool_]:
    """Which items are each row's k best; of equals those with the smaller id, of all only finite ones."""
    k = min(k, scores.shape[1])
    least = np.partition(scores, -k, axis=1)[:, -k][:, None]
    above = scores > least
    equal = scores == least
    room = k - above.sum(axis=1)[:, None]
    best: NDArray[np.bool_] = (above | (equal & (equal.cumsum(axis=1) <= room))) & np.isfinite(scores)
    return best
