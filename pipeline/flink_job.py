"""The endless job on a Flink cluster: the same recommender, with sources and sinks that live on workers.

States and timers are Flink's, in RocksDB; the panes that refresh a list are Flink's bundles. Rows leave
as shards on a disk that all workers share, and the job's steward folds them into the tables.
"""

from __future__ import annotations

from pathlib import Path

import apache_beam as beam

from models.adapters.base import RawRecord
from models.errors import UsageError
from pipeline.config import JobConfig
from pipeline.connectors.registry import make_sink, make_source
from pipeline.connectors.unbounded import read_pulled
from pipeline.connectors.write_to_sink import WriteToSinks
from pipeline.endless import endless_tables, sorted_inputs
from pipeline.flink_source import DRAIN, follow_on_cluster
from pipeline.growing_files import check_followed
from pipeline.inputs import check_inputs
from pipeline.output_folder import is_local
from pipeline.snapshots import WriteStream


def check_flink(config: JobConfig) -> None:
    """Raises where a job cannot be endless on a Flink cluster, with what to do instead."""
    if "-" in config.inputs:
        raise UsageError("Flink's workers cannot read this terminal's stdin: append to a file they share")
    if config.form.name != "jsonl":
        raise UsageError(f"an endless job follows JSON lines, not --format {config.form.name}: convert them")
    if not is_local(config.output):
        raise UsageError(f"on Flink, --output is a folder that all workers share, got {config.output}")
    refused = {"--emit_history": config.emit_history, "--now": config.now is not None}
    for flag, given in refused.items():
        if given:
            raise UsageError(f"{flag} is for bounded runs")
    files, pulled = sorted_inputs(config)
    for uri in pulled:
        make_source(uri)
    for uri in config.sinks:
        make_sink(uri)
    check_followed(files)
    if config.items:
        check_inputs(config.items)


def build_flink(
    pipeline: beam.Pipeline,
    config: JobConfig,
    score_feedback: beam.PTransform,
    run_id: str,
    job_folder: Path,
    poll_seconds: float,
    spread: bool,
) -> None:
    """Source, recommender and sinks; the names of the steps are those of the states in savepoints.

    With `spread`, records go round to all workers before they are parsed and scored.
    """
    records = _read(pipeline, config, job_folder, poll_seconds)
    if spread:
        records = records | "SpreadRecords" >> beam.Reshuffle()
    writes = endless_tables(records, config, score_feedback)
    for name, tables in writes.items():
        tables | f"Write{name}" >> WriteStream(config.output, run_id)
        if config.sinks:
            tables | f"Send{name}" >> WriteToSinks(config.sinks, run_id)


def _read(
    pipeline: beam.Pipeline, config: JobConfig, job_folder: Path, poll_seconds: float
) -> beam.PCollection[RawRecord]:
    """All inputs as one; a single one without a step more."""
    files, pulled = sorted_inputs(config)
    sources = []
    if files:
        follow = follow_on_cluster(files, job_folder, config.form.max_record_bytes, poll_seconds)
        sources.append(pipeline | "FollowFeedback" >> follow)
    for number, uri in enumerate(pulled):
        pull = read_pulled(
            uri,
            poll_seconds=poll_seconds,
            drain_file=job_folder / DRAIN,
            max_record_bytes=config.form.max_record_bytes,
        )
        sources.append(pipeline | f"PullFeedback{number}" >> pull)
    return sources[0] if len(sources) == 1 else sources | "AllFeedback" >> beam.Flatten()
