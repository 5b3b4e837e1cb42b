"""Learns the arrays of an index from a log and a catalogue, all but the fusion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from models.ranking.catalogue import (
    Strings,
    attribute_matrix,
    attribute_names,
    attribute_postings,
    without_common,
)
from models.ranking.config import IndexConfig
from models.ranking.content import TextVectors, item_vectors, nearest_items
from models.ranking.graph import learn_graph
from models.ranking.log import InteractionLog, Ints, Ragged
from models.ranking.neighbours import Neighbours, keep_heaviest, nearest, stack
from models.ranking.statistics import item_statistics, mean_ratings
from models.ranking.words import (
    count_words,
    inverse_document_frequency,
    metadata_words,
    weigh_words,
    word_postings,
)
from models.records import Item, Micros

Arrays = dict[str, NDArray[Any]]
_PAIRS = 50_000_000  # of items that share an attribute, at most
_WORD_PAIRS = 500_000_000  # of items that share a hashed word


@dataclass(frozen=True)
class Knowledge:
    """What does not change between the inner index of the fit and the index itself."""

    items: Sequence[Item]  # sorted by id
    described: Ragged  # hashed words of the metadata
    texts: TextVectors
    owned: list[tuple[int, int]]  # (item, row of texts) of the catalogue's texts
    config: IndexConfig
    clock: Micros


def know(
    items: Sequence[Item],
    texts: TextVectors,
    owned: list[tuple[str, int]],
    config: IndexConfig,
    clock: Micros,
) -> Knowledge:
    """`owned` texts of unknown items count for nothing."""
    place = {item.item_id: number for number, item in enumerate(items)}
    rows = [(place[item_id], row) for item_id, row in owned if item_id in place]
    return Knowledge(items, metadata_words(items), texts, rows, config, clock)


def learn_arrays(log: InteractionLog, item: Ints, known: Knowledge) -> Arrays:
    """All arrays but the static score; `item` maps the log's rows to the catalogue."""
    config, count = known.config, len(known.items)
    arrays: Arrays = item_statistics(item, log.time, log.strength, log.liking, count, known.clock, config)
    arrays["mean_rating"], arrays["rating_count"] = mean_ratings(item, log.rating, count)
    tie_rank = np.empty(count, dtype=np.int64)
    tie_rank[np.argsort(-arrays["popularity"], kind="stable")] = np.arange(count)
    arrays |= _graph_arrays(log, item, count, config, tie_rank)
    arrays |= _word_arrays(log, item, known, tie_rank)
    arrays |= _attribute_arrays(known, arrays["trend"], tie_rank)
    arrays |= _content_arrays(log, item, known)
    arrays |= _topic_arrays(log, item, arrays["popularity"], config, tie_rank)
    return arrays | _alike_arrays(arrays, tie_rank)


_ALIKE_LEAST = 1.2  # times what an item's nearest neighbour has on average
_ALIKE_MOST = 2.0  # twins
_ALIKE_ITEMS = 16


def _alike_arrays(arrays: Arrays, tie_rank: Ints) -> Arrays:
    """Which items are much alike, and how much in (0, 1], for diversity."""
    for name in ("words", "content", "attributes_near"):
        near = Neighbours.stored(name, arrays)
        if near is not None and len(near.items):
            matrix = _matrix(near, near.rows)
            matrix.data = np.where(matrix.data >= _ALIKE_LEAST, np.minimum(matrix.data, _ALIKE_MOST), 0.0)
            matrix.data /= _ALIKE_MOST
            return keep_heaviest(matrix, _ALIKE_ITEMS, tie_rank).arrays("alike")
    return {}


def catalogue_arrays(items: Sequence[Item]) -> Arrays:
    """What the catalogue says, as columns."""
    price = np.array([np.nan if item.price is None else item.price for item in items], dtype=np.float64)
    return {
        **Strings.of([item.item_id for item in items]).arrays("item_ids"),
        **Strings.of([item.title for item in items]).arrays("titles"),
        "available": np.array([item.available for item in items], dtype=bool),
        "price": price,
    }


def _graph_arrays(log: InteractionLog, item: Ints, count: int, config: IndexConfig, tie_rank: Ints) -> Arrays:
    both, forward = learn_graph(log.user, item, log.strength, count, config)
    graph = keep_heaviest(both, config.neighbours, tie_rank)
    arrays = {
        **graph.relative().arrays("graph"),
        **keep_heaviest(forward, config.neighbours, tie_rank).relative().arrays("forward"),
    }
    near = _matrix(keep_heaviest(both, config.two_hop_width(count), tie_rank), count)
    blocks = [
        keep_heaviest(sp.csr_array(near[begin : begin + 4096] @ near), config.neighbours, tie_rank)
        for begin in range(0, count, 4096)
    ]
    return arrays | stack(blocks).relative().arrays("two_hops")


def _matrix(rows: Neighbours, columns: int) -> sp.csr_array:
    return sp.csr_array((rows.values.astype(np.float64), rows.items, rows.starts), shape=(rows.rows, columns))


def _word_arrays(log: InteractionLog, item: Ints, known: Knowledge, tie_rank: Ints) -> Arrays:
    config, count = known.config, len(known.items)
    counts = count_words(log, item, known.described, count)
    idf = inverse_document_frequency(counts)
    arrays: Arrays = {"idf": idf}
    if counts.nnz:
        unit = weigh_words(counts, idf, config.words_per_item)
        telling = without_common(unit, _WORD_PAIRS)
        arrays |= nearest(telling, config.neighbours, tie_rank).relative().arrays("words")
        arrays |= word_postings(unit, config.postings, tie_rank).relative().arrays("postings")
    return arrays


def _attribute_arrays(known: Knowledge, trend: NDArray[np.float64], tie_rank: Ints) -> Arrays:
    config = known.config
    names = sorted({name for item in known.items for name in attribute_names(item)})
    arrays: Arrays = Strings.of(names).arrays("attributes")
    category = [item.category.strip().casefold() for item in known.items]
    place = {name: row for row, name in enumerate(names)}
    arrays["category_of"] = np.array([place.get(name, -1) for name in category], dtype=np.int64)
    if names:
        unit = attribute_matrix(known.items, names)
        weight = (trend + 1e-6) / (trend.max() + 1e-6)
        arrays |= (
            nearest(without_common(unit, _PAIRS), config.neighbours, tie_rank)
            .relative()
            .arrays("attributes_near")
        )
        arrays |= (
            attribute_postings(unit, weight, config.postings, tie_rank)
            .relative()
            .arrays("attribute_postings")
        )
        if any(category):
            arrays |= (
                _category(arrays["category_of"], trend, len(names), config, tie_rank)
                .relative()
                .arrays("category")
            )
    return arrays


def _category(
    category: Ints, trend: NDArray[np.float64], rows: int, config: IndexConfig, tie_rank: Ints
) -> Neighbours:
    """From a category to its trending items, by their share of its most trending one's."""
    inside = np.flatnonzero((category >= 0) & (trend > 0))
    most = np.zeros(rows)
    np.maximum.at(most, category[inside], trend[inside])
    share = trend[inside] / most[category[inside]]
    matrix = sp.csr_array((share, (category[inside], inside)), shape=(rows, len(category)))
    return keep_heaviest(matrix, config.neighbours, tie_rank)


def _content_arrays(log: InteractionLog, item: Ints, known: Knowledge) -> Arrays:
    config = known.config
    if not len(known.texts.hashes):
        return {}
    vectors = item_vectors(known.texts, log, item, known.owned, len(known.items))
    asked = np.unique(log.queries.text_hash)
    row = known.texts.find(asked)
    texts = known.texts.vectors[row[row >= 0]]
    return {
        "vectors": vectors,
        "query_hashes": asked[row >= 0],
        **nearest_items(vectors, vectors, config.neighbours, True, config.exact_items)
        .relative()
        .arrays("content"),
        **nearest_items(texts, vectors, config.query_texts, False, config.exact_items)
        .relative()
        .arrays("query_texts"),
    }


def _topic_arrays(
    log: InteractionLog, item: Ints, popularity: NDArray[np.float64], config: IndexConfig, tie_rank: Ints
) -> Arrays:
    """From a topic to what users fond of it like more than others do: n(topic, item) / sqrt(popularity)."""
    arrays = Strings.of(log.topics).arrays("topic_names")
    fond = log.affinities.affinity > 0
    if not fond.any():
        return arrays
    shape = (len(log.user_ids), len(log.topics))
    unit = 1024.0  # integers, so that the sums are exact
    affinity = np.rint(log.affinities.affinity[fond] * unit)
    topics = sp.csr_array((affinity, (log.affinities.user[fond], log.affinities.topic[fond])), shape=shape)
    value = np.rint(np.where(log.liking > 0, log.strength * log.liking, 0.0) * unit)
    liked = sp.csr_array((value, (log.user, item)), shape=(len(log.user_ids), len(popularity)))
    together = sp.csr_array(topics.T @ liked) / (unit * unit)
    together.data = together.data / np.sqrt(1.0 + popularity[together.indices])
    return arrays | keep_heaviest(sp.csr_array(together), config.neighbours, tie_rank).relative().arrays(
        "topics"
    )
