"""Bundles to shards: the records of one table, buffered as Arrow and written as sorted files."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import apache_beam as beam
import pyarrow as pa
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.windowed_value import WindowedValue

from models.records import Micros
from models.table_columns import table_from_records
from models.times import wall_clock
from pipeline.live.state import live_state
from pipeline.tables import remote_output
from pipeline.tables.files import Shard, TableLimits, link_file, sort_rows, write_rows
from pipeline.tables.output_folder import (
    is_local,
    local_path,
    staging_path,
    stream_path,
    sync_file,
    unwritable,
)

#: Records turned into Arrow at a time; bounds the objects that a bundle holds.
_RECORDS_PER_BATCH: Final = 2_000


class WriteShards(beam.DoFn):
    """Buffers the records of a bundle and writes them as sorted shards of one table."""

    def __init__(self, table: str, output: str, run_id: str, limits: TableLimits) -> None:
        self._table = table
        self._output = output
        self._run_id = run_id
        self._limits = limits

    def start_bundle(self) -> None:
        self._records: list[object] = []
        self._batches: list[pa.Table] = []
        self._rows = 0
        self._bytes = 0

    def process(self, record: object) -> Iterator[Shard]:
        self._records.append(record)
        if len(self._records) >= _RECORDS_PER_BATCH:
            self._batch()
            if self._rows >= self._limits.shard_rows or self._bytes >= self._limits.shard_bytes:
                yield self._write()

    def finish_bundle(self) -> Iterator[WindowedValue]:
        self._batch()
        if self._rows:
            window = GlobalWindow()
            yield WindowedValue(self._write(), window.max_timestamp(), [window])

    def _batch(self) -> None:
        batch = table_from_records(self._table, self._records, self._run_id, self._written())
        self._batches.append(batch)
        self._rows += len(batch)
        self._bytes += batch.nbytes
        self._records = []

    def _written(self) -> Micros | None:
        """None: what a bounded run makes does not tell when."""
        return None

    def _write(self) -> Shard:
        rows = sort_rows(self._table, pa.concat_tables(self._batches))
        shard = Shard(self._table, self._store(rows), self._rows, self._bytes)
        self.start_bundle()
        return shard

    def _store(self, rows: pa.Table) -> str:
        return write_shard(self._output, self._run_id, self._table, rows)


class WriteStreamShards(WriteShards):
    """The same for an endless run: nothing is emitted, a snapshot finds the shards on the disk.

    They are named by the bundle that wrote them, where one process runs the bundles one by one.
    """

    def process(self, record: object) -> None:  # type: ignore[override]
        list(super().process(record))

    def finish_bundle(self) -> None:  # type: ignore[override]
        list(super().finish_bundle())

    def _written(self) -> Micros | None:
        return wall_clock()

    def _store(self, rows: pa.Table) -> str:
        state = live_state(self._run_id)
        output = local_path(self._output)
        return str(leave_shard(output, self._run_id, self._table, rows, state.bundle, state.outboxes))


def write_shard(output: str, run_id: str, table: str, rows: pa.Table) -> str:
    """Writes sorted rows where the publication of the run finds them. Raises OutputError."""
    try:
        if not is_local(output):
            return remote_output.write_shard(output, run_id, table, rows)
        return str(store_shard(staging_path(local_path(output), run_id) / "shards" / table, table, rows))
    except OSError as error:
        raise unwritable(output, error) from error


def leave_shard(
    output: Path, run_id: str, table: str, rows: pa.Table, bundle: int, outboxes: Sequence[Path] = ()
) -> Path:
    """Writes sorted rows for the next snapshot, and for every sink; on disk on return. Raises OutputError."""
    try:
        path = store_shard(stream_path(output, run_id) / table, table, rows, f"{bundle:012d}-")
        sync_file(path)
        for outbox in outboxes:
            link_file(path, outbox / f"{path.stem[:13]}{table}{path.stem[12:]}.parquet")
    except OSError as error:
        raise unwritable(output, error) from error
    return path


def store_shard(folder: Path, table: str, rows: pa.Table, prefix: str = "") -> Path:
    """Writes sorted rows under a name that no other attempt has; the name appears with the last byte."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{prefix}{secrets.token_hex(12)}.shard"
    partial = path.with_suffix(".partial")
    write_rows(table, rows, partial)
    os.replace(partial, path)
    return path
