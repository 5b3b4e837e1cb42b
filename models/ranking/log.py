"""What the index learns from: every user's interactions and queries, columnar and in canonical order.

A partition of users is encoded to one blob of Arrow IPC; merging sorts by (time, newest
event_id, user_id), a total order, so that any partitioning in any order gives the same
arrays, byte for byte.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from models.records import Micros
from models.views import Interaction, Query, UserView

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Ragged:
    """Rows of different lengths: row i is `values[starts[i]:starts[i + 1]]`; starts has rows + 1 numbers."""

    starts: Ints
    values: NDArray[Any]

    def __len__(self) -> int:
        return len(self.starts) - 1

    def take(self, rows: Ints) -> Ragged:
        """The given rows, in the given order."""
        positions, lengths = spans(self.starts, rows)
        return Ragged(starts_of(lengths), self.values[positions])


def starts_of(lengths: Ints) -> Ints:
    """Where rows of these lengths start when laid end to end, and where the last one ends."""
    starts = np.zeros(len(lengths) + 1, dtype=np.int64)
    lengths.cumsum(out=starts[1:])
    return starts


def spans(starts: Ints, rows: Ints) -> tuple[Ints, Ints]:
    """Positions of the values of `rows`, end to end, and each row's length."""
    begin = starts[rows]
    lengths = starts[rows + 1] - begin
    ends = lengths.cumsum()
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total) + (begin - (ends - lengths)).repeat(lengths), lengths


def sums(place: Ints, values: Floats, size: int) -> Floats:
    """Sums of `values` by `place`, added in the order given; shape (size,)."""
    return np.asarray(np.bincount(place, weights=values, minlength=size), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class QueryLog:
    """Queries in the order (time, event_id, user_id)."""

    user: Ints  # position in `InteractionLog.user_ids`
    time: Ints  # microseconds
    words: Ragged  # uint16
    text_hash: Ints


@dataclass(frozen=True, slots=True)
class TopicLog:
    """Users' affinities to topics, sorted by (user, topic)."""

    user: Ints
    topic: Ints  # position in `InteractionLog.topics`
    affinity: Floats  # [-1, 1]


@dataclass(frozen=True, slots=True)
class InteractionLog:
    """All interactions, one row each, in the order (time, newest event_id, user_id)."""

    user_ids: tuple[str, ...]  # sorted; includes users without interactions
    item_ids: tuple[str, ...]  # sorted; every item that is mentioned
    topics: tuple[str, ...]  # sorted
    user: Ints  # position in user_ids
    item: Ints  # position in item_ids
    time: Ints  # microseconds
    strength: Floats  # [0, 1]
    liking: Floats  # [-1, 1]
    rating: Floats  # NaN without one
    conflict: NDArray[np.bool_]
    words: Ragged  # uint16, hashed words
    texts: Ragged  # int64, text hashes
    queries: QueryLog
    affinities: TopicLog

    def __len__(self) -> int:
        return len(self.user)

    @property
    def newest_time(self) -> Micros:
        """The newest interaction or query; 0 when there is none."""
        times = [int(column.max()) for column in (self.time, self.queries.time) if len(column)]
        return max(times, default=0)

    def keep(self, rows: Ints) -> InteractionLog:
        """The same log with only these interactions (ascending), users and items as they are."""
        return InteractionLog(
            self.user_ids, self.item_ids, self.topics,
            self.user[rows], self.item[rows], self.time[rows], self.strength[rows], self.liking[rows],
            self.rating[rows], self.conflict[rows], self.words.take(rows), self.texts.take(rows),
            self.queries, self.affinities,
        )  # fmt: skip


_INTERACTION = pa.struct(
    [
        ("item", pa.string()), ("event_id", pa.string()), ("time", pa.int64()), ("strength", pa.float64()),
        ("liking", pa.float64()), ("rating", pa.float64()), ("conflict", pa.bool_()),
        ("words", pa.binary()), ("texts", pa.list_(pa.int64())),
    ]
)  # fmt: skip
_QUERY = pa.struct(
    [("event_id", pa.string()), ("time", pa.int64()), ("words", pa.binary()), ("text_hash", pa.int64())]
)
_TOPIC = pa.struct([("topic", pa.string()), ("affinity", pa.float64())])
_SCHEMA = pa.schema(
    [
        ("user", pa.string()), ("interactions", pa.large_list(_INTERACTION)),
        ("queries", pa.large_list(_QUERY)), ("topics", pa.large_list(_TOPIC)),
        ("mentioned", pa.large_list(pa.string())),
    ]
)  # fmt: skip


def encode_log(views: Sequence[UserView]) -> bytes:
    """One partition of users, as an Arrow IPC stream; each user is in one partition only."""
    interactions = [one for view in views for one in view.interactions]
    queries = [one for view in views for one in view.queries]
    topics = [one for view in views for one in view.topics]
    mentioned = pa.array([one for view in views for one in view.mentioned], pa.string())
    table = pa.Table.from_arrays(
        [
            pa.array([view.user_id for view in views], pa.string()),
            _nested(views, lambda view: len(view.interactions), _interactions(interactions)),
            _nested(views, lambda view: len(view.queries), _queries(queries)),
            _nested(views, lambda view: len(view.topics), _topics(topics)),
            _nested(views, lambda view: len(view.mentioned), mentioned),
        ],
        schema=_SCHEMA,
    )
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, _SCHEMA) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def _nested(views: Sequence[UserView], length: Callable[[UserView], int], values: pa.Array) -> pa.Array:
    lengths = np.fromiter(map(length, views), dtype=np.int64, count=len(views))
    return pa.LargeListArray.from_arrays(pa.array(starts_of(lengths)), values)


def _interactions(rows: Sequence[Interaction]) -> pa.Array:
    lengths = np.fromiter((len(row.text_hashes) for row in rows), dtype=np.int64, count=len(rows))
    hashes = pa.array([one for row in rows for one in row.text_hashes], pa.int64())
    columns = [
        pa.array([row.item_id for row in rows], pa.string()),
        pa.array([row.event_ids[-1] for row in rows], pa.string()),
        pa.array([row.time for row in rows], pa.int64()),
        pa.array([row.strength for row in rows], pa.float64()),
        pa.array([row.liking for row in rows], pa.float64()),
        pa.array([row.rating for row in rows], pa.float64()),
        pa.array([row.conflict for row in rows], pa.bool_()),
        pa.array([row.words for row in rows], pa.binary()),
        pa.ListArray.from_arrays(pa.array(starts_of(lengths).astype(np.int32)), hashes),
    ]
    return pa.StructArray.from_arrays(columns, fields=list(_INTERACTION))


def _queries(rows: Sequence[Query]) -> pa.Array:
    columns = [
        pa.array([row.event_id for row in rows], pa.string()),
        pa.array([row.time for row in rows], pa.int64()),
        pa.array([row.words for row in rows], pa.binary()),
        pa.array([row.text_hash for row in rows], pa.int64()),
    ]
    return pa.StructArray.from_arrays(columns, fields=list(_QUERY))


def _topics(rows: Sequence[tuple[str, float]]) -> pa.Array:
    columns = [
        pa.array([name for name, _ in rows], pa.string()),
        pa.array([affinity for _, affinity in rows], pa.float64()),
    ]
    return pa.StructArray.from_arrays(columns, fields=list(_TOPIC))


def merge_logs(blobs: Iterable[bytes]) -> InteractionLog:
    """The log of all partitions; the same whatever the partitions and their order were."""
    tables = [_SCHEMA.empty_table(), *(pa.ipc.open_stream(blob).read_all() for blob in blobs)]
    table = pa.concat_tables(tables).combine_chunks()
    users, user_ids = _codes(_flat(table["user"]))
    interactions, owner = _rows(table["interactions"], users)
    queries, query_owner = _rows(table["queries"], users)
    topics, topic_owner = _rows(table["topics"], users)
    mentioned = _flat(table["mentioned"]).flatten()
    items, item_ids = _codes(interactions.field("item"), mentioned)
    topic, topic_names = _codes(topics.field("topic"))
    order = _canonical_order(interactions, owner)
    return InteractionLog(
        user_ids=user_ids,
        item_ids=item_ids,
        topics=topic_names,
        user=owner[order],
        item=items[order],
        time=_ints(interactions, "time")[order],
        strength=_floats(interactions, "strength")[order],
        liking=_floats(interactions, "liking")[order],
        rating=_floats(interactions, "rating")[order],
        conflict=np.asarray(interactions.field("conflict").to_numpy(zero_copy_only=False), dtype=bool)[order],
        words=_words(interactions).take(order),
        texts=_lists(interactions.field("texts")).take(order),
        queries=_query_log(queries, query_owner),
        affinities=_topic_log(topics, topic_owner, topic),
    )


def _query_log(rows: pa.StructArray, owner: Ints) -> QueryLog:
    order = _canonical_order(rows, owner)
    return QueryLog(
        owner[order], _ints(rows, "time")[order], _words(rows).take(order), _ints(rows, "text_hash")[order]
    )


def _topic_log(rows: pa.StructArray, owner: Ints, topic: Ints) -> TopicLog:
    order = np.lexsort((topic, owner))
    return TopicLog(owner[order], topic[order], _floats(rows, "affinity")[order])


def _canonical_order(rows: pa.StructArray, owner: Ints) -> Ints:
    keys = pa.table({"time": rows.field("time"), "event_id": rows.field("event_id"), "user": pa.array(owner)})
    by = [("time", "ascending"), ("event_id", "ascending"), ("user", "ascending")]
    return np.asarray(pc.sort_indices(keys, sort_keys=by).to_numpy(), dtype=np.int64)


def _codes(strings: pa.Array, others: pa.Array | None = None) -> tuple[Ints, tuple[str, ...]]:
    """Each string's position among the sorted distinct ones, `others` included, and these."""
    names = pc.unique(strings if others is None else pa.concat_arrays([strings, others]))
    names = names.take(pc.sort_indices(names))
    codes = pc.index_in(strings, value_set=names)
    return np.asarray(codes.to_numpy(zero_copy_only=False), dtype=np.int64), tuple(names.to_pylist())


def _rows(lists: pa.ChunkedArray, users: Ints) -> tuple[pa.StructArray, Ints]:
    column = _flat(lists)
    offsets: Ints = np.asarray(column.offsets.to_numpy(), dtype=np.int64)
    lengths = offsets[1:] - offsets[:-1]
    return column.flatten(), np.repeat(users, lengths)


def _flat(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks else pa.array([], type=column.type)


def _ints(rows: pa.StructArray, name: str) -> Ints:
    return np.asarray(rows.field(name).to_numpy(zero_copy_only=False), dtype=np.int64)


def _floats(rows: pa.StructArray, name: str) -> Floats:
    return np.asarray(rows.field(name).to_numpy(zero_copy_only=False), dtype=np.float64)


def _words(rows: pa.StructArray) -> Ragged:
    column = rows.field("words")
    lengths = np.asarray(pc.binary_length(column).to_numpy(zero_copy_only=False), dtype=np.int64) // 2
    joined = b"".join(column.to_pylist())
    return Ragged(starts_of(lengths), np.frombuffer(joined, dtype="<u2"))


def _lists(column: pa.ListArray) -> Ragged:
    offsets = np.asarray(column.offsets.to_numpy(), dtype=np.int64)
    return Ragged(offsets - offsets[0], np.asarray(column.flatten().to_numpy(), dtype=np.int64))
