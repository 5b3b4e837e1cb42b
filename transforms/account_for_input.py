"""AccountForInput: sums what every stage says it did with its records (law 3)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import apache_beam as beam

from models.accounting import Accounting
from models.tables import QualityRow


@dataclass
class AccountForInput(beam.PTransform):
    """A tuple of PCollections of (code, count) -> PCollection[QualityRow], for a bounded run."""

    def expand(self, counts: tuple[beam.PCollection[tuple[str, int]], ...]) -> beam.PCollection[QualityRow]:
        start = counts[0].pipeline | "EvenWithoutInput" >> beam.Create([("input", 0)])
        return (
            (*counts, start)
            | "FlattenCounts" >> beam.Flatten()
            | "SumByCode" >> beam.CombinePerKey(sum)
            | "OneBook" >> beam.Map(_to_one_book)
            | "GatherBook" >> beam.GroupByKey()
            | "CloseBook" >> beam.FlatMap(_close_book)
        )


def _to_one_book(count: tuple[str, int]) -> tuple[int, tuple[str, int]]:
    return 0, count


def _close_book(gathered: tuple[int, Iterable[tuple[str, int]]]) -> Iterator[QualityRow]:
    yield from Accounting(dict(gathered[1])).rows()
