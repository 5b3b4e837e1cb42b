"""BERT content: an item is the mean of the embeddings of its texts; int8, exact dot products.

Products of int8 values are summed in float32, which is exact below 2^24: up to 1,040
dimensions of full scale, and far more of unit vectors. So a batch gives what one gives.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.ranking.ann import InvertedLists
from models.ranking.log import InteractionLog, Ints, starts_of
from models.ranking.neighbours import Neighbours

SCALE = 127


@dataclass(frozen=True, slots=True)
class TextVectors:
    """Unit vectors of distinct texts, sorted by hash; int8 of shape (texts, dimension)."""

    hashes: Ints
    vectors: NDArray[np.int8]

    def find(self, hashes: Ints) -> Ints:
        """Row of each hash, -1 where unknown."""
        if not len(self.hashes):
            return np.full(len(hashes), -1, dtype=np.int64)
        at = np.minimum(np.searchsorted(self.hashes, hashes), len(self.hashes) - 1)
        return np.where(self.hashes[at] == hashes, at, -1)


def to_int8(vectors: NDArray[np.float32]) -> NDArray[np.int8]:
    """Rows scaled to length SCALE and rounded; a zero or non-finite row gives zeros."""
    finite = np.nan_to_num(vectors.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    length = np.sqrt(np.einsum("ij,ij->i", finite, finite))
    scale = np.divide(SCALE, length, out=np.zeros_like(length), where=length > 0)
    scaled: NDArray[np.int8] = np.rint(finite * scale[:, None]).astype(np.int8)
    return scaled


def text_vectors(vectors: Iterable[tuple[int, str, bytes]]) -> tuple[TextVectors, list[tuple[str, int]]]:
    """Distinct texts' vectors, and (item_id, row) for texts of the catalogue.

    Each is (text_hash, item_id of a catalogue text or "", float16 unit vector of any one dimension).
    """
    distinct = {(text, item, vector) for text, item, vector in vectors if vector}
    ordered = sorted(distinct)
    hashes = np.array([text for text, _, _ in ordered], dtype=np.int64)
    first = np.flatnonzero(np.r_[True, hashes[1:] != hashes[:-1]]) if len(ordered) else np.zeros(0, np.int64)
    joined = b"".join(ordered[int(row)][2] for row in first)
    shape = (len(first), -1) if len(first) else (0, 1)
    halves = np.frombuffer(joined, dtype="<f2").reshape(shape)
    rows = np.searchsorted(hashes[first], hashes) if len(first) else hashes
    owned = [(item, int(row)) for (_, item, _), row in zip(ordered, rows, strict=True) if item]
    return TextVectors(hashes[first], to_int8(halves.astype(np.float32))), owned


def item_vectors(
    texts: TextVectors, log: InteractionLog, item: Ints, owned: list[tuple[int, int]], items: int
) -> NDArray[np.int8]:
    """The mean of each item's distinct texts' vectors, int8 (items, dimension); zeros without text."""
    speaker = np.repeat(item, np.diff(log.texts.starts))
    row = texts.find(np.asarray(log.texts.values, dtype=np.int64))
    pairs = np.stack([speaker[row >= 0], row[row >= 0]], axis=1)
    pairs = np.unique(np.concatenate([pairs, np.array(owned, dtype=np.int64).reshape(-1, 2)]), axis=0)
    sums = np.zeros((items, texts.vectors.shape[1]), dtype=np.int64)
    np.add.at(sums, pairs[:, 0], texts.vectors[pairs[:, 1]].astype(np.int64))
    return to_int8(sums.astype(np.float64))


def nearest_items(
    queries: NDArray[np.int8], items: NDArray[np.int8], most: int, skip_self: bool, exact_items: int
) -> Neighbours:
    """Each query's `most` nearest items by cosine; values in (0, 1].

    Exact up to `exact_items` items, by inverted lists beyond. With skip_self the queries are
    the items, and none is its own neighbour.
    """
    if len(items) > exact_items:
        skip = np.arange(len(items)) if skip_self else None
        found = InvertedLists.build(items).search(queries, most, skip=skip)
        return Neighbours(found.starts, found.items, found.values / np.float32(SCALE * SCALE))
    return _exactly_nearest(queries, items, most, skip_self)


def _exactly_nearest(
    queries: NDArray[np.int8], items: NDArray[np.int8], most: int, skip_self: bool
) -> Neighbours:
    stored = items.astype(np.float32).T
    most = min(most, max(items.shape[0] - skip_self, 0))
    found, values = [], []
    for begin in range(0, len(queries) if most else 0, 1024):
        product = queries[begin : begin + 1024].astype(np.float32) @ stored
        if skip_self:
            product[np.arange(len(product)), np.arange(begin, begin + len(product))] = -np.inf
        best = np.sort(np.argpartition(-product, most - 1, axis=1)[:, :most], axis=1)
        found.append(best)
        values.append(np.take_along_axis(product, best, axis=1))
    return _positive(len(queries), most, found, values)


def _positive(
    rows: int, most: int, found: list[NDArray[np.int64]], values: list[NDArray[np.float32]]
) -> Neighbours:
    if not found:
        return Neighbours(np.zeros(rows + 1, np.int64), np.zeros(0, np.int32), np.zeros(0, np.float32))
    items = np.concatenate(found)
    cosine = np.concatenate(values) / float(SCALE * SCALE)
    kept = cosine > 0
    return Neighbours(
        starts_of(kept.sum(axis=1)), items[kept].astype(np.int32), cosine[kept].astype(np.float32)
    )
