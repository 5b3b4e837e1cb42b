"""Shards into tables on a cluster: each row once, with the trends, alerts and counts that they make.

Workers leave a shard before its bundle commits, so what a fault makes run again leaves its rows again.
Those of events and rejects are told by what they say, and dropped, among the newest of each table.
Lists that are made again carry other versions, and stay.
"""

from __future__ import annotations

import os
import pickle
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from models.accounting import Accounting
from models.records import Micros, TextScore
from models.table_columns import table_from_records
from models.tables import AlertRow, QualityRow, ScoredRow
from models.times import wall_clock
from models.trends import TrendKey, TrendSum, merge_trends, trend_parts
from pipeline.flink.ages import ListAges
from pipeline.flink.books import BOOKS, CLOSED, leave_quality, read_books
from pipeline.live.state import TRENDS_LATE, Done
from pipeline.live.trends import LiveTrends
from pipeline.tables.files import read_rows, sort_rows, write_rows
from pipeline.tables.output_folder import parquet_files, stream_path
from pipeline.tables.shards import leave_shard
from pipeline.tables.snapshots import take_snapshot

KEPT: Final = "folding.pickle"
#: What tells a row of a table from every other.
_ONCE: Final[dict[str, tuple[str, ...]]] = {
    "scored_feedback": ("user_id", "event_id", "source_position"),
    "dead_letters": ("source_position", "stage", "error_code", "payload"),
    "quarantine": ("source_position", "stage", "error_code", "payload"),
}
#: So many rows of each table are remembered: ten minutes at 500 a second.
_REMEMBERED: Final = 300_000
#: Without feedback for so long, windows close by the wall clock.
_IDLE_SECONDS: Final = 60.0


@dataclass
class _Kept:
    """What outlives the process."""

    trends: dict[TrendKey, TrendSum] = field(default_factory=dict)
    newest: Micros = 0  # event_time that was accepted
    trends_from: Micros = 0
    summed: set[str] = field(default_factory=set)  # shards whose rows are in `trends` already
    told: Counter[str] = field(default_factory=Counter)  # the books, as the last row of `quality` has them
    told_time: Micros = 0
    late: int = 0  # rows that came too late for their trend


class _Remembered:
    """The newest rows of a table, by their hashes."""

    def __init__(self, table: str, output: Path) -> None:
        self._table = table
        self._hashes: dict[int, None] = {}
        files = sorted(parquet_files(output / table), key=lambda path: path.stat().st_mtime, reverse=True)
        rows = 0
        for path in files:
            if rows >= _REMEMBERED:
                break
            held = pq.read_table(path, columns=list(_ONCE[table]), partitioning=None)
            rows += len(held)
            self._take(held)

    def without_repeats(self, rows: pa.Table) -> pa.Table:
        """The rows that are not remembered, nor told before among these; they are remembered from now on."""
        return rows.filter(pa.array(self._take(rows), pa.bool_()))

    def _take(self, rows: pa.Table) -> list[bool]:
        columns = [rows[name].to_pylist() for name in _ONCE[self._table]]
        new = []
        for key in map(hash, zip(*columns, strict=True)):
            new.append(key not in self._hashes)
            self._hashes[key] = None
        for old in list(self._hashes)[: max(0, len(self._hashes) - _REMEMBERED)]:
            del self._hashes[old]
        return new


class Folding:
    """Of one job. One thread calls it."""

    def __init__(self, job_folder: Path, output: Path, run_id: str, window: Micros) -> None:
        self._folder, self._output, self._run_id, self._window = job_folder, output, run_id, window
        self._kept = _read_kept(job_folder)
        self._kept.told_time = self._kept.told_time or wall_clock()
        self._once = {table: _Remembered(table, output) for table in _ONCE}
        self._read: set[str] = set()  # shards that are without repeats
        self._trends = LiveTrends(output, window, {})
        self._moved = time.time()  # when rows last came
        self._items: set[str] = set()  # that feedback was on since they were last asked for
        self.ages = ListAges()
        self.lists = 0
        self.snapshots = 0

    def fold(self, alerts: Sequence[AlertRow] = (), caught_up: bool = True) -> None:
        """All that workers have left, into the tables; with it trends, alerts of theirs and `alerts`, counts.

        `caught_up`: whether what waits in the log is read; windows close, and are forgotten, only then.
        Raises OutputError or OSError; then what was left, alerts included, is there for the next call.
        """
        shards = self._look()
        self._kept.summed = {path.name for path in shards if path.parent.name == "scored_feedback"}
        made = [*self._tell_trends(list(alerts), caught_up)]
        counts = self._counts()
        self._keep()
        if counts:
            made.append(leave_quality(self._output, self._run_id, counts))
        if take_snapshot(self._output, self._run_id, among=[*shards, *made]) is not None:
            self.snapshots += 1
        self._read = {path.name for path in shards if path.exists()}

    def items(self) -> set[str]:
        """Those of the feedback that workers have told of since the last call, before it is in the tables."""
        self._look()
        items, self._items = self._items, set()
        return items

    def _look(self) -> list[Path]:
        """The shards that are there, all taken in."""
        shards = sorted(stream_path(self._output, self._run_id).glob("*/*.shard"), key=_in_order)
        for path in shards:
            if path.name not in self._read:
                self._take(path)
        return shards

    def _take(self, path: Path) -> None:
        """Drops the repeats of a shard, and adds what is left to the sums."""
        table = path.parent.name
        self._moved = time.time()
        if table == "recommendations":
            lists = pq.read_table(path, partitioning=None)
            self.lists += len(lists)
            self.ages.listed(lists)
        if table in _ONCE:
            rows = read_rows(table, [path])
            new = self._once[table].without_repeats(rows)
            if len(new) < len(rows):
                partial = path.with_suffix(".partial")
                write_rows(table, new, partial)
                os.replace(partial, path)
            if table == "scored_feedback" and path.name not in self._kept.summed:
                self._sum(new)
        self._read.add(path.name)

    def _sum(self, rows: pa.Table) -> None:
        self.ages.accepted(rows)
        self._items.update(rows["item_id"].drop_null().unique().to_pylist())
        for row in _scored_rows(rows):
            self._kept.newest = max(self._kept.newest, row.event_time)
            parts = trend_parts(row, self._window)
            summed = [part for part in parts if part[0].window_start >= self._kept.trends_from]
            merge_trends(self._kept.trends, summed)
            self._kept.late += bool(parts and not summed)

    def _tell_trends(self, alerts: list[AlertRow], caught_up: bool) -> Iterator[Path]:
        kept = self._kept
        done = Done(0, {}, Counter(), dict(kept.trends), kept.newest, kept.trends_from)
        yield from self._leave("trends", self._trends.rows(done))
        if caught_up:
            alerts += self._trends.alerts(done, time.time() - self._moved > _IDLE_SECONDS)
            kept.trends_from = max(kept.trends_from, self._trends.oldest_open(done))
            for key in [key for key in kept.trends if key.window_start < kept.trends_from]:
                del kept.trends[key]
        yield from self._leave("alerts", alerts)

    def _leave(self, table: str, records: Sequence[object]) -> Iterator[Path]:
        if records:
            rows = sort_rows(table, table_from_records(table, records, self._run_id, wall_clock()))
            yield leave_shard(self._output, self._run_id, table, rows, 0)

    def _counts(self) -> list[QualityRow]:
        """What was counted since the last call, as rows with a window of wall clock."""
        kept, now = self._kept, wall_clock()
        books = read_books(self._folder)
        if kept.late:
            books[TRENDS_LATE] = kept.late
        since = {code: count - kept.told[code] for code, count in books.items() if count != kept.told[code]}
        window, kept.told, kept.told_time = (kept.told_time, now), books, now
        rows = Accounting(since).rows() if since else []
        return [QualityRow(row.check, row.value, *window, row.threshold) for row in rows]

    def _keep(self) -> None:
        partial = self._folder / f".{KEPT}"
        partial.write_bytes(pickle.dumps(self._kept))
        os.replace(partial, self._folder / KEPT)


def forget_books(job_folder: Path) -> None:
    """A job that begins anew has counted nothing."""
    for name in (BOOKS, CLOSED, KEPT):
        (job_folder / name).unlink(missing_ok=True)


def _read_kept(job_folder: Path) -> _Kept:
    try:
        kept = pickle.loads((job_folder / KEPT).read_bytes())
        assert isinstance(kept, _Kept)
        return kept
    except FileNotFoundError:
        return _Kept()


def _in_order(path: Path) -> tuple[bool, int, str]:
    """Lists last, for their ages are told by the events behind them; else as they were written."""
    return path.parent.name == "recommendations", path.stat().st_mtime_ns, path.name


def _scored_rows(rows: pa.Table) -> Iterable[ScoredRow]:
    """As far as trends look at them."""
    times = rows["event_time"].cast(pa.int64()).to_pylist()
    names = ("event_id", "user_id", "kind", "item_id", "rating", "polarity", "topics", "conflict")
    for at, *row in zip(times, *(rows[name].to_pylist() for name in names), strict=True):
        event_id, user_id, kind, item_id, rating, polarity, topics, conflict = row
        score = None if polarity is None else _score(polarity, topics or [])
        yield ScoredRow(event_id, user_id, kind, item_id, at, rating, score, None, conflict, "")


def _score(polarity: float, topics: list[dict[str, object]]) -> TextScore:
    named = tuple((str(topic["name"]), float(str(topic["score"]))) for topic in topics)
    return TextScore((0.0, 1.0, 0.0), polarity, 0.0, 0.0, named)
