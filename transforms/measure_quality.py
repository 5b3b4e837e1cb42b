"""MeasureQuality: the checks of the `quality` table that look at the data and at the index."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import apache_beam as beam
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.windowed_value import WindowedValue

from models.quality import QualitySum, index_rows, merge_quality, quality_part, quality_rows
from models.ranking.index import read_manifest
from models.records import MICROS_PER_SECOND, Micros
from models.tables import QualityRow, ScoredRow
from transforms.index_archive import index_folder


@dataclass
class MeasureQuality(beam.PTransform):
    """PCollection[ScoredRow] and the published index directory -> PCollection[QualityRow]."""

    index: beam.PCollection[str]
    window_seconds: float = 86_400.0

    def expand(self, rows: beam.PCollection[ScoredRow]) -> beam.PCollection[QualityRow]:
        window = int(self.window_seconds * MICROS_PER_SECOND)
        of_data = (
            rows
            | "CountInBundle" >> beam.ParDo(_CountInBundle(window))
            | "GatherCounts" >> beam.GroupByKey()
            | "TellChecks" >> beam.FlatMap(_tell_checks, window)
        )
        of_index = self.index | "DescribeIndex" >> beam.FlatMap(_describe_index)
        return (of_data, of_index) | "AllChecks" >> beam.Flatten()


class _CountInBundle(beam.DoFn):
    def __init__(self, window: Micros) -> None:
        self._window = window
        self._sums: dict[Micros, QualitySum] = {}

    def start_bundle(self) -> None:
        self._sums = {}

    def process(self, row: ScoredRow) -> None:
        start = row.event_time - row.event_time % self._window
        merge_quality(self._sums, [(start, quality_part(row))])

    def finish_bundle(self) -> Iterator[WindowedValue]:
        if self._sums:
            yield GlobalWindows.windowed_value((0, self._sums))


def _tell_checks(
    gathered: tuple[int, Iterable[dict[Micros, QualitySum]]], window: Micros
) -> list[QualityRow]:
    total: dict[Micros, QualitySum] = {}
    for sums in gathered[1]:
        merge_quality(total, sums.items())
    return quality_rows(total, window)


def _describe_index(place: str) -> list[QualityRow]:
    return index_rows(read_manifest(index_folder(place)).meta)
