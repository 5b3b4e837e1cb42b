"""The candidate sources, under one contract.

A source is a matrix from rows to items, and the rows that each piece of a user's evidence
points at. An evidence e at position p gives item i  w_e M[row_e, i] decay^p, the source's
strength is the sum over evidence, and the score is linear in it: what would be lost
without e is what e gave. Sources with several decays are several channels of the fusion.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from models.ranking.evidence import Batch, Evidence
from models.ranking.log import Floats, Ints, sums
from models.ranking.neighbours import Neighbours
from models.text import WORD_BUCKETS

#: (position in the evidence, matrix row, weight), each of shape (entries,).
Rows = tuple[Ints, Ints, Floats]


@dataclass(frozen=True, slots=True)
class Source:
    """One source: `matrix` and `rows` give its entries; one channel for each of `decays`."""

    name: str
    kind: str  # of its evidence: a field of `Batch`
    matrix: str  # name of an `ItemIndex` matrix
    decays: tuple[float, ...]  # per channel: weight decay^position; 0: the newest alone
    rows: Callable[[Evidence, Floats], Rows]  # of evidence and idf
    default: float = 0.0  # weight of each channel when not fitted
    learned: bool = True  # fitted on the feedback; else the default stands
    spread: float = 1.0  # the weights of a piece of evidence's rows add up to no more

    def channels(self) -> tuple[str, ...]:
        """Names of the channels, stable across versions."""
        return tuple(f"{self.name}@{decay:g}" for decay in self.decays)


def _by_item(evidence: Evidence, idf: Floats) -> Rows:
    return np.arange(len(evidence)), evidence.item, evidence.weight


def _by_row(evidence: Evidence, idf: Floats) -> Rows:
    lengths = np.diff(evidence.rows.starts)
    of = np.repeat(np.arange(len(evidence)), lengths)
    return of, evidence.rows.values, evidence.weight[of]


_WORDS: Final = 16  # heaviest words of a piece of evidence
_SPOKEN: Final = 5  # newest interactions whose words count


def _by_words(evidence: Evidence, idf: Floats) -> Rows:
    return _word_rows(evidence, idf, np.arange(len(evidence)))


def _by_own_words(evidence: Evidence, idf: Floats) -> Rows:
    return _word_rows(evidence, idf, (evidence.local < _SPOKEN).nonzero()[0])


def _word_rows(evidence: Evidence, idf: Floats, which: Ints) -> Rows:
    """The heaviest words by log(1 + tf) x idf of each piece, weights of unit length times its own."""
    words = evidence.words(evidence.origin[which])
    if not len(words.values):
        return which[:0], which[:0], np.zeros(0)
    of = np.repeat(which, np.diff(words.starts))
    keys, counts = np.unique(of * WORD_BUCKETS + words.values, return_counts=True)
    of, word = keys // WORD_BUCKETS, keys % WORD_BUCKETS
    weight = _LOG1P[np.minimum(counts, len(_LOG1P) - 1)] * idf[word]
    order = np.lexsort((word, -weight, of))
    first = np.searchsorted(of, of)  # `of` ascends, before and after the sort
    order = order[np.arange(len(order)) - first < _WORDS]
    of, word, weight = of[order], word[order], weight[order]
    squares = np.bincount(of, weights=weight * weight, minlength=len(evidence))
    length = np.sqrt(squares[of])
    unit = np.divide(weight, length, out=np.zeros_like(weight), where=length > 0)
    return of, word, unit * evidence.weight[of]


_LOG1P: Final = np.log1p(np.arange(64.0))

#: Every source. Most come with several decays; the fusion weighs them into one curve over positions.
SOURCES: Final[tuple[Source, ...]] = (
    Source("graph", "liked", "graph", (0.0, 0.4, 0.6, 0.8, 1.0), _by_item, 0.3),
    Source("forward", "liked", "forward", (0.0, 0.6, 0.8, 1.0), _by_item),
    Source("two_hops", "liked", "two_hops", (0.6, 0.8, 1.0), _by_item),
    Source("words", "liked", "words", (0.0, 0.6, 0.8, 1.0), _by_item, 0.15),
    Source("attributes", "liked", "attributes_near", (0.0, 0.6, 0.9), _by_item, 0.1),
    Source("content", "liked", "content", (0.0, 0.6, 0.9), _by_item, 0.05),
    Source("own_words", "liked", "postings", (0.8,), _by_own_words, spread=math.sqrt(_WORDS)),
    Source("category", "liked", "category", (0.8,), _by_item, 0.2),
    Source("disliked_words", "disliked", "words", (0.8,), _by_item, -0.5, False),
    Source("disliked_attributes", "disliked", "attributes_near", (0.8,), _by_item, -0.5, False),
    Source("disliked_content", "disliked", "content", (0.8,), _by_item, -0.5, False),
    Source("query_words", "queries", "postings", (0.6,), _by_words, 5.0, False),
    Source("query_content", "queries", "query_texts", (0.6,), _by_row, 3.0, False),
    Source("profile_words", "profile", "postings", (1.0,), _by_words, 1.5, False),
    Source("profile_attributes", "profile", "attribute_postings", (1.0,), _by_row, 1.5, False),
    Source("topics", "topics", "topics", (1.0,), _by_row, 0.3, False),
)
_SHARED: Final = frozenset(
    {"queries", "profile", "topics"}
)  # kinds whose best item gets 1, whatever they say


@dataclass(frozen=True, slots=True)
class Gathered:
    """A source's entries for a batch: what each evidence gives each item, before position and weight."""

    source: Source
    user: Ints
    local: Ints  # position: number of the evidence within the user's of its kind
    item: Ints
    value: Floats

    def keep(self, which: Ints) -> Gathered:
        """Some of the entries."""
        return Gathered(self.source, self.user[which], self.local[which], self.item[which], self.value[which])


def gather(source: Source, matrix: Neighbours, batch: Batch, idf: Floats, category: Ints) -> Gathered | None:
    """The entries of one source, None when the batch has no evidence for it."""
    evidence: Evidence = getattr(batch, source.kind)
    if not len(evidence):
        return None
    of, row, weight = source.rows(evidence, idf)
    if not len(row):
        return None
    if source.name == "category":
        row = category[row]
        known = (row >= 0).nonzero()[0]
        of, row, weight = of[known], row[known], weight[known]
    entry, item, value = matrix.gather(row)
    of_entry = of[entry]
    found = Gathered(
        source,
        evidence.user[of_entry],
        evidence.local[of_entry],
        item.astype(np.int64),
        weight[entry] * value,
    )
    return _relative(found, evidence, batch.users) if source.kind in _SHARED else found


def _relative(found: Gathered, evidence: Evidence, users: int) -> Gathered:
    """Divided by what the user's best item gets, as if the freshest evidence were of full weight.

    So a request means the same whether its words are rare or common. The divisor counts as a
    normaliser: it is held fixed when a reason tells what its evidence gave.
    """
    decay = decay_table(found.source.decays[0])[np.minimum(found.local, PLACES - 1)]
    pair = found.user * (int(found.item.max(initial=0)) + 1) + found.item
    distinct, place = np.unique(pair, return_inverse=True)
    total = sums(place, found.value * decay, len(distinct))
    greatest, freshest = np.zeros(users), np.zeros(users)
    np.maximum.at(greatest, distinct // (int(found.item.max(initial=0)) + 1), total)
    np.maximum.at(freshest, evidence.user, evidence.weight)
    scale = np.divide(freshest, greatest, out=np.zeros(users), where=greatest > 0)
    return Gathered(found.source, found.user, found.local, found.item, found.value * scale[found.user])


PLACES: Final = 1024  # positions that are told apart


def decay_table(decay: float) -> Floats:
    """decay^position for positions 0 to PLACES - 1; 0^0 is 1."""
    table = _TABLES.get(decay)
    if table is None:
        table = _TABLES[decay] = np.array([decay**place for place in range(PLACES)])
    return table


_TABLES: Final[dict[float, Floats]] = {}
