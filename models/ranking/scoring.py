"""Candidates of a batch of users and their additive scores.

Everything is flat and in a fixed order within a user: a user's scores are the same bits
alone and in any batch. Candidates are what the sources lead to and the best items by the
static score, so the best k are those of the whole catalogue.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.ranking.evidence import Batch
from models.ranking.fusion import Fusion
from models.ranking.item_index import ItemIndex
from models.ranking.log import Floats, Ints, starts_of, sums
from models.ranking.sources import PLACES, SOURCES, Gathered, gather

#: Users times items that are scored at once, at most; bounds the memory of the candidate table.
CELLS = 1 << 20


@dataclass(frozen=True, slots=True)
class Candidates:
    """Candidates of a batch, sorted by (user, item), and the entries that lead to them."""

    starts: Ints  # (users + 1,)
    user: Ints  # (candidates,)
    item: Ints
    gathered: tuple[Gathered, ...]
    slots: tuple[Ints, ...]  # per gathered: each entry's candidate


@dataclass(frozen=True, slots=True)
class Scored:
    """Candidates with scores; `given[g]` is what each entry of `gathered[g]` adds to its candidate."""

    candidates: Candidates
    score: Floats  # additive, before diversity
    given: tuple[Floats, ...]


def score(
    batch: Batch, index: ItemIndex, extra: Ints, eligible: NDArray[np.bool_], forced: Ints | None = None
) -> Scored:
    """The batch's candidates, scored; see `find_candidates`."""
    fusion = index.fusion
    gathered = gather_all(batch, index, fusion)
    found = find_candidates(gathered, index, extra, eligible, forced)
    given = tuple(_weigh(one, fusion) for one in found.gathered)
    total = index.static_score[found.item]
    if given:
        total = total + sums(np.concatenate(found.slots), np.concatenate(given), len(total))
    return Scored(found, total, given)


def _weigh(one: Gathered, fusion: Fusion) -> Floats:
    mix = fusion.mix(one.source)
    if mix is None:
        return np.zeros(len(one.value))
    return one.value * mix[np.minimum(one.local, PLACES - 1)]


def gather_all(batch: Batch, index: ItemIndex, fusion: Fusion | None = None) -> list[Gathered]:
    """The entries of every source that the index has, the batch has evidence for and the fusion uses."""
    found = []
    for source in SOURCES:
        if fusion is not None and fusion.mix(source) is None:
            continue
        matrix = index.matrix(source.matrix)
        one = gather(source, matrix, batch, index.idf, index.category) if matrix is not None else None
        if one is not None and len(one.item):
            found.append(one)
    return found


def find_candidates(
    gathered: list[Gathered],
    index: ItemIndex,
    extra: Ints,
    eligible: NDArray[np.bool_],
    forced: Ints | None = None,
) -> Candidates:
    """What the entries lead to and the first `extra[user]` items of the static order, if eligible.

    `eligible` is (users, items); `forced` are user x items + item keys of candidates that need
    not be.
    """
    items, users = index.items, len(extra)
    allowed = eligible.reshape(-1)
    if forced is not None:
        allowed = allowed.copy()
        allowed[forced] = True
    marked = np.zeros(users * items, dtype=bool)
    kept: list[Gathered] = []
    keys: list[Ints] = []
    for one in gathered:
        key = one.user * items + one.item
        which = allowed[key].nonzero()[0]
        kept.append(one.keep(which))
        keys.append(key[which])
        marked[keys[-1]] = True
    _mark_static(marked, index, extra, allowed)
    if forced is not None:
        marked[forced] = True
    key = marked.nonzero()[0]
    place = np.empty(len(marked), dtype=np.int64)
    place[key] = np.arange(len(key))
    user, item = key // items, key % items
    starts = starts_of(np.bincount(user, minlength=users))
    return Candidates(starts, user, item, tuple(kept), tuple(place[one] for one in keys))


def _mark_static(
    marked: NDArray[np.bool_], index: ItemIndex, extra: Ints, allowed: NDArray[np.bool_]
) -> None:
    most = np.minimum(extra, len(index.static_order))
    user = np.arange(len(most)).repeat(most)
    place = np.arange(len(user)) - (most.cumsum() - most).repeat(most)
    key = user * index.items + index.static_order[place]
    marked[key[allowed[key]]] = True
