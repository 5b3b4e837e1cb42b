"""A run at a glance: its books, how its lists were refreshed, tone by topic, alerts, what was rejected."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from models.accounting import CHECK_PREFIX, DEAD_LETTERED, QUARANTINED, Accounting, from_rows
from models.errors import ERROR_CODES
from models.tables import TABLES
from pipeline.tables.output_folder import RECEIPT_FILE, parquet_files
from pipeline.ui.tables import Tables, time_text

Json = dict[str, Any]

_QUANTILES: Final = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
_RECENT: Final = timedelta(minutes=5)  # of an endless run: freshness is of the lists written in it
_STEPS: Final = (1, 5, 10, 30, 60, 300, 900, 3600, 21_600, 86_400, 604_800)  # seconds of a bar
_BARS: Final = 60
_FILES: Final = 4_096  # whose summary is remembered
_TOPICS: Final = 16
_SPANS: Final = 60
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_ALERTS: Final = 50


def overview(tables: Tables) -> Json:
    """Everything of the overview. What is dear is computed again only when its tables have changed."""
    published = tables.published()
    return {
        **standing(tables),
        "accounting": tables.kept("books", ["quality"], lambda: _accounting(tables), str(published)),
        "lists": tables.kept("lists", ["recommendations"], lambda: _lists(tables)),
        "freshness": tables.kept("freshness", ["recommendations"], lambda: _freshness(tables)),
        "topics": tables.kept("topics", ["trends"], lambda: _topics(tables)),
        "alerts": tables.kept("alerts", ["alerts"], lambda: _alerts(tables)),
        "rejects": tables.kept("rejects", ["dead_letters", "quarantine"], lambda: _rejects(tables)),
        "rows": {name: _count(tables, name) for name in TABLES},
    }


def standing(tables: Tables) -> Json:
    """Which run published the tables last, and when."""
    published = tables.published()
    return {
        "output": str(tables.output),
        "tables": tables.exist(),
        "run_id": None if published is None else published.run_id,
        "endless": published is not None and published.publication != published.run_id,
        "published_time": _published_time(tables.output),
    }


def _published_time(output: Path) -> str | None:
    try:
        written = (output / RECEIPT_FILE).stat().st_mtime
    except FileNotFoundError:
        return None
    return time_text(datetime.fromtimestamp(written, UTC))


def _accounting(tables: Tables) -> Json | None:
    """The sums of the run that was published last; of an endless one that goes on, of its windows so far."""
    wanted = pc.starts_with(pc.field("check"), CHECK_PREFIX)
    rows = tables.rows("quality", wanted, ["run_id", "check", "value", "window_start"])
    published = tables.published()
    if published is None or not len(rows):
        return None
    whole = rows.filter(pc.field("window_start").is_null() & (pc.field("run_id") == published.run_id))
    so_far = not len(whole)
    # The windows of an endless run and of those that it took up add up to its books.
    counted = rows.filter(pc.field("window_start").is_valid()) if so_far else whole
    if not len(counted):
        return None
    books = _summed(counted)
    return {
        "read": books.input,
        "unaccounted": books.unaccounted,
        "so_far": so_far,
        "parts": _parts(books),
        "notes": books.notes(),
        "line": books.as_line(),
        "catalogue": books.catalogue_line(),
    }


def _summed(rows: pa.Table) -> Accounting:
    sums: Counter[str] = Counter()
    for check, value in zip(rows["check"].to_pylist(), rows["value"].to_pylist(), strict=True):
        sums[check] += value
    return from_rows(sums.items())


def _parts(books: Accounting) -> list[Json]:
    counts = {
        "scored": books.counts.get("accepted.scored", 0),
        "unscored": books.counts.get("accepted.unscored", 0),
        "without text": books.counts.get("accepted.without_text", 0),
        "control": books.counts.get("accepted.control", 0),
        "duplicate": books.counts.get("duplicate", 0),
        "superseded": books.counts.get("superseded", 0),
        "quarantined": books.total(QUARANTINED),
        "dead-lettered": books.total(DEAD_LETTERED),
    }
    accepted = ("scored", "unscored", "without text", "control")
    return [
        {"account": account, "records": count, "accepted": account in accepted}
        for account, count in counts.items()
        if count
    ]


def _lists(tables: Tables) -> Json:
    """How many lists there were, and how many were made when."""
    seconds: Counter[int] = Counter()
    totals: Counter[str] = Counter()
    for path in parquet_files(tables.output / "recommendations"):
        try:
            found = path.stat()
            of_file, counts = _made_when(str(path), found.st_ino, found.st_mtime_ns)
        except FileNotFoundError:  # merged meanwhile; the next look counts it
            continue
        seconds.update(of_file)
        totals.update(counts)
    return {**{name: totals[name] for name in ("lists", "hindsight", "tombstones")}, **_bars(seconds)}


@lru_cache(maxsize=_FILES)
def _made_when(path: str, inode: int, modified: int) -> tuple[Mapping[int, int], Mapping[str, int]]:
    """Of one file, which never changes: second of 1970 -> lists made, and the totals."""
    columns = ["emitted_time", "tombstone", "hindsight"]
    rows = pq.read_table(path, columns=columns, partitioning=None)
    hindsight, tombstones = (pc.sum(rows[name]).as_py() or 0 for name in ("hindsight", "tombstone"))
    current = rows.filter(pc.invert(pc.or_(rows["hindsight"], rows["tombstone"])))
    second = current["emitted_time"].cast(pa.int64()).to_numpy() // 1_000_000
    at, lists = np.unique(second, return_counts=True)
    totals = {"lists": len(current), "hindsight": hindsight, "tombstones": tombstones}
    return dict(zip(at.tolist(), lists.tolist(), strict=True)), totals


def _bars(seconds: Mapping[int, int]) -> Json:
    if not seconds:
        return {"step_seconds": None, "first_time": None, "last_time": None, "bars": []}
    first, last = min(seconds), max(seconds)
    step = next((step for step in _STEPS if (last - first) // step < _BARS), _STEPS[-1])
    begin = first // step
    bars = [0] * (last // step - begin + 1)
    for second, lists in seconds.items():
        bars[second // step - begin] += lists
    return {
        "step_seconds": step,
        "first_time": _time_of(begin * step),
        "last_time": _time_of(last),
        "bars": bars[-_BARS:],
    }


def _time_of(seconds: float) -> str | None:
    return time_text(datetime.fromtimestamp(seconds, UTC))


def _freshness(tables: Tables) -> Json | None:
    """Seconds from the newest feedback behind a list to the row that first shows it, of recent lists.

    None where no list has a written time: those of a bounded run.
    """
    newest = _newest_written(parquet_files(tables.output / "recommendations"))
    if newest is None:
        return None
    recent = (pc.field("written_time") >= newest - _RECENT) & ~pc.field("tombstone")
    columns = ["user_id", "event_time", "written_time", "trigger_event_ids"]
    rows = tables.rows("recommendations", recent, columns)
    # A new index refreshes lists that no feedback asked for.
    asked = rows.filter(pc.greater(pc.list_value_length(rows["trigger_event_ids"]), 0))
    first = asked.group_by(["user_id", "event_time"]).aggregate([("written_time", "min")])
    if not len(first):
        return None
    micros = pc.subtract(
        first["written_time_min"].cast(pa.int64()), first["event_time"].cast(pa.int64())
    ).to_numpy()
    ages = np.maximum(micros / 1e6, 0.0)
    quantiles = np.quantile(ages, list(_QUANTILES.values()))
    return {
        "lists": len(first),
        "until": time_text(newest),
        "window_seconds": _RECENT.total_seconds(),
        **dict(zip(_QUANTILES, map(float, quantiles), strict=True)),
    }


def _newest_written(paths: Sequence[Path]) -> datetime | None:
    newest: list[datetime] = []
    for path in paths:
        try:
            metadata = pq.read_metadata(path)
        except FileNotFoundError:
            continue
        names = metadata.schema.to_arrow_schema().names
        if "written_time" not in names:
            continue
        place = next(
            n for n in range(metadata.num_columns) if metadata.schema.column(n).path == "written_time"
        )
        of_groups = (
            metadata.row_group(group).column(place).statistics for group in range(metadata.num_row_groups)
        )
        newest += [found.max for found in of_groups if found is not None and found.has_min_max]
    return max(newest, default=None)


def _topics(tables: Tables) -> list[Json]:
    """The topics with most texts: their tone over time, oldest first, and over all of it.

    Windows are joined where there are more than fit a chart.
    """
    wanted = (pc.field("subject_kind") == "topic") & (pc.field("texts") > 0)
    rows = tables.rows("trends", wanted, ["window_start", "subject", "texts", "mean_polarity"])
    by_topic: dict[str, list[Json]] = {}
    for row in rows.sort_by("window_start").to_pylist():
        by_topic.setdefault(row["subject"], []).append(row)
    ordered = sorted(by_topic.items(), key=lambda one: (-sum(row["texts"] for row in one[1]), one[0]))
    shown = ordered[:_TOPICS]
    starts = sorted({row["window_start"] for _, of_topic in shown for row in of_topic})
    joined = max(1, (starts[-1] - starts[0]) // _SPANS // _MICROSECOND) if len(starts) > _SPANS else 1
    return [
        {"topic": subject, **_tone(of_topic), "windows": _spans(of_topic, joined)}
        for subject, of_topic in shown
    ]


def _tone(rows: Sequence[Json]) -> Json:
    texts = sum(row["texts"] for row in rows)
    return {
        "texts": texts,
        "mean_polarity": sum(row["mean_polarity"] * row["texts"] for row in rows) / texts,
    }


def _spans(rows: Sequence[Json], joined: int) -> list[Json]:
    """The tone of windows, in time order, that begin within the same `joined` microseconds."""
    spans = itertools.groupby(rows, key=lambda row: (row["window_start"] - _EPOCH) // _MICROSECOND // joined)
    lists = (list(windows) for _, windows in spans)
    return [{"start": time_text(windows[0]["window_start"]), **_tone(windows)} for windows in lists]


def _alerts(tables: Tables) -> Json:
    """The newest alerts first."""
    rows = tables.rows("alerts")
    newest = rows.sort_by([("time", "descending"), ("kind", "ascending"), ("subject", "ascending")])[:_ALERTS]
    title = tables.title()
    alerts = [
        {
            **row,
            "title": title(row["subject"]) if row["subject_kind"] == "item" else None,
            "time": time_text(row["time"]),
            "evidence": json.loads(row["evidence"]),
        }
        for row in newest.to_pylist()
    ]
    return {"total": len(rows), "newest": alerts}


def _rejects(tables: Tables) -> list[Json]:
    """Rejected records by error code, the commonest first, with what the code means."""
    told: list[Json] = []
    for name in ("dead_letters", "quarantine"):
        counts = pc.value_counts(tables.rows(name, columns=["error_code"])["error_code"])
        for one in counts.to_pylist():
            code = ERROR_CODES.get(one["values"])
            told.append(
                {
                    "table": name,
                    "error_code": one["values"],
                    "records": one["counts"],
                    "meaning": code.meaning if code else None,
                    "remedy": code.remedy if code else None,
                }
            )
    return sorted(told, key=lambda one: (-one["records"], one["error_code"]))


def _count(tables: Tables, name: str) -> Json:
    rows = files = 0
    for path in parquet_files(tables.output / name):
        try:
            rows += pq.read_metadata(path).num_rows
        except FileNotFoundError:
            continue
        files += 1
    return {"rows": rows, "files": files}
