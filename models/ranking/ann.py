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

from models.ranking.log import Ints, starts_of
from models.ranking.neighbours import Neighbours, keep_heaviest, stack

Vectors = NDArray[np.int8]
_ROUNDS: Final = 3
_SAMPLE: Final = 64  # vectors a centre, in the rounds
_BLOCK: Final = 4096


@dataclass(frozen=True)
class InvertedLists:
    """Item vectors filed under centres; `items[starts[c]:starts[c + 1]]` belong to centre c."""

    vectors: Vectors  # (items, dimension)
    centres: Vectors
    starts: Ints
    items: Ints

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
        order = np.argsort(home, kind="stable")
        return cls(vectors, centres, starts_of(np.bincount(home, minlength=count)), told[order])

    def search(self, queries: Vectors, most: int, probes: int = 64, skip: Ints | None = None) -> Neighbours:
        """Each query's `most` nearest items by dot product; `skip[q]` is an item that q must not find."""
        blocks = [
            self._search_block(queries[begin : begin + _BLOCK], most, probes, skip, begin)
            for begin in range(0, len(queries), _BLOCK)
        ]
        return stack(blocks)

    def _search_block(
        self, queries: Vectors, most: int, probes: int, skip: Ints | None, begin: int
    ) -> Neighbours:
        product = queries.astype(np.float32) @ self.centres.astype(np.float32).T
        probes = min(probes, len(self.centres))
        probed = np.argpartition(-product, probes - 1, axis=1)[:, :probes].ravel()
        asker = np.repeat(np.arange(len(queries)), probes)
        order = np.argsort(probed, kind="stable")
        bounds = starts_of(np.bincount(probed, minlength=len(self.centres)))
        rows, items, values = [], [], []
        for centre in np.unique(probed):
            who = asker[order[bounds[centre] : bounds[centre + 1]]]
            members = self.items[self.starts[centre] : self.starts[centre + 1]]
            close = queries[who].astype(np.float32) @ self.vectors[members].astype(np.float32).T
            if skip is not None:
                close[skip[begin + who][:, None] == members[None, :]] = 0.0
            row, column = _top(close, most)
            rows.append(who[row])
            items.append(members[column])
            values.append(close[row, column])
        shape = (len(queries), len(self.vectors))
        found = (np.concatenate(values), (np.concatenate(rows), np.concatenate(items)))
        return keep_heaviest(sp.csr_array(found, shape=shape), most, np.arange(shape[1]))


def _top(values: NDArray[np.float32], most: int) -> tuple[Ints, Ints]:
    """Rows and columns of each row's `most` greatest positive values."""
    if values.shape[1] <= most:
        every_row, every_column = np.nonzero(values > 0)
        return every_row, every_column
    columns = np.argpartition(-values, most - 1, axis=1)[:, :most]
    rows = np.repeat(np.arange(len(values)), most)
    positive = values[rows, columns.ravel()] > 0
    return rows[positive], columns.ravel()[positive]


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
