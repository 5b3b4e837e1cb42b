"""A run of WriteTables over given records, for the tests of sinks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from models.table_columns import table_from_records
from models.tables import QualityRow
from pipeline.tables.files import Shard, TableLimits, publish_shards, sort_rows
from pipeline.tables.output_folder import TableReceipt, check_if_exists
from pipeline.tables.shards import write_shard
from pipeline.tables.sinks import WriteTables, prepare_output
from tests.models.table_records import dead_letter, scored, top_k

BOOKS = {
    "input": 6, "accepted.scored": 2, "accepted.without_text": 1, "duplicate": 1,
    "quarantined.late": 1, "dead_lettered.invalid_json": 1, "note.bursts": 7, "unaccounted": 0,
}  # fmt: skip
RECORDS: Mapping[str, Sequence[object]] = {
    "recommendations": [top_k("bob", 5, ["coat"]), top_k("ann", 4), top_k("cat", 9, tombstone=True)],
    "scored_feedback": [scored(f"e{n}", user) for user in ("ann", "bob") for n in (1, 2, 3)],
    "quality": [QualityRow(f"accounting.{name}", float(count)) for name, count in BOOKS.items()],
    "dead_letters": [dead_letter("f:1")],
    "quarantine": [dead_letter("f:2", "late")],
}


def write_tables(
    output: Path | str,
    records: Mapping[str, Sequence[object]],
    if_exists: str = "replace",
    run_id: str = "run-1",
    limits: TableLimits | None = None,
    options: Sequence[str] = (),
) -> None:
    """A whole run: prepare, write, publish, release."""
    with prepare_output(str(output), run_id, if_exists):
        run_pipeline(str(output), records, if_exists, run_id, limits, options)


def run_pipeline(
    output: str,
    records: Mapping[str, Sequence[object]],
    if_exists: str = "replace",
    run_id: str = "run-1",
    limits: TableLimits | None = None,
    options: Sequence[str] = (),
) -> None:
    """The job alone."""
    with beam.Pipeline("FnApiRunner", options=PipelineOptions(list(options))) as pipeline:
        tables = {name: pipeline | name >> beam.Create(list(rows)) for name, rows in records.items()}
        written = tables | "WriteTables" >> WriteTables(output, run_id, if_exists, limits)
        written | "Receipts" >> beam.Map(_check_receipt)


def _check_receipt(receipt: TableReceipt) -> None:
    assert receipt.files > 0


def publish_records(
    output: Path,
    records: Mapping[str, Sequence[object]],
    run_id: str,
    if_exists: str = "replace",
    limits: TableLimits | None = None,
    shards: int = 1,
) -> None:
    """The same without the engine: each table in `shards` shards, then the publication."""
    limits = limits or TableLimits()
    with prepare_output(str(output), run_id, if_exists):
        written = write_all_shards(output, records, run_id, shards)
        publish_shards(output, run_id, check_if_exists(if_exists), written, limits)


def write_all_shards(
    output: Path, records: Mapping[str, Sequence[object]], run_id: str, shards: int = 1
) -> list[Shard]:
    """What the bundles of a run leave in its staging folder."""
    written = []
    for name, rows in records.items():
        for part in (rows[place::shards] for place in range(shards)):
            table = sort_rows(name, table_from_records(name, part, run_id))
            path = write_shard(str(output), run_id, name, table)
            written.append(Shard(name, path, len(table), table.nbytes))
    return written


def visible_files(output: Path) -> list[str]:
    """Everything in the folder but the lock."""
    found = (path.relative_to(output) for path in output.rglob("*") if path.is_file())
    return sorted(str(path) for path in found if path.name != ".livelist.lock")
