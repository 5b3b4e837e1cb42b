"""The current list of every user, derived from list versions: a merge in which stale never wins.

`merge_latest` is a join: it commutes, associates and repeats without effect, so retries, replays
and several writers end with the same table.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from models.records import TopK
from models.table_columns import table_from_records
from models.tables import SCHEMAS

_LATEST: Final = SCHEMAS["recommendations_latest"]
_LIST_COLUMNS: Final = tuple(name for name in _LATEST.names if name in SCHEMAS["recommendations"].names)
_GRAVES: Final = pa.schema(
    [("user_id", pa.string()), ("state_version", pa.int64()), ("event_time", pa.timestamp("us", tz="UTC"))]
)


def latest_rows(top: TopK) -> list[dict[str, object]]:
    """The rows of one list as dicts: one a rank; none for a tombstone."""
    lists = table_from_records("recommendations", [top])
    rows: list[dict[str, object]] = latest_from_lists(lists).to_pylist()
    return rows


def latest_from_lists(lists: pa.Table) -> pa.Table:
    """The `recommendations_latest` rows of `recommendations` rows, in (user_id, rank) order."""
    current = lists.filter(pc.invert(lists["hindsight"]))
    return merge_latest([explode_lists(current)], tombstones_of(current))


def explode_lists(lists: pa.Table) -> pa.Table:
    """One row per list and rank, stale versions included."""
    items = lists["items"].combine_chunks()
    items = items.chunk(0) if isinstance(items, pa.ChunkedArray) and items.num_chunks else items
    if len(lists) == 0:
        return _LATEST.empty_table()
    repeated = lists.select(_LIST_COLUMNS).take(pc.list_parent_indices(items))
    flat = dict(zip(("rank", "item_id", "score", "reasons"), pc.list_flatten(items).flatten(), strict=True))
    columns = [flat[name] if name in flat else repeated[name] for name in _LATEST.names]
    return pa.Table.from_arrays(columns, schema=_LATEST)


def tombstones_of(lists: pa.Table) -> pa.Table:
    """(user_id, state_version, event_time: erased up to here) of the tombstones among list rows."""
    return lists.filter(lists["tombstone"]).select(_GRAVES.names).cast(_GRAVES)


def merge_latest(parts: list[pa.Table], tombstones: pa.Table | None = None) -> pa.Table:
    """Of each user the rows with the highest state_version, in (user_id, rank) order.

    A tombstone removes the user's rows up to its version, and whatever a later replay makes of
    feedback that it has erased. Should two lists carry one version, the higher list_hash stands,
    so that the order of parts never matters.
    """
    rows = pa.concat_tables([_LATEST.empty_table(), *(part.select(_LATEST.names) for part in parts)])
    graves = _GRAVES.empty_table() if tombstones is None else tombstones
    if len(rows) == 0:
        return rows
    standing = rows.filter(pa.array(_standing(rows, graves)))
    keys = ("user_id", "rank")
    return _first_of_each(standing.sort_by([(key, "ascending") for key in keys]), keys)


def _standing(rows: pa.Table, graves: pa.Table) -> npt.NDArray[np.bool_]:
    users = pa.chunked_array([*rows["user_id"].chunks, *graves["user_id"].chunks], pa.string())
    codes = pc.rank(users, tiebreaker="dense").to_numpy().astype(np.int64) - 1
    mine, theirs = codes[: len(rows)], codes[len(rows) :]
    alive = np.ones(len(rows), np.bool_)
    for name in ("state_version", "event_time"):
        buried = np.full(codes.max(initial=-1) + 1, np.iinfo(np.int64).min)
        np.maximum.at(buried, theirs, _integers(graves[name]))
        alive &= _integers(rows[name]) > buried[mine]
    versions = np.where(alive, _integers(rows["state_version"]), np.iinfo(np.int64).min)
    best = np.full(codes.max(initial=-1) + 1, np.iinfo(np.int64).min)
    np.maximum.at(best, mine, versions)
    highest = alive & (versions == best[mine])
    hashes = pc.rank(rows["list_hash"], tiebreaker="dense").to_numpy().astype(np.int64)
    best_hash = np.full(len(best), -1, np.int64)
    np.maximum.at(best_hash, mine[highest], hashes[highest])
    standing: npt.NDArray[np.bool_] = highest & (hashes == best_hash[mine])
    return standing


def _integers(column: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    numbers: npt.NDArray[np.int64] = column.cast(pa.int64()).to_numpy()
    return numbers


def without_repeats(lists: pa.Table) -> pa.Table:
    """Sorted `recommendations` rows without those that stand twice, as a bundle tried again leaves them."""
    return _first_of_each(lists, ("user_id", "state_version", "list_hash", "hindsight", "tombstone"))


def _first_of_each(rows: pa.Table, keys: tuple[str, ...]) -> pa.Table:
    if len(rows) < 2:
        return rows
    first = np.zeros(len(rows), np.bool_)
    first[0] = True
    for key in keys:
        first[1:] |= pc.not_equal(rows[key][1:], rows[key][:-1]).to_numpy()
    return rows if first.all() else rows.filter(pa.array(first))
