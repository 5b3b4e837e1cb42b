"""WriteTables: the Parquet tables of a bounded run, published all at once when the job is done.

    {"recommendations": lists, "scored_feedback": rows, ...} | "WriteTables" >> WriteTables(
        output="out", run_id=run_id, if_exists="replace")

Bundles write shards under names of their own; only the names that reach the last step through
committed output are published, so a bundle that is tried again doubles nothing. On other file
systems than the local one the last step goes through the worker's disk and replaces object by
object: each file is whole, a table of several files is not swapped in one step.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager

import apache_beam as beam
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.windowed_value import WindowedValue

from pipeline.progress import JOINING, LEARNING, PROGRESS, RANKING, WRITING
from pipeline.tables import remote_output
from pipeline.tables.files import WRITTEN_TABLES, Shard, TableLimits, publish_shards
from pipeline.tables.output_folder import (
    IfExists,
    TableReceipt,
    check_if_exists,
    check_run_id,
    is_local,
    local_path,
    prepare_local,
    unwritable,
)
from pipeline.tables.shards import WriteShards
from pipeline.tables.snapshots import fold_streams


def prepare_output(output: str, run_id: str, if_exists: str = "replace") -> AbstractContextManager[object]:
    """Call before the job starts, and keep it open (`with`) until the job has ended.

    Creates the folder, refuses what cannot be written, and repairs what killed runs left behind.
    Raises OutputError, or UsageError for a wrong argument.
    """
    mode = check_if_exists(if_exists)
    check_run_id(run_id)
    if is_local(output):
        lease = prepare_local(local_path(output), run_id, mode)
        try:
            fold_streams(local_path(output))
        except BaseException:
            lease.release()
            raise
        return lease
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
            | f"WriteShards_{name}"
            >> beam.ParDo(_shard_writer(name, self._output, self._run_id, self._limits))
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


def _shard_writer(table: str, output: str, run_id: str, limits: TableLimits) -> WriteShards:
    told = {"scored_feedback": _WriteFeedback, "recommendations": _WriteLists}
    return told.get(table, WriteShards)(table, output, run_id, limits)


class _WriteFeedback(WriteShards):
    """Its rows tell how far the join before it is: an engine in this process fuses the two."""

    def start_bundle(self) -> None:
        super().start_bundle()
        PROGRESS.enter(JOINING, PROGRESS.counts["records"])

    def process(self, record: object) -> Iterator[Shard]:
        PROGRESS.done += 1
        return super().process(record)

    def finish_bundle(self) -> Iterator[WindowedValue]:
        yield from super().finish_bundle()
        PROGRESS.enter(LEARNING)


class _WriteLists(WriteShards):
    """Its rows are the lists that were made."""

    def start_bundle(self) -> None:
        super().start_bundle()
        PROGRESS.enter(RANKING, PROGRESS.counts["users"])

    def process(self, record: object) -> Iterator[Shard]:
        PROGRESS.done += 1
        PROGRESS.counts["lists"] += 1
        return super().process(record)


class PublishTables(beam.DoFn):
    """Builds the tables from all shards and makes them visible; once per run, however often it is tried."""

    def __init__(self, output: str, run_id: str, if_exists: IfExists, limits: TableLimits) -> None:
        self._output = output
        self._run_id = run_id
        self._if_exists = if_exists
        self._limits = limits

    def process(self, group: tuple[int, Iterable[Shard | None]]) -> Iterator[TableReceipt]:
        shards = sorted(shard for shard in group[1] if shard is not None)
        PROGRESS.enter(WRITING)
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
