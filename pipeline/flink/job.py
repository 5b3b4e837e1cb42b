"""The endless job on a Flink cluster: the same recommender, with sources and sinks that live on workers.

States and timers are Flink's, in RocksDB; the panes that refresh a list are Flink's bundles. Rows leave
as shards on a disk that all workers share, and the job's steward folds them into the tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeAlias

import apache_beam as beam

from models.adapters.base import RawRecord
from models.errors import UsageError
from pipeline.config import JobConfig
from pipeline.connectors.addresses import KafkaTopic, PubsubSubscription, SourceAddress
from pipeline.connectors.registry import check_source, make_sink, make_source
from pipeline.connectors.unbounded import pulled_source
from pipeline.connectors.uris import parse_sink, parse_source, redacted
from pipeline.connectors.write_to_sink import WriteToSinks
from pipeline.endless import BOOKS, endless_tables, sorted_inputs
from pipeline.flags.engines import Engine, changed_fields, refuse_meaningless
from pipeline.flink.books import KeepBooks
from pipeline.flink.reading import ReadByTimer
from pipeline.flink.source import ALL_READ, DRAIN, IDLE_BUNDLE_SECONDS, follow_on_cluster, progress_file
from pipeline.inputs.finding import check_inputs
from pipeline.inputs.growing_files import check_followed
from pipeline.tables.output_folder import is_local
from pipeline.tables.snapshots import WriteStream
from transforms.score_beside import ScoreBeside, TextsOf
from transforms.score_feedback import ScoreFeedback, TextModelHandler

_FEEDBACK: Final = "FollowFeedback"
#: The name of the step that reads it -> its records.
_Inputs: TypeAlias = dict[str, beam.PCollection[RawRecord]]


def check_flink(config: JobConfig) -> None:
    """Raises where a job cannot be endless on a Flink cluster, with what to do instead."""
    if "-" in config.inputs:
        raise UsageError("Flink's workers cannot read this terminal's stdin: append to a file they share")
    if config.form.name != "jsonl":
        raise UsageError(f"an endless job follows JSON lines, not --format {config.form.name}: convert them")
    if not is_local(config.output):
        raise UsageError(f"on Flink, --output is a folder that all workers share, got {config.output}")
    refuse_meaningless(changed_fields(config), Engine.FLINK)
    files, pulled = sorted_inputs(config)
    addresses = {uri: parse_source(uri) for uri in pulled} | {uri: parse_sink(uri) for uri in config.sinks}
    for uri, address in addresses.items():
        _check_whole(uri, getattr(address, "config_file", ""), "config")
        _check_whole(uri, getattr(address, "root", ""), "the folder")
    # Only now, for they need their clients.
    for uri in pulled:
        make_source(uri)
    for uri in config.sinks:
        make_sink(uri)
    check_followed(files)
    if config.items:
        check_inputs(config.items)


def _check_whole(uri: str, path: str, what: str) -> None:
    """Refuses a path that means another file where the workers run; URLs and absent ones are fine."""
    if path and "://" not in path and not path.startswith("/"):
        raise UsageError(
            f"{redacted(uri)}: {what} is {path}, which workers look for elsewhere; give its whole path"
        )


def check_services(config: JobConfig) -> None:
    """Connects to all that workers would read and write, in bounded time, as a run on one machine does.

    Raises InputError, OutputError or DeploymentError where a topic, a subscription, a database or the
    access to it is missing: a job on a cluster would restart over it for ever.
    """
    for uri in sorted_inputs(config)[1]:
        address = parse_source(uri)
        beside = _texts_beside(address)
        for each in (address, beside) if isinstance(beside, PubsubSubscription) else (address,):
            check_source(each)
    for uri in config.sinks:
        sink = make_sink(uri)
        try:
            sink.open()
        finally:
            sink.close()


def build_flink(
    pipeline: beam.Pipeline,
    config: JobConfig,
    score_feedback: ScoreFeedback,
    run_id: str,
    job_folder: Path,
    poll_seconds: float,
    spread: bool,
) -> None:
    """Source, recommender and sinks; the names of the steps are those of the states in savepoints.

    With `spread`, records go round to all workers before they are parsed and scored.
    """
    read = _Reading(pipeline, config, job_folder, poll_seconds)
    feedback = read.feedback()
    records = _as_one(feedback, "AllFeedback")
    scoring: beam.PTransform = score_feedback
    if (serving := score_feedback.serving()) is not None:
        words = _as_one(read.texts(feedback), "AllTexts")
        texts = words | "Texts" >> TextsOf(config.form.adapter, config.cleaning)
        scoring = ScoreBeside(texts, TextModelHandler(serving))
    if spread:
        records = records | "SpreadRecords" >> beam.Reshuffle()
    for name, tables in endless_tables(records, config, scoring, KeepBooks(job_folder.absolute())).items():
        if name != BOOKS:  # which the steward writes
            tables | f"Write{name}" >> WriteStream(config.output, run_id)
        if config.sinks:
            tables | f"Send{name}" >> WriteToSinks(config.sinks, run_id)


@dataclass(frozen=True)
class _Reading:
    """The inputs of a job: for its lists, and once more for what is said in words.

    So a slow model pushes back on the second reading alone, and its backlog stays in the files, in Kafka
    behind a consumer group of its own, or in another Pub/Sub subscription to the same topic. Where none is
    named, texts leave the others behind the source, and a model that is slower than they come pushes back
    on all of these, once the engine's buffers are full.
    """

    pipeline: beam.Pipeline
    config: JobConfig
    job_folder: Path
    poll_seconds: float

    def feedback(self) -> _Inputs:
        """All inputs, each as a part of its own."""
        files, pulled = sorted_inputs(self.config)
        parts = {_FEEDBACK: self._follow(_FEEDBACK, files)} if files else {}
        for at, uri in enumerate(pulled):
            told = progress_file(self.job_folder, at)
            parts[f"PullFeedback{at}"] = self._pull(f"PullFeedback{at}", parse_source(uri), told)
        return parts

    def texts(self, feedback: _Inputs) -> _Inputs:
        """The same once more, but for what can be read once only."""
        files, pulled = sorted_inputs(self.config)
        parts = {"FollowTexts": self._follow("FollowTexts", files)} if files else {}
        for at, uri in enumerate(pulled):
            beside = _texts_beside(parse_source(uri))
            read_once = feedback[f"PullFeedback{at}"]
            parts[f"PullTexts{at}"] = self._pull(f"PullTexts{at}", beside) if beside else read_once
        return parts

    def _follow(self, name: str, files: Sequence[str]) -> beam.PCollection[RawRecord]:
        most_bytes = self.config.form.max_record_bytes
        return self.pipeline | name >> follow_on_cluster(
            files, self.job_folder, most_bytes, self.poll_seconds, tells=name == _FEEDBACK
        )

    def _pull(
        self, name: str, address: SourceAddress, told: Path | None = None
    ) -> beam.PCollection[RawRecord]:
        source = pulled_source(
            address,
            drain_file=self.job_folder / DRAIN,
            wait_seconds=IDLE_BUNDLE_SECONDS,
            max_record_bytes=self.config.form.max_record_bytes,
            doubtful=True,
            told=told,
        )
        return self.pipeline | name >> ReadByTimer(source, self.job_folder.absolute() / ALL_READ)


def _texts_beside(address: SourceAddress) -> SourceAddress | None:
    """Where the same messages are given once more; None where they are not."""
    if isinstance(address, KafkaTopic):
        return replace(address, group=f"{address.group}-texts")
    return address.for_texts() if address.texts else None


def _as_one(parts: _Inputs, name: str) -> beam.PCollection[RawRecord]:
    """A single one without a step more."""
    sources = list(parts.values())
    return sources[0] if len(sources) == 1 else sources | name >> beam.Flatten()
