"""What a job's own tables tell of its users, for an index that is learned where input cannot be read again.

The rows of `scored_feedback` hold who did what when, the stars and how the words were read, but neither
words nor vectors, nor what was retracted: such an index knows the behaviour, and the words of the catalogue.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from models.errors import InputError
from models.records import KIND_CODES, Micros
from models.state import CompactEvent, CompactScore, join
from models.views import UserView, accepted_events, view_events
from pipeline.config import JobConfig
from pipeline.job import view_policy
from pipeline.tables.output_folder import parquet_files
from pipeline.tables.reader import read_table

_TABLE: Final = "scored_feedback"
_COLUMNS: Final = [
    "event_id", "user_id", "kind", "item_id", "event_time", "rating",
    "polarity", "intensity", "confidence", "topics", "intent", "model_version",
]  # fmt: skip


def views_of_tables(config: JobConfig) -> tuple[list[UserView], Micros]:
    """Everybody's feedback on items as the tables tell it, by user_id, and the newest event_time; 0 without.

    A row that was written twice counts once, the later one of an event that was edited; who was erased is
    not there.
    """
    erased = _erased(config.output)
    events: dict[str, list[CompactEvent]] = defaultdict(list)
    rows = _rows(config.output, _TABLE, pc.field("item_id").is_valid(), _COLUMNS)
    for number, row in enumerate(rows):
        event = _event(row, number)
        if event.event_time > erased.get(row["user_id"], -1):
            events[row["user_id"]].append(event)
    states = {user_id: join(told, config.state.max_events) for user_id, told in events.items()}
    policy, ttl = view_policy(config), config.state.ttl_micros
    clock = max((time for state in states.values() for time, _ in state.events), default=0)
    views = [
        view_events(user_id, accepted_events(states[user_id], policy, clock, ttl), policy)
        for user_id in sorted(states)
    ]
    return views, clock


def told_bytes(output: Path) -> int:
    """How much those tables hold now: with more of it there may be more to learn."""
    tables = (_TABLE, "recommendations")
    return sum(_size(path) for table in tables for path in parquet_files(output / table))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # replaced meanwhile
        return 0


def _erased(output: str) -> dict[str, Micros]:
    """User -> the newest time up to which feedback is void."""
    erased: dict[str, Micros] = {}
    for row in _rows(output, "recommendations", pc.field("tombstone"), ["user_id", "event_time"]):
        erased[row["user_id"]] = max(row["event_time"], erased.get(row["user_id"], -1))
    return erased


def _rows(output: str, table: str, wanted: pc.Expression, columns: list[str]) -> list[dict[str, Any]]:
    """Rows with times in microseconds; none where there is no table yet."""
    try:
        read = read_table(output, table, wanted, columns)
    except InputError:
        return []
    place = read.schema.get_field_index("event_time")
    rows: list[dict[str, Any]] = read.set_column(
        place, "event_time", read["event_time"].cast(pa.int64())
    ).to_pylist()
    return rows


def _event(row: Mapping[str, Any], number: int) -> CompactEvent:
    """The event of a row; of two rows of one event the later one stands."""
    return CompactEvent(
        event_time=row["event_time"],
        event_id=row["event_id"],
        retracted=False,
        revision=number,
        content_hash=0,
        score=_score(row) if row["polarity"] is not None else None,
        kind=KIND_CODES[row["kind"]],
        item_id=row["item_id"],
        rating=row["rating"],
        value=None,
        text_hash=0,
        text_length=0,
        words=b"",
        attributes=(),
    )


def _score(row: Mapping[str, Any]) -> CompactScore:
    polarity, intensity, confidence = (
        round(row[name] * 10_000) for name in ("polarity", "intensity", "confidence")
    )
    topics = tuple((topic["name"], round(topic["score"] * 1_000)) for topic in row["topics"] or ())
    return CompactScore(
        row["model_version"] or "", polarity, intensity, confidence, topics, row["intent"] or ""
    )
