"""Maximal marginal relevance, mildly: of two items that are much alike the second has to be better.

Items are alike as the index says: clearly closer than an item's nearest neighbour is on
average, by words, else content, else attributes. In each step the item with the greatest
score - share x top score x likeness to what is listed above  is taken.
"""

from __future__ import annotations

import numpy as np

from models.ranking.item_index import ItemIndex
from models.ranking.log import Ints
from models.ranking.neighbours import Neighbours
from models.ranking.scoring import Scored


def diversify(scored: Scored, index: ItemIndex, pools: list[Ints], k: int, share: float) -> list[Ints]:
    """The k candidates of each pool (best first, slots of `scored`) in the order in which they are listed."""
    alike = index.matrix("alike")
    if share == 0.0 or alike is None:
        return [pool[:k] for pool in pools]
    pairs = _alike_pairs(scored, index.items, pools, alike)
    return [
        _choose(scored, pool, pairs[user], k, share) if user in pairs else pool[:k]
        for user, pool in enumerate(pools)
    ]


def _alike_pairs(
    scored: Scored, items: int, pools: list[Ints], alike: Neighbours
) -> dict[int, list[tuple[int, int, float]]]:
    """By user: (place in the pool, place in the pool, likeness in (0, 1])."""
    slots = np.concatenate(pools) if pools else np.zeros(0, dtype=np.int64)
    first = np.cumsum([0] + [len(pool) for pool in pools])
    user, item = scored.candidates.user[slots], scored.candidates.item[slots]
    key = user * items + item
    place = np.full(len(pools) * items, -1, dtype=np.int32)
    place[key] = np.arange(len(slots), dtype=np.int32)
    of, neighbour, value = alike.gather(item)
    other = place[user[of] * items + neighbour]
    found = (other >= 0).nonzero()[0]
    of, other, likeness = of[found], other[found], value[found]
    pairs: dict[int, list[tuple[int, int, float]]] = {}
    for one, two, alike_by in zip(of.tolist(), other.tolist(), likeness.tolist(), strict=True):
        owner = int(user[one])
        begin = int(first[owner])
        pairs.setdefault(owner, []).append((one - begin, two - begin, alike_by))
    return pairs


def _choose(scored: Scored, pool: Ints, pairs: list[tuple[int, int, float]], k: int, share: float) -> Ints:
    scores: list[float] = scored.score[pool].tolist()
    price = share * max(scores[0], 0.0)
    near: dict[int, list[tuple[int, float]]] = {}
    for one, two, likeness in pairs:
        near.setdefault(one, []).append((two, likeness))
        near.setdefault(two, []).append((one, likeness))
    penalty = [0.0] * len(scores)
    left = list(range(len(scores)))  # best first, so equals keep their order
    chosen: list[int] = []
    while left and len(chosen) < k:
        best = max(left, key=lambda place: scores[place] - penalty[place])
        left.remove(best)
        chosen.append(best)
        for other, likeness in near.get(best, ()):
            penalty[other] = max(penalty[other], price * likeness)
    return pool[chosen]
