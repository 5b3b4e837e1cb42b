"""One bounded run: files in, tables out."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from models.accounting import Accounting
from models.encoder.serving import SHIPPED
from models.errors import UsageError
from models.ranking.index import read_pointer
from models.value import RatingScale
from models.views import ViewPolicy
from pipeline.config import JobConfig
from pipeline.connectors.uris import redacted
from pipeline.ingest import Ingested, ingest
from pipeline.inputs.finding import check_inputs
from pipeline.progress import JOB_STAGES, PROGRESS, READING_ITEMS
from pipeline.recommender import RecommenderConfig, build_recommender
from pipeline.tables.output_folder import TableReceipt, is_local, local_path, new_run_id
from pipeline.tables.reader import last_published, read_accounting
from pipeline.tables.sinks import WriteTables, prepare_output
from transforms.score_feedback import ScoreFeedback

#: The value of --model that switches scoring off.
NO_MODEL: Final = "none"


@dataclass(frozen=True, slots=True)
class RunReport:
    """What a run did."""

    run_id: str
    output: str
    accounting: Accounting
    rows: dict[str, int]  # table -> rows published by this run
    index: Path | None  # directory of the published index, where it is on this machine
    seconds: float


def run_job(config: JobConfig, options: PipelineOptions) -> RunReport:
    """Runs the job to its end and returns what it did.

    Raises InputError, OutputError or DeploymentError before anything starts where an input is
    missing, the output cannot be written or the model is not sound.
    """
    PROGRESS.begin(*(stage for stage in JOB_STAGES if config.items or stage != READING_ITEMS))
    if config.sinks:
        raise UsageError(
            f"--output {redacted(config.sinks[0])} goes with --streaming; a bounded run writes tables alone"
        )
    check_inputs([*config.inputs, *config.items])
    score_feedback = scorer_of(config)
    run_id = new_run_id()
    started = time.monotonic()
    output = prepare_output(config.output, run_id, config.if_exists)
    with output, _rare_collections():
        pipeline = beam.Pipeline(options=options)
        build_job(pipeline, config, score_feedback, run_id)
        pipeline.run().wait_until_finish()
    return run_report(config, run_id, time.monotonic() - started)


def run_report(config: JobConfig, run_id: str, seconds: float) -> RunReport:
    """What a run that is over has published."""
    return RunReport(
        run_id=run_id,
        output=config.output,
        accounting=read_accounting(config.output),
        rows=_published_rows(config.output),
        index=read_pointer(local_path(config.output)) if is_local(config.output) else None,
        seconds=seconds,
    )


@contextmanager
def _rare_collections() -> Iterator[None]:
    """Records form no cycles, and looking for garbage cycles among them took a sixth of a run."""
    before = gc.get_threshold()
    gc.set_threshold(20_000, 10, 10)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _published_rows(output: str) -> dict[str, int]:
    published = last_published(output)
    return {receipt.table: receipt.rows for receipt in published.receipts} if published else {}


def scorer_of(config: JobConfig) -> ScoreFeedback:
    """The scoring step; raises DeploymentError here, before the job starts, when it could not work."""
    score_feedback = scoring_step(config)
    scorer = score_feedback.load()
    if scorer is not None:
        before = scorer.texts  # of earlier runs in this process
        PROGRESS.texts = lambda: scorer.texts - before
    return score_feedback


def scoring_step(config: JobConfig) -> ScoreFeedback:
    """The scoring step, not looked at yet."""
    model = None if config.model == NO_MODEL else config.model or SHIPPED
    return ScoreFeedback(
        model, config.providers, config.topics, config.threads,
        config.model_poll_seconds, config.canary_model, config.canary_share,
    )  # fmt: skip


def view_policy(config: JobConfig) -> ViewPolicy:
    """The cleaning policies that are views over the state."""
    cleaning = config.cleaning
    return ViewPolicy(
        rating_scale=RatingScale(*cleaning.rating_scale),
        missing_rating=cleaning.missing_rating,
        normalize_ratings=cleaning.normalize_ratings,
        content_duplicates=cleaning.content_duplicates,
        bursts=cleaning.bursts,
    )


def build_job(
    pipeline: beam.Pipeline, config: JobConfig, score_feedback: beam.PTransform, run_id: str
) -> beam.PCollection[TableReceipt]:
    """Source, recommender and sinks on one pipeline; the index is published beside the tables.

    Returns what was published of each table, once it is.
    """
    ingested = ingest(pipeline, config)
    tables = build_recommender(
        ingested.events,
        ingested.items,
        ingested.accounting,
        score_feedback,
        recommender_config(config),
    )
    tables = with_rejects(tables, ingested)
    return tables | "WriteTables" >> WriteTables(config.output, run_id, config.if_exists)


def with_rejects(tables: dict[str, beam.PCollection], ingested: Ingested) -> dict[str, beam.PCollection]:
    """The tables, with what was rejected before the recommender."""
    rejected = {"dead_letters": ingested.dead_letters, "quarantine": ingested.quarantine}
    return tables | {
        name: (tables[name], *early) | f"All_{name}" >> beam.Flatten() for name, early in rejected.items()
    }


def recommender_config(config: JobConfig) -> RecommenderConfig:
    """The parts of the job's configuration that the recommender uses; the index is beside the tables."""
    return RecommenderConfig(
        index_root=str(local_path(config.output)) if is_local(config.output) else config.output,
        k=config.k,
        state=config.state,
        policy=view_policy(config),
        index=config.index,
        ranking=config.ranking,
        now=config.now,
        allowed_lateness=config.allowed_lateness,
        history_window_seconds=config.history_window_seconds if config.emit_history else None,
        trend_window_seconds=config.trend_window_seconds,
    )
