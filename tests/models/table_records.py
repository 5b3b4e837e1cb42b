"""Records for the tests of tables."""

from __future__ import annotations

from collections.abc import Sequence

import duckdb

from models.lists import list_hash
from models.records import MICROS_PER_SECOND, DeadLetter, Micros, RankedItem, Reason, TextScore, TopK
from models.tables import QualityRow, ScoredRow

NOON = 1_700_000_000 * MICROS_PER_SECOND


def top_k(
    user_id: str,
    version: int,
    items: Sequence[str] = ("apron", "boots"),
    *,
    tombstone: bool = False,
    hindsight: bool = False,
) -> TopK:
    """A list of `items` with a reason each; none for a tombstone."""
    ranked = tuple(
        RankedItem(rank, item, 1.0 / rank, (Reason("also_liked", ("e1", "e2"), 0.25, f"you liked {item}"),))
        for rank, item in enumerate(() if tombstone else items, start=1)
    )
    return TopK(
        user_id=user_id,
        state_version=version,
        items=ranked,
        event_time=NOON + version,  # newer feedback makes newer versions
        scored_time=None,
        emitted_time=NOON + 1,
        window_end=None,
        model_version="model-1",
        index_version="index-1",
        trigger_event_ids=("e2",),
        list_hash=list_hash(ranked),
        tombstone=tombstone,
        hindsight=hindsight,
    )


def scored(
    event_id: str,
    user_id: str = "ann",
    polarity: float | None = 0.5,
    *,
    item_id: str | None = "apron",
    event_time: Micros = NOON,
    rating: float | None = 5.0,
    weight: float | None = 0.4,
    conflict: bool = False,
) -> ScoredRow:
    """A review; `polarity` None stands for an event without words."""
    score = None
    if polarity is not None:
        sentiment = ((1 - polarity) / 2, 0.0, (1 + polarity) / 2)
        score = TextScore(
            sentiment, polarity, 0.7, 0.9, (("quality", 0.8),), "complaint", (), "en", "model-1"
        )
    return ScoredRow(
        event_id, user_id, "review", item_id, event_time, rating, score, weight, conflict, f"f:{event_id}"
    )


def dead_letter(position: str, code: str = "invalid_json") -> DeadLetter:
    """A rejected line."""
    return DeadLetter("parse", code, "expected JSON", "{oops", position, NOON)


ACCOUNTING = [QualityRow("accounting.input", 3.0), QualityRow("accounting.accepted", 3.0, threshold=3.0)]


def query(sql: str) -> list[tuple[object, ...]]:
    """What DuckDB answers."""
    with duckdb.connect() as connection:
        return [tuple(row) for row in connection.execute(sql).fetchall()]
