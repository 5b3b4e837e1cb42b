"""What makes a row of an output table the same row when it is written again.

Sinks key every history table by `row_key`, a hash of the row's identity columns: a shard that is
sent twice, or a bundle that an engine runs again, then changes nothing.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from models.latest import latest_from_lists, merge_latest, tombstones_of

ROW_KEY: Final = "row_key"

#: Table -> its identity columns.
IDENTITY: Final[dict[str, tuple[str, ...]]] = {
    "recommendations": ("user_id", "state_version", "list_hash", "hindsight", "tombstone"),
    "scored_feedback": ("user_id", "event_id", "source_position", "model_version"),
    "trends": ("window_start", "window_end", "subject_kind", "subject"),
    "alerts": ("time", "kind", "subject_kind", "subject"),
    "quality": ("run_id", "check", "window_start", "window_end"),
    "dead_letters": ("source_position", "stage", "error_code", "payload"),
    "quarantine": ("source_position", "stage", "error_code", "payload"),
}


#: Tables whose rows are told anew: of one identity the newest stands (of trends the one with most events).
#: Elsewhere such rows differ in wall-clock times at most, and the first one stands.
TOLD_ANEW: Final = ("trends", "quality")


class Lists(NamedTuple):
    """What a batch of list rows means for the current lists."""

    latest: pa.Table  # recommendations_latest rows: of each user the newest list in the batch
    heads: pa.Table  # (user_id, state_version, list_hash, event_time): one row a user of `latest`
    graves: pa.Table  # (user_id, state_version, event_time): one row an erased user, the highest of each


def row_keys(table: str, rows: pa.Table) -> pa.Array:
    """32 hex digits a row over its identity columns."""
    columns = [rows[name].cast(pa.string()).to_pylist() for name in IDENTITY[table]]
    return pa.array([_hash(values) for values in zip(*columns, strict=True)], pa.string())


def _hash(values: tuple[str | None, ...]) -> str:
    # Lengths go in, so that no two tuples run together; absent differs from empty.
    text = "".join("-" if value is None else f"{len(value)}:{value}" for value in values)
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def keyed(table: str, rows: pa.Table) -> pa.Table:
    """The rows with their `row_key` in front; of those with one key the last."""
    with_keys = rows.add_column(0, pa.field(ROW_KEY, pa.string(), nullable=False), row_keys(table, rows))
    numbered = with_keys.select([ROW_KEY]).append_column("_place", pa.array(range(len(rows)), pa.int64()))
    last = numbered.group_by(ROW_KEY).aggregate([("_place", "max")])
    return with_keys if len(last) == len(rows) else with_keys.take(last["_place_max"].sort())


def lists_of(table: str, rows: pa.Table) -> Lists:
    """The current lists among rows of `recommendations` or `recommendations_latest`."""
    if table == "recommendations":
        current = rows.filter(pc.invert(rows["hindsight"]))
        graves = tombstones_of(current).group_by("user_id")
        highest = graves.aggregate([("state_version", "max"), ("event_time", "max")])
        return _lists(
            latest_from_lists(rows), highest.rename_columns(["user_id", "state_version", "event_time"])
        )
    latest = merge_latest([rows])
    return _lists(latest, no_graves())


def no_graves() -> pa.Table:
    """No grave."""
    time = pa.timestamp("us", tz="UTC")
    return pa.schema(
        [("user_id", pa.string()), ("state_version", pa.int64()), ("event_time", time)]
    ).empty_table()


def _lists(latest: pa.Table, graves: pa.Table) -> Lists:
    # merge_latest leaves one list a user, whose ranks begin with 1.
    first = latest.filter(pc.equal(latest["rank"], 1))
    return Lists(latest, first.select(["user_id", "state_version", "list_hash", "event_time"]), graves)
