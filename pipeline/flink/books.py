"""The books of an endless job, exact: sums in one state of the engine, closed when the job is drained.

A bundle that runs again after a fault counts once, for the state goes back with everything else. The
newest sums lie in the job's folder, where its steward and `drain` read them.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import apache_beam as beam
import msgpack
from apache_beam import typehints
from apache_beam.coders import BytesCoder
from apache_beam.transforms.userstate import ReadModifyWriteRuntimeState, ReadModifyWriteStateSpec
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.windowed_value import WindowedValue

from models.accounting import CHECK_PREFIX, Accounting
from models.table_columns import table_from_records
from models.tables import QualityRow
from pipeline.tables.files import sort_rows
from pipeline.tables.shards import leave_shard

BOOKS: Final = "books.json"
#: Holds the run whose closing rows are written.
CLOSED: Final = "CLOSED"
_ONE_BOOK: Final = "books"
_SUMS: Final = ReadModifyWriteStateSpec("sums", BytesCoder())
_SUMS_STATE: Any = beam.DoFn.StateParam(_SUMS)
_NOTHING: Final = b"\x80"  # an empty map


@dataclass
class KeepBooks(beam.PTransform):
    """A tuple of PCollections of (code, count) -> PCollection[QualityRow]: sums of the job as they grow.

    They have no window: a row takes the place of the one before of its check.
    """

    job_folder: Path

    def expand(self, counts: tuple[beam.PCollection[tuple[str, int]], ...]) -> beam.PCollection[QualityRow]:
        return (
            counts
            | "AllCounts" >> beam.Flatten()
            | "InOneBook" >> beam.Map(_in_one_book)
            | "SumCounts" >> beam.ParDo(_SumCounts(str(self.job_folder)))
        )


@typehints.with_output_types(typehints.KV[str, typehints.Tuple[str, int]])
def _in_one_book(count: tuple[str, int]) -> tuple[str, tuple[str, int]]:
    return _ONE_BOOK, count


@typehints.with_output_types(QualityRow)
class _SumCounts(beam.DoFn):
    def __init__(self, job_folder: str) -> None:
        self._job_folder = job_folder

    def start_bundle(self) -> None:
        self._sums: dict[str, int] = {}
        self._changed: set[str] = set()

    def process(
        self, element: tuple[str, tuple[str, int]], state: ReadModifyWriteRuntimeState = _SUMS_STATE
    ) -> None:
        code, count = element[1]
        self._sums = msgpack.unpackb(state.read() or _NOTHING)
        self._sums[code] = self._sums.get(code, 0) + count
        self._changed.add(code)
        state.write(msgpack.packb(self._sums))

    def finish_bundle(self) -> Iterator[WindowedValue]:
        if not self._changed:
            return
        write_books(Path(self._job_folder), self._sums)
        for code in sorted(self._changed):
            row = QualityRow(CHECK_PREFIX + code, float(self._sums[code]))
            yield GlobalWindows.windowed_value(row)


def write_books(job_folder: Path, sums: dict[str, int]) -> None:
    """Where `read_books` finds them, whole or not at all."""
    partial = job_folder / f".{BOOKS}.{os.getpid()}"
    partial.write_text(json.dumps(sums))
    os.replace(partial, job_folder / BOOKS)


def read_books(job_folder: Path) -> Counter[str]:
    """The newest sums; none where nothing was read yet."""
    try:
        return Counter(json.loads((job_folder / BOOKS).read_text()))
    except FileNotFoundError:
        return Counter()


def close_books(job_folder: Path, output: Path, run_id: str) -> Accounting:
    """The books of a job that is drained; their closing rows go to `quality` with the next snapshot, once."""
    books, closed = Accounting(read_books(job_folder)), job_folder / CLOSED
    if not closed.exists() or closed.read_text() != run_id:
        leave_quality(output, run_id, books.rows())
        closed.write_text(run_id)
    return books


def leave_quality(output: Path, run_id: str, rows: list[QualityRow]) -> Path:
    """Rows for the next snapshot; returns their shard."""
    table = table_from_records("quality", rows, run_id)
    return leave_shard(output, run_id, "quality", sort_rows("quality", table), 0)
