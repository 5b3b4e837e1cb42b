"""Candidates of a batch of users and their additive scores.

Everything is flat, row by row and in a fixed order within a user: a user's scores are the
same bits alone and in any batch. Candidates are what the sources lead to and the best
items by the static score, so the best k are those of the whole catalogue.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.ranking.evidence import Batch
from models.ranking.fusion import Fusion, squash
from models.ranking.item_index import ItemIndex
from models.ranking.log import Floats, Ints, starts_of, sums
from models.ranking.sources import SOURCES, Gathered, gather

#: Users times items that are scored at once, at most; bounds the memory of the candidate table.
CELLS = 1 << 21


@dataclass(frozen=True, slots=True)
class Channel:
    """One channel's strength of each candidate, and each user's normaliser."""

    gathered: int  # position in `Scored.gathered`
    number: int  # of the channel within its source
    name: str
    strength: Floats  # (candidates,)
    norm: Floats  # (users,), > 0


@dataclass(frozen=True, slots=True)
class Scored:
    """Candidates of a batch, sorted by (user, item), with scores and what they are made of."""

    starts: Ints  # (users + 1,)
    user: Ints  # (candidates,)
    item: Ints
    score: Floats  # additive, before diversity
    gathered: tuple[Gathered, ...]
    slots: tuple[Ints, ...]  # per gathered: each entry's candidate
    channels: tuple[Channel, ...]


def score_candidates(
    batch: Batch,
    index: ItemIndex,
    fusion: Fusion | None,
    extra: Ints,
    eligible: NDArray[np.bool_],
    forced: Ints | None = None,
) -> Scored:
    """Scores the batch's candidates; without a fusion only the channels' strengths are computed.

    `eligible` is (users, items); `extra` says how many of the static order each user gets besides;
    `forced` are (user x items + item) keys that are candidates even if not eligible, and never
    a normaliser.
    """
    items = index.items
    allowed = eligible if forced is None else _with_forced(eligible, forced)
    gathered = tuple(_gather(batch, index, fusion, allowed))
    marked = np.zeros(batch.users * items, dtype=bool)
    for one in gathered:
        marked[one.user * items + one.item] = True
    _mark_static(marked, index, extra, allowed)
    if forced is not None:
        marked[forced] = True
    key = np.flatnonzero(marked)
    slot_of = np.empty(len(marked), dtype=np.int32)
    slot_of[key] = np.arange(len(key), dtype=np.int32)
    user, item = key // items, key % items
    starts = starts_of(np.bincount(user, minlength=batch.users))
    slots = tuple(slot_of[one.user * items + one.item].astype(np.int64) for one in gathered)
    counted = None if forced is None else eligible.reshape(-1)[key]
    channels = tuple(_channels(gathered, slots, starts, counted, fusion))
    score = np.zeros(len(key)) if fusion is None else _score(index, fusion, user, item, channels)
    return Scored(starts, user, item, score, gathered, slots, channels)


def _with_forced(eligible: NDArray[np.bool_], forced: Ints) -> NDArray[np.bool_]:
    allowed = eligible.copy()
    allowed.reshape(-1)[forced] = True
    return allowed


def _gather(
    batch: Batch, index: ItemIndex, fusion: Fusion | None, eligible: NDArray[np.bool_]
) -> list[Gathered]:
    found = []
    flat = eligible.reshape(-1)
    for source in SOURCES:
        matrix = index.matrix(source.matrix)
        if matrix is None or (fusion is not None and not fusion.uses(source)):
            continue
        one = gather(source, matrix, batch, index.idf, index.category)
        if one is not None and len(one.item):
            kept = np.flatnonzero(flat[one.user * index.items + one.item])
            found.append(one if len(kept) == len(one.item) else one.keep(kept))
    return found


def _mark_static(
    marked: NDArray[np.bool_], index: ItemIndex, extra: Ints, eligible: NDArray[np.bool_]
) -> None:
    most = np.minimum(extra, len(index.static_order))
    user = np.repeat(np.arange(len(most)), most)
    place = np.arange(len(user)) - np.repeat(np.cumsum(most) - most, most)
    key = user * index.items + index.static_order[place]
    marked[key[eligible.reshape(-1)[key]]] = True


def _channels(
    gathered: tuple[Gathered, ...],
    slots: tuple[Ints, ...],
    starts: Ints,
    counted: NDArray[np.bool_] | None,
    fusion: Fusion | None,
) -> list[Channel]:
    channels = []
    for place, (one, slot) in enumerate(zip(gathered, slots, strict=True)):
        for number, name in enumerate(one.source.channels()):
            if fusion is not None and not any(fusion.weights(name)):
                continue
            strength = sums(slot, one.values[number], int(starts[-1]))
            norm = _norms(one, strength, starts, counted)
            if fusion is not None:
                norm = np.maximum(norm, fusion.floors.get(name, 0.0))
            norm[norm <= 0] = 1.0
            channels.append(Channel(place, number, name, strength, norm))
    return channels


def _norms(one: Gathered, strength: Floats, starts: Ints, counted: NDArray[np.bool_] | None) -> Floats:
    """Each user's greatest strength; by evidence that fades, as if the freshest were of full weight."""
    users = len(starts) - 1
    if not one.source.relative and one.source.kind == "disliked":
        return np.ones(users)
    greatest = np.zeros(users)
    filled = np.flatnonzero(np.diff(starts) > 0)
    if len(filled):
        known = strength if counted is None else np.where(counted, strength, 0.0)
        greatest[filled] = np.maximum.reduceat(known, starts[filled])
    if one.source.learned:
        return greatest
    return np.divide(greatest, one.fresh, out=np.zeros(users), where=one.fresh > 0)


def _score(index: ItemIndex, fusion: Fusion, user: Ints, item: Ints, channels: tuple[Channel, ...]) -> Floats:
    score = index.static_score[item].astype(np.float64)
    for channel in channels:
        score += squash(channel.strength / channel.norm[user], fusion.weights(channel.name))
    return score
