"""WriteToSink: records straight to a sink, a bundle at a time, where no local folder lies in between.

{"recommendations": lists, "alerts": alerts} | WriteToSinks(["postgresql://..."], run_id)

A bundle that the engine runs again writes its rows again, which changes nothing at the sink. A sink
that stays away longer than its `timeout_seconds` fails the bundle: the engine goes back to its last
checkpoint and tries again from there, so nothing is lost and nothing piles up.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import apache_beam as beam

from models.errors import LivelistError
from models.table_columns import table_from_records
from models.times import wall_clock
from pipeline.connectors.addresses import SINK_TABLES
from pipeline.connectors.base import TableSink
from pipeline.connectors.feeder import write_what_it_takes
from pipeline.connectors.registry import make_sink
from pipeline.connectors.retrying import RefusedRowsError
from pipeline.connectors.uris import parse_sink, redacted

#: A bundle's rows go out at so many, or at its end.
_ROWS_PER_WRITE: Final = 5_000
_LOGGER: Final = logging.getLogger(__name__)


class WriteToSinks(beam.PTransform):
    """Writes a dict of table name -> PCollection of its records to every sink that takes that table.

    Raises UsageError or DeploymentError for an address, before the job starts. Returns nothing of use.
    """

    def __init__(self, uris: Sequence[str], run_id: str) -> None:
        super().__init__()
        self._uris = tuple(uris)
        self._run_id = run_id
        for uri in uris:
            make_sink(uri)

    def expand(self, tables: dict[str, beam.PCollection[object]]) -> dict[str, beam.PCollection[None]]:
        for name in tables:
            if name not in SINK_TABLES:
                raise ValueError(f"tables: expected some of {', '.join(SINK_TABLES)}, got {name}")
        return {
            f"{name}_{number}": records
            | f"WriteToSink_{number}_{name}" >> beam.ParDo(WriteToSink(uri, name, self._run_id))
            for number, uri in enumerate(self._uris)
            for name, records in tables.items()
            if name in parse_sink(uri).tables
        }


class WriteToSink(beam.DoFn):
    """Batches a bundle's records of one table. A process has one connection an address."""

    def __init__(self, uri: str, table: str, run_id: str) -> None:
        self._uri = uri
        self._table = table
        self._run_id = run_id
        self._written = beam.metrics.Metrics.counter("sinks", f"rows_{table}")
        self._refused = beam.metrics.Metrics.counter("sinks", f"refused_{table}")

    def start_bundle(self) -> None:
        self._records: list[object] = []

    def process(self, record: object) -> None:
        self._records.append(record)
        if len(self._records) >= _ROWS_PER_WRITE:
            self._write()

    def finish_bundle(self) -> None:
        if self._records:
            self._write()

    def _write(self) -> None:
        records, self._records = self._records, []
        rows = table_from_records(self._table, records, self._run_id, wall_clock())
        shared = _shared_sink(self._uri)
        with shared.lock:
            write_what_it_takes(
                shared.opened(), self._table, rows, lambda table, refused, error: self._refuse(error)
            )
        self._written.inc(len(records))

    def _refuse(self, error: RefusedRowsError) -> None:
        self._refused.inc()
        _LOGGER.error("%s refuses a row of %s: %s", redacted(self._uri), self._table, error)


class _SharedSink:
    """One connection, used by one bundle at a time."""

    def __init__(self, uri: str) -> None:
        self.lock = threading.Lock()
        self._uri = uri
        self._sink: TableSink | None = None

    def opened(self) -> TableSink:
        if self._sink is None:
            sink = make_sink(self._uri)
            try:
                sink.open()
            except LivelistError as error:
                with suppress(Exception):
                    sink.close()
                raise type(error)(f"{redacted(self._uri)}: {error}") from None
            self._sink = sink
        return self._sink


_sinks: Final[dict[str, _SharedSink]] = {}
_making: Final = threading.Lock()


def _shared_sink(uri: str) -> _SharedSink:
    with _making:
        return _sinks.setdefault(uri, _SharedSink(uri))
