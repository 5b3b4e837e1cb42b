"""WriteTables: the Parquet tables of a bounded run, published all at once when the job is done.

    {"recommendations": lists, "scored_feedback": rows, ...} | "WriteTables" >> WriteTables(
        output="out", run_id=run_id, if_exists="replace")

Bundles write shards under names of their own; only the names that reach the last step through
committed output are published, so a bundle that is tried again doubles nothing. On other file
systems than the local one the last step goes through the worker's disk and replaces object by
object: each file is whole, a table of several files is not swapped in one step.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Final

import apache_beam as beam
import pyarrow as pa
from apache_beam.transforms.window import GlobalWindow, GlobalWindows
from apache_beam.utils.windowed_value import WindowedValue

from models.table_columns import table_from_records
from pipeline import remote_output
from pipeline.output_folder import (
    IfExists,
    TableReceipt,
    check_if_exists,
    check_run_id,
    is_local,
    local_path,
    prepare_local,
    staging_path,
    unwritable,
)
from pipeline.table_files import WRITTEN_TABLES, Shard, TableLimits, publish_shards, sort_rows, write_rows

#: Records turned into Arrow at a time; bounds the objects that a bundle holds.
_RECORDS_PER_BATCH: Final = 2_000


def prepare_output(output: str, run_id: str, if_exists: str = "replace") -> AbstractContextManager[object]:
    """Call before the job starts, and keep it open (`with`) until the job has ended.

    Creates the folder, refuses what cannot be written, and repairs what killed runs left behind.
    Raises OutputError, or UsageError for a wrong argument.
    """
    mode = check_if_exists(if_exists)
    check_run_id(run_id)
    if is_local(output):
        return prepare_local(local_path(output), run_id, mode)
    return remote_output.prepare_remote(output, run_id, mode)


class WriteTables(beam.PTransform):
    """Writes a dict of table name -> PCollection of its records, and publishes them together.

    Names are those of WRITTEN_TABLES; a table that is absent is written empty, and
    `recommendations_latest` is derived from `recommendations`. The input must be bounded.
    Returns a PCollection of one TableReceipt a table, after the publication.

    Args:
        output: the folder of the tables, on any file system that Beam reads.
        run_id: unique to the run, see new_run_id.
        if_exists: replace (the tables of earlier runs go), append (history grows, of each user the
            list with the highest state_version stands) or error (refused by prepare_output).
        limits: sizes of files and buffers.
    """

    def __init__(
        self, output: str, run_id: str, if_exists: str = "replace", limits: TableLimits | None = None
    ) -> None:
        super().__init__()
        self._output = output
        self._run_id = check_run_id(run_id)
        self._if_exists = check_if_exists(if_exists)
        self._limits = limits or TableLimits()

    def expand(self, tables: dict[str, beam.PCollection[object]]) -> beam.PCollection[TableReceipt]:
        unknown = sorted(set(tables) - set(WRITTEN_TABLES))
        if unknown or not tables:
            raise ValueError(
                f"tables: expected some of {', '.join(WRITTEN_TABLES)}, got {', '.join(unknown)}"
            )
        shards = [
            records
            | f"Unwindow_{name}" >> beam.WindowInto(GlobalWindows())
            | f"WriteShards_{name}" >> beam.ParDo(WriteShards(name, self._output, self._run_id, self._limits))
            for name, records in tables.items()
        ]
        pipeline = next(iter(tables.values())).pipeline
        start = pipeline | "EvenWithoutShards" >> beam.Create([None])
        return (
            (*shards, start)
            | "EveryTable" >> beam.Flatten()
            | "OnePublication" >> beam.Map(lambda shard: (0, shard))
            | "AfterAll" >> beam.GroupByKey()
            | "Publish"
            >> beam.ParDo(PublishTables(self._output, self._run_id, self._if_exists, self._limits))
        )


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
        batch = table_from_records(self._table, self._records, self._run_id)
        self._batches.append(batch)
        self._rows += len(batch)
        self._bytes += batch.nbytes
        self._records = []

    def _write(self) -> Shard:
        rows = sort_rows(self._table, pa.concat_tables(self._batches))
        path = write_shard(self._output, self._run_id, self._table, rows)
        shard = Shard(self._table, path, self._rows, self._bytes)
        self.start_bundle()
        return shard


def write_shard(output: str, run_id: str, table: str, rows: pa.Table) -> str:
    """Writes sorted rows under a name that no other attempt has, and returns it. Raises OutputError."""
    name = f"{secrets.token_hex(12)}.shard"
    try:
        if not is_local(output):
            return remote_output.write_shard(output, run_id, table, name, rows)
        folder = staging_path(local_path(output), run_id) / "shards" / table
        folder.mkdir(parents=True, exist_ok=True)
        write_rows(table, rows, folder / name)
    except OSError as error:
        raise unwritable(output, error) from error
    return str(folder / name)


class PublishTables(beam.DoFn):
    """Builds the tables from all shards and makes them visible; once per run, however often it is tried."""

    def __init__(self, output: str, run_id: str, if_exists: IfExists, limits: TableLimits) -> None:
        self._output = output
        self._run_id = run_id
        self._if_exists = if_exists
        self._limits = limits

    def process(self, group: tuple[int, Iterable[Shard | None]]) -> Iterator[TableReceipt]:
        shards = sorted(shard for shard in group[1] if shard is not None)
        try:
            if is_local(self._output):
                folder = local_path(self._output)
                yield from publish_shards(folder, self._run_id, self._if_exists, shards, self._limits)
            else:
                yield from remote_output.publish_remote(
                    self._output, self._run_id, self._if_exists, shards, self._limits
                )
        except OSError as error:
            raise unwritable(self._output, error) from error
