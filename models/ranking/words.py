"""Items' hashed words: log-tf x idf over metadata and reviews, cut to each item's heaviest."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp

from models.ranking.log import Floats, InteractionLog, Ints, Ragged, starts_of
from models.ranking.neighbours import UNIT, Neighbours, keep_heaviest, unit_rows
from models.records import Item
from models.text import WORD_BUCKETS, word_ids

_TITLE_COUNTS = 3  # a word of the title counts as often


def metadata_words(items: Sequence[Item]) -> Ragged:
    """Hashed words of each item's title (three times), description, category and tags."""
    rows = [_item_words(item) for item in items]
    lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
    values = np.concatenate(rows) if rows else np.zeros(0, dtype=np.uint16)
    return Ragged(starts_of(lengths), values)


def _item_words(item: Item) -> np.ndarray[tuple[int], np.dtype[np.uint16]]:
    title = word_ids(item.title)
    rest = word_ids(" ".join((item.description, item.category, *item.tags)))
    return np.concatenate([*([title] * _TITLE_COUNTS), rest])


def count_words(log: InteractionLog, item: Ints, described: Ragged, items: int) -> sp.csr_array:
    """How often each word was used of each item, (items, WORD_BUCKETS); `item` maps the log's rows."""
    spoken = np.repeat(item, np.diff(log.words.starts))
    told = np.repeat(np.arange(len(described)), np.diff(described.starts))
    row = np.concatenate([spoken, told])
    word = np.concatenate([log.words.values, described.values]).astype(np.int64)
    ones = np.ones(len(row))
    return sp.csr_array((ones, (row, word)), shape=(items, WORD_BUCKETS))


def inverse_document_frequency(counts: sp.csr_array) -> Floats:
    """log((1 + items with words) / (1 + items with this word)), shape (WORD_BUCKETS,), >= 0."""
    with_word = np.bincount(counts.indices, minlength=counts.shape[1])
    with_words = int(np.count_nonzero(np.diff(counts.indptr)))
    return np.asarray(np.log((1.0 + with_words) / (1.0 + with_word)), dtype=np.float64)


def weigh_words(counts: sp.csr_array, idf: Floats, most: int) -> sp.csr_array:
    """Integer unit rows (see `unit_rows`) of log(1 + tf) x idf, each item's `most` heaviest words."""
    weights = counts.copy()
    weights.data = np.log1p(weights.data) * idf[weights.indices]
    heaviest = keep_heaviest(weights, most, np.arange(counts.shape[1]))
    shape = counts.shape
    return unit_rows(
        sp.csr_array((heaviest.values.astype(np.float64), heaviest.items, heaviest.starts), shape=shape)
    )


def word_postings(unit: sp.csr_array, most: int, tie_rank: Ints) -> Neighbours:
    """From a word to the items it says most about; values are the items' unit weights in (0, 1]."""
    postings = unit.T.tocsr()
    postings.data = postings.data.astype(np.float64) / UNIT
    return keep_heaviest(sp.csr_array(postings), most, tie_rank)
