"""Approximate nearest items for large catalogues: inverted lists, in numpy and deterministic.

Items are filed under the nearest of about sqrt(items) centres (items themselves, refined
by a few rounds of averaging on a sample); a query looks into the lists of its nearest
centres only, and there compares exactly. Products of int8 vectors are exact in float32,
so the result does not depend on the batch or the machine.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from models.ranking.log import Ints, spans, starts_of
from models.ranking.neighbours import Neighbours, keep_heaviest, stack

Vectors = NDArray[np.int8]
_ROUNDS: Final = 3
_SAMPLE: Final = 64  # vectors a centre, in the rounds
_BLOCK: Final = 4096
_ALONE: Final = 8  # queries at most that are answered one by one: faster, and the same


@dataclass(frozen=True)
class InvertedLists:
    """Items filed under centres: rows `starts[c]:starts[c + 1]` of `vectors` and `items` are centre c's."""

    vectors: Vectors  # (items with text, dimension), in the order of the lists
    items: Ints  # the item of each row; ascending within a list
    starts: Ints
    centres: NDArray[np.float32]  # (lists, dimension), whole numbers
    count: int  # items, those without text too

    @classmethod
    def build(cls, vectors: Vectors, lists: int | None = None) -> InvertedLists:
        """Files all vectors; zero vectors (items without text) are left out."""
        told = np.flatnonzero(vectors.any(axis=1))
        count = lists or max(1, math.isqrt(len(told)))
        spread = told[np.linspace(0, len(told) - 1, min(count * _SAMPLE, len(told))).astype(np.int64)]
        centres = vectors[spread[np.linspace(0, len(spread) - 1, count).astype(np.int64)]]
        for _ in range(_ROUNDS):
            centres = _averaged(vectors[spread], _nearest_centre(vectors[spread], centres), centres)
        home = _nearest_centre(vectors[told], centres)
        items = told[np.argsort(home, kind="stable")]
        starts = starts_of(np.bincount(home, minlength=count))
        return cls(vectors[items], items, starts, centres.astype(np.float32), len(vectors))

    def search(self, queries: Vectors, most: int, probes: int = 64, skip: Ints | None = None) -> Neighbours:
        """Each query's `most` nearest items by dot product; `skip[q]` is an item that q must not find.

        Of equally near items the smaller numbers are found, so that a query finds the same in any batch.
        """
        asked = queries.astype(np.float32)
        if len(queries) <= _ALONE:
            return stack([
                self._search_one(query, most, probes, None if skip is None else int(skip[row]))
                for row, query in enumerate(asked)
            ])  # fmt: skip
        return stack([
            self._search_block(asked[begin : begin + _BLOCK], most, probes, skip, begin)
            for begin in range(0, len(queries), _BLOCK)
        ])  # fmt: skip

    def _search_one(self, query: NDArray[np.float32], most: int, probes: int, skip: int | None) -> Neighbours:
        probed = _probed(self.centres @ query, probes)
        rows, _ = spans(self.starts, probed)
        # List by list, so that the float32 copy of a list stays in the processor's cache.
        lists = [self.vectors[self.starts[one] : self.starts[one + 1]] for one in probed.tolist()]
        values = np.concatenate([members.astype(np.float32) @ query for members in lists])
        items = self.items[rows]
        if skip is not None:
            values[items == skip] = 0.0
        near = np.flatnonzero((values > 0) & (values >= _least(values, most)))
        best = near[np.lexsort((items[near], -values[near]))[:most]]
        best = best[np.argsort(items[best])]
        return Neighbours(np.array([0, len(best)]), items[best].astype(np.int32), values[best])

    def _search_block(
        self, queries: NDArray[np.float32], most: int, probes: int, skip: Ints | None, begin: int
    ) -> Neighbours:
        probed = _probed(queries @ self.centres.T, probes)
        asker = np.repeat(np.arange(len(queries)), probed.shape[1])
        order = np.argsort(probed, axis=None, kind="stable")
        bounds = starts_of(np.bincount(probed.ravel(), minlength=len(self.centres)))
        rows, items, values = [], [], []
        for centre in np.unique(probed):
            who = asker[order[bounds[centre] : bounds[centre + 1]]]
            filed = slice(self.starts[centre], self.starts[centre + 1])
            members = self.items[filed]
            close = queries[who] @ self.vectors[filed].astype(np.float32).T
            if skip is not None:
                close[skip[begin + who][:, None] == members[None, :]] = 0.0
            row, column = np.nonzero((close > 0) & (close >= _least(close, most)))
            rows.append(who[row])
            items.append(members[column])
            values.append(close[row, column])
        shape = (len(queries), self.count)
        found = (np.concatenate(values), (np.concatenate(rows), np.concatenate(items)))
        return keep_heaviest(sp.csr_array(found, shape=shape), most, np.arange(self.count))


def _probed(likeness: NDArray[np.float32], probes: int) -> Ints:
    """The lists to look into: those of the nearest centres, along the last axis."""
    probes = min(probes, likeness.shape[-1])
    return np.argpartition(-likeness, probes - 1, axis=-1)[..., :probes]


def _least(values: NDArray[np.float32], most: int) -> NDArray[np.float32]:
    """The `most`-th greatest along the last axis, as an axis of one; below all where there are fewer."""
    size = values.shape[-1]
    if size <= most:
        return np.full((*values.shape[:-1], 1), -np.inf, dtype=np.float32)
    return np.partition(values, size - most, axis=-1)[..., size - most, None]


def _nearest_centre(vectors: Vectors, centres: Vectors) -> Ints:
    stored = centres.astype(np.float32).T
    found = [
        np.argmax(vectors[begin : begin + _BLOCK].astype(np.float32) @ stored, axis=1)
        for begin in range(0, len(vectors), _BLOCK)
    ]
    return np.concatenate(found) if found else np.zeros(0, dtype=np.int64)


def _averaged(vectors: Vectors, home: Ints, centres: Vectors) -> Vectors:
    """The mean direction of each centre's vectors; a centre without any stays."""
    member = sp.csr_array(
        (np.ones(len(home), np.int64), (home, np.arange(len(home)))), shape=(len(centres), len(home))
    )
    total = np.asarray(member @ vectors.astype(np.int64), dtype=np.float64)
    length = np.sqrt((total * total).sum(axis=1))
    scale = np.divide(127.0, length, out=np.zeros_like(length), where=length > 0)
    moved: Vectors = np.rint(total * scale[:, None]).astype(np.int8)
    return np.where(length[:, None] > 0, moved, centres)
