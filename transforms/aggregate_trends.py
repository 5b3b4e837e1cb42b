"""AggregateTrends: counts and tone per window, item and topic, and the alerts read from them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import apache_beam as beam
from apache_beam.pvalue import DoOutputsTuple, TaggedOutput
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.windowed_value import WindowedValue

from models.records import MICROS_PER_SECOND
from models.tables import AlertRow, ScoredRow, TrendRow
from models.trends import (
    AlertConfig,
    TrendKey,
    TrendSum,
    detect_alerts,
    merge_trends,
    trend_parts,
    trend_rows,
)

_MOST_KEYS: Final = 50_000  # held by one bundle


@dataclass
class AggregateTrends(beam.PTransform):
    """PCollection[ScoredRow] -> `trends` (TrendRow) and `alerts` (AlertRow), for a bounded run.

    Sums are integers, so that any partition of the rows gives the same trends.
    """

    window_seconds: float = 86_400.0

    def __post_init__(self) -> None:
        if self.window_seconds < 1:
            raise ValueError(f"window_seconds must be at least 1, got {self.window_seconds}")

    def expand(self, rows: beam.PCollection[ScoredRow]) -> DoOutputsTuple:
        window = int(self.window_seconds * MICROS_PER_SECOND)
        return (
            rows
            | "SumInBundle" >> beam.ParDo(_SumInBundle(window))
            | "GatherSums" >> beam.GroupByKey()
            | "TellTrends"
            >> beam.ParDo(_TellTrends(window))
            .with_output_types(TrendRow, alerts=AlertRow)
            .with_outputs("alerts", main="trends")
        )


class _SumInBundle(beam.DoFn):
    def __init__(self, window: int) -> None:
        self._window = window
        self._sums: dict[TrendKey, TrendSum] = {}

    def start_bundle(self) -> None:
        self._sums = {}

    def process(self, row: ScoredRow) -> Iterator[tuple[int, dict[TrendKey, TrendSum]]]:
        merge_trends(self._sums, trend_parts(row, self._window))
        if len(self._sums) >= _MOST_KEYS:
            yield 0, self._sums
            self._sums = {}

    def finish_bundle(self) -> Iterator[WindowedValue]:
        if self._sums:
            yield GlobalWindows.windowed_value((0, self._sums))


class _TellTrends(beam.DoFn):
    def __init__(self, window: int) -> None:
        self._window = window

    def process(
        self, gathered: tuple[int, Iterable[dict[TrendKey, TrendSum]]]
    ) -> Iterator[TrendRow | TaggedOutput]:
        total: dict[TrendKey, TrendSum] = {}
        for sums in gathered[1]:
            merge_trends(total, sums.items())
        rows = trend_rows(total, self._window)
        yield from rows
        for alert in detect_alerts(rows, AlertConfig(window=self._window)):
            yield TaggedOutput("alerts", alert)
