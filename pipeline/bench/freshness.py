"""How fresh lists were: from the event's own time to the row that shows it, read from the tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

QUANTILES = (0.5, 0.95, 0.99)


@dataclass(frozen=True, slots=True)
class Freshness:
    """Seconds from event to written row, of behaviour and of words."""

    behaviour: Sequence[float]  # sorted
    texts: Sequence[float]  # sorted; to the list that knows the score


def quantiles(ages: Sequence[float]) -> tuple[float, ...]:
    """p50, p95 and p99 of sorted ages; empty without any."""
    return tuple(ages[min(len(ages) - 1, int(place * len(ages)))] for place in QUANTILES) if ages else ()


def read_freshness(output: Path, begin: float, end: float) -> Freshness:
    """Of the events of [begin, end), seconds since 1970: the first list after each, as far as one came.

    A list that would show nothing new is held back, so not every event has one.
    """
    words = _events(output, begin, end)
    behaviour: dict[str, float] = {}
    texts: dict[str, float] = {}
    columns = ["trigger_event_ids", "scored_time", "written_time"]
    for path in sorted((output / "recommendations").glob("*.parquet")):
        for row in pq.read_table(path, columns=columns, partitioning=None).to_pylist():
            if row["written_time"] is None:
                continue
            written = row["written_time"].timestamp()
            scored = row["scored_time"].timestamp() if row["scored_time"] else 0.0
            for event_id in row["trigger_event_ids"]:
                _note(event_id, written, scored, words, behaviour, texts)
    return Freshness(sorted(behaviour.values()), sorted(texts.values()))


def _note(
    event_id: str,
    written: float,
    scored: float,
    events: Mapping[str, tuple[float, bool]],
    behaviour: dict[str, float],
    texts: dict[str, float],
) -> None:
    if event_id not in events:
        return
    at, has_words = events[event_id]
    behaviour[event_id] = min(written - at, behaviour.get(event_id, float("inf")))
    if has_words and scored >= at:
        texts[event_id] = min(written - at, texts.get(event_id, float("inf")))


def _events(output: Path, begin: float, end: float) -> dict[str, tuple[float, bool]]:
    """event_id -> (its time, whether it has words)."""
    columns = ["event_id", "event_time", "polarity"]
    tables = (
        pq.read_table(path, columns=columns, partitioning=None)
        for path in sorted((output / "scored_feedback").glob("*.parquet"))
    )
    rows = (row for table in tables for row in table.to_pylist())
    found = ((row["event_id"], row["event_time"].timestamp(), row["polarity"] is not None) for row in rows)
    return {event_id: (at, words) for event_id, at, words in found if begin <= at < end}


def in_words(ages: Iterable[float]) -> str:
    """`p50=0.12 p95=0.30 p99=0.41`."""
    names = (f"p{place * 100:.0f}" for place in QUANTILES)
    return " ".join(f"{name}={age:.2f}" for name, age in zip(names, ages, strict=False))
