"""The job on Dataflow: the same recommender, with sources and sinks that its workers reach.

Bounded runs read and write an object store. Endless ones read Pub/Sub by Dataflow's own source and Kafka by
ours, keep states and timers in Streaming Engine, and write to services: Dataflow's workers share no disk.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Final

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems
from apache_beam.io.gcp.pubsub import PubsubMessage, ReadFromPubSub

from models.adapters.base import RawRecord
from models.encoder.session import CPU_PROVIDERS
from pipeline.config import JobConfig
from pipeline.connectors.addresses import BigQueryDataset, DeltaFolder, PubsubSubscription
from pipeline.connectors.messages import record_of
from pipeline.connectors.unbounded import pulled_source, read_pulled
from pipeline.connectors.uris import parse_sink, parse_source
from pipeline.connectors.write_to_sink import WriteToSinks
from pipeline.endless import endless_tables, sorted_inputs
from pipeline.job import build_job, scorer_of, scoring_step
from pipeline.tables.output_folder import TableReceipt
from pipeline.tables.remote_output import delete_all, list_files
from transforms.score_beside import ScoreBeside, TextsOf
from transforms.score_feedback import ScoreFeedback, TextModelHandler

#: GPU -> the machine that it comes with; others are attached to the machine of --machine_type.
_MACHINES: Final = {"nvidia-l4": "g2-standard-4"}
#: They want few and large writes: there the rows of a table gather, up to so many.
_WAREHOUSES: Final = (BigQueryDataset, DeltaFolder)
_GATHERED_ROWS: Final = 20_000


def scorer_for_workers(config: JobConfig) -> ScoreFeedback:
    """The scoring step, on workers with a GPU where the providers ask for one, and no other step there.

    Raises DeploymentError where the model is not sound; the launcher needs no GPU to tell.
    """
    scorer_of(replace(config, providers=CPU_PROVIDERS))
    step = scoring_step(config)
    return step.with_resource_hints(**_hints(config))


def _hints(config: JobConfig) -> dict[str, str]:
    return {"accelerator": accelerator_hint(config.accelerator)} if wants_gpu(config) else {}


def wants_gpu(config: JobConfig) -> bool:
    """Whether texts are scored on a GPU."""
    return any(not provider.startswith("CPU") for provider in config.providers)


def accelerator_hint(kind: str) -> str:
    """One GPU a worker, as Dataflow's resource hint says it."""
    machine = f"machine_type:{_MACHINES[kind]};" if kind in _MACHINES else ""
    return f"type:{kind};count:1;{machine}install-nvidia-driver"


def build_bounded(
    pipeline: beam.Pipeline, config: JobConfig, score_feedback: beam.PTransform, run_id: str
) -> None:
    """Files in, tables out; the job clears away what it staged: its launcher may be gone by then."""
    receipts = build_job(pipeline, config, score_feedback, run_id)
    staged = FileSystems.join(config.output, f".staging-{run_id}", "**")
    # The shuffle makes the publication final before anything is deleted.
    receipts | "AfterPublication" >> beam.Reshuffle() | "DropStaged" >> beam.ParDo(_DropStaged(staged))


class _DropStaged(beam.DoFn):
    def __init__(self, pattern: str) -> None:
        self._pattern = pattern

    def process(self, receipt: TableReceipt) -> None:
        if receipt.table == "recommendations_latest":  # one of them
            delete_all(list_files(self._pattern))


def build_endless(
    pipeline: beam.Pipeline, config: JobConfig, score_feedback: ScoreFeedback, run_id: str
) -> None:
    """Sources, recommender and sinks. `--update` finds states by the names of the steps, so they stay.

    Texts leave the others behind the source, across a shuffle: the service keeps their backlog when the
    encoder is slow, and lists go on without it.
    """
    records = _read(pipeline, config)
    scoring: beam.PTransform = score_feedback
    if (serving := score_feedback.serving()) is not None:
        texts = records | "Texts" >> TextsOf(config.form.adapter, config.cleaning)
        scoring = ScoreBeside(texts, TextModelHandler(serving), _hints(config))
    writes = endless_tables(records, config, scoring)
    gathered = tuple(uri for uri in config.sinks if gathers(uri))
    direct = tuple(uri for uri in config.sinks if uri not in gathered)
    for name, tables in writes.items():
        if direct:
            tables | f"Send{name}" >> WriteToSinks(direct, run_id)
    if gathered:
        rows = _by_table(writes)
        loads = {
            table: made | f"Gather_{table}" >> GatherRows(config.snapshot_every_seconds)
            for table, made in rows.items()
        }
        loads | "LoadGathered" >> WriteToSinks(gathered, run_id)


def gathers(sink: str) -> bool:
    """Whether a sink gets its rows together, every `snapshot_every_seconds`."""
    return isinstance(parse_sink(sink), _WAREHOUSES)


def _by_table(writes: dict[str, dict[str, beam.PCollection]]) -> dict[str, beam.PCollection]:
    """All rows of a table as one: writers of one table would only wait for each other."""
    made: dict[str, list[beam.PCollection]] = {}
    for tables in writes.values():
        for table, rows in tables.items():
            made.setdefault(table, []).append(rows)
    return {table: tuple(parts) | f"All_{table}" >> beam.Flatten() for table, parts in made.items()}


@dataclass
class GatherRows(beam.PTransform):
    """Rows -> the same rows, in bundles of what came in `seconds`; a drain lets go of all at once."""

    seconds: float

    def expand(self, rows: beam.PCollection[object]) -> beam.PCollection[object]:
        return (
            rows
            | "OneKey" >> beam.Map(_one_key)
            | "Gather" >> beam.GroupIntoBatches(_GATHERED_ROWS, max_buffering_duration_secs=self.seconds)
            | "Rows" >> beam.FlatMap(_values)
        )


def _one_key(row: object) -> tuple[int, object]:
    return 0, row


def _values(batch: tuple[int, list[object]]) -> list[object]:
    return list(batch[1])


def _read(pipeline: beam.Pipeline, config: JobConfig) -> beam.PCollection[RawRecord]:
    """All inputs as one; a single one without a step more."""
    sources = [
        pipeline | f"PullFeedback{number}" >> _source(uri, config.form.max_record_bytes)
        for number, uri in enumerate(sorted_inputs(config)[1])
    ]
    return sources[0] if len(sources) == 1 else sources | "AllFeedback" >> beam.Flatten()


def _source(uri: str, max_record_bytes: int) -> beam.PTransform:
    address = parse_source(uri)
    if isinstance(address, PubsubSubscription):
        return PullSubscription(address, max_record_bytes)
    return read_pulled(pulled_source(uri, max_record_bytes=max_record_bytes))


@dataclass
class PullSubscription(beam.PTransform):
    """Pipeline -> endless PCollection[RawRecord], by the service's own source.

    It acknowledges a message when what was made of it is durable, follows the times of publication by
    its watermark, and scales by the backlog. Repeats need no label: the state knows each event by its id.
    """

    address: PubsubSubscription
    max_record_bytes: int

    def expand(self, pipeline: beam.Pipeline) -> beam.PCollection[RawRecord]:
        return (
            pipeline
            | "ReadMessages" >> ReadFromPubSub(subscription=self.address.path, with_attributes=True)
            | "AsRecords"
            >> beam.Map(raw_record_of, self.address.subscription, self.max_record_bytes).with_output_types(
                tuple[bytes, str, bytes, str]
            )
        )


def raw_record_of(message: PubsubMessage, subscription: str, max_record_bytes: int) -> RawRecord:
    """A message as a raw record; one without an id, as some runners hand them over, is known by its bytes."""
    payload: bytes = message.data or b""
    known = message.message_id or hashlib.sha256(payload).hexdigest()[:32]
    return record_of(payload, f"pubsub:{subscription}:{known}", max_record_bytes)
