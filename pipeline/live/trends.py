"""The trends and alerts of an endless run: sums that its bundles add to, told with each snapshot.

The rows of a window stand from its first event on and are told anew as they grow. Its alerts come
once, when the window is closed: the newest accepted event_time is beyond its end, or, where nothing
comes any more, the wall clock is.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from models.records import MICROS_PER_SECOND, Micros
from models.tables import SCHEMAS, AlertRow, TrendRow
from models.times import to_micros, wall_clock
from models.trends import AlertConfig, TrendKey, TrendSum, detect_alerts, trend_row
from pipeline.live.state import Done
from pipeline.tables.files import read_rows
from pipeline.tables.output_folder import parquet_files

#: Events come so much out of order that a window stays open so long behind its end.
OUT_OF_ORDER: Final[Micros] = 60 * MICROS_PER_SECOND
#: So many windows before the newest event's are still summed; older feedback counts, but in no trend.
OPEN_WINDOWS: Final = 3


class LiveTrends:
    """What was told so far; one thread calls it."""

    def __init__(self, output: Path, window: Micros, told: dict[TrendKey, TrendSum]) -> None:
        self._output = output
        self._window = window
        self._told = dict(told)
        self._config = AlertConfig(window=window)
        self._closed: Micros = 0  # windows that end here or earlier have had their alerts

    def rows(self, done: Done) -> list[TrendRow]:
        """The rows that are new or have grown."""
        changed = [key for key, total in done.trends.items() if self._told.get(key) != total]
        self._told = done.trends
        return [trend_row(key, done.trends[key], self._window) for key in sorted(changed)]

    def oldest_open(self, done: Done) -> Micros:
        """The start of the oldest window that is still summed."""
        newest = done.newest // self._window * self._window
        return max(0, newest - OPEN_WINDOWS * self._window)

    def alerts(self, done: Done, idle: bool) -> list[AlertRow]:
        """The alerts of windows that are closed now, from the published trends; each is told once."""
        clock = max(done.newest, wall_clock()) if idle else done.newest
        closed = (clock - OUT_OF_ORDER) // self._window * self._window
        if closed <= self._closed:
            return []
        since, self._closed = self._closed, closed
        earliest = max(0, since - (self._config.history + 1) * self._window)
        rows = [row for row in self._published(earliest) if row.window_end <= closed]
        found = [alert for alert in detect_alerts(rows, self._config) if since < alert.time <= closed]
        return _without(found, self._standing()) if found else []

    def _published(self, earliest: Micros) -> list[TrendRow]:
        paths = parquet_files(self._output / "trends")
        rows = read_rows("trends", paths, pc.field("window_start") >= _time(earliest)) if paths else None
        if rows is None:
            return []
        return [
            TrendRow(**row | {name: to_micros(row[name]) for name in ("window_start", "window_end")})
            for row in rows.to_pylist()
        ]

    def _standing(self) -> set[tuple[object, ...]]:
        rows = [pq.read_table(path, partitioning=None) for path in parquet_files(self._output / "alerts")]
        return {
            (row["kind"], row["subject_kind"], row["subject"], to_micros(row["time"]))
            for table in rows
            for row in table.to_pylist()
        }


def _time(micros: Micros) -> object:
    return pa.scalar(micros, SCHEMAS["trends"].field("window_start").type)


def _without(alerts: Iterable[AlertRow], standing: set[tuple[object, ...]]) -> list[AlertRow]:
    return [
        alert
        for alert in alerts
        if (alert.kind, alert.subject_kind, alert.subject, alert.time) not in standing
    ]
