"""TellCanary: how the canary's scores compare, as rows of `quality`."""

from __future__ import annotations

from collections.abc import Iterable

import apache_beam as beam

from models.canary import CanarySum
from models.tables import QualityRow


class TellCanary(beam.PTransform):
    """PCollection[CanarySum] of batches -> PCollection[QualityRow]; none without a canary."""

    def expand(self, sums: beam.PCollection[CanarySum]) -> beam.PCollection[QualityRow]:
        return (
            sums
            | "SumComparisons" >> beam.CombineGlobally(_total).without_defaults()
            | "TellComparisons" >> beam.FlatMap(_rows)
        )


def _total(sums: Iterable[CanarySum]) -> CanarySum:
    total = CanarySum()
    for each in sums:
        total.add(each)
    return total


def _rows(total: CanarySum) -> list[QualityRow]:
    return total.rows()
