"""One endless run on this machine: files that grow in, tables that follow within seconds out.

The engine is FnApiRunner, in this process. Its state dies with the process, so the log is the truth:
a start reads it from the beginning, and lists are what a bounded run over the same log and index
would have made of them. It runs one bundle at a time, and keeps no time: the panes that refresh a
list are the bundles, which are what arrived since the one before.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import apache_beam as beam
import pyarrow as pa
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import fn_runner, worker_handlers

from models.accounting import DEAD_LETTERED, Accounting
from models.errors import InputError, OutputError, UsageError
from models.ranking.index import read_pointer
from models.records import DeadLetter, TopK
from pipeline.config import JobConfig
from pipeline.follow import follow_files
from pipeline.growing_files import check_followed
from pipeline.inputs import check_inputs
from pipeline.job import recommender_config, scorer_of
from pipeline.live_state import LiveState, forget_state, live_state
from pipeline.live_tables import LiveTables
from pipeline.output_folder import check_if_exists, is_local, local_path
from pipeline.recommender import build_live_recommender
from pipeline.reindex import Reindexer
from pipeline.sinks import prepare_output
from pipeline.snapshots import WriteStream
from transforms.clean_feedback import CleanFeedback
from transforms.parse_feedback import ParseFeedback
from transforms.suppress_unchanged import take_waiting

#: The only engine that runs it so far.
ENGINE: Final = "FnApiRunner"


@dataclass(frozen=True, slots=True)
class LiveReport:
    """What an endless run did until it was drained."""

    run_id: str
    output: str
    accounting: Accounting
    lists: int  # refreshed; those that were held back and came out at the end included
    snapshots: int
    failed_snapshots: int
    rebuilds: int  # of the index, the first included
    failed_rebuilds: int
    freshness: tuple[float, float] | None  # seconds from arrival to list: half, and 95% of the lists, at most
    unfinished: tuple[str, ...]  # files whose last line had no end, which was not read
    index: Path | None
    seconds: float


def run_live(config: JobConfig, options: PipelineOptions, run_id: str) -> LiveReport:
    """Runs until `live_state(run_id).stop` is set, then drains and returns what was done.

    A drain reads what is there at that moment, emits the lists that were held back and takes the
    last snapshot. Raises InputError, OutputError, UsageError or DeploymentError: before anything
    starts where an input, the output or the model is not sound, later where the disk is full.
    """
    check_live(config)
    score_feedback = scorer_of(config)
    state = live_state(run_id)
    started = time.monotonic()
    output = local_path(config.output)
    with ExitStack() as running:
        running.callback(forget_state, run_id)
        running.callback(take_waiting, run_id)
        running.enter_context(prepare_output(config.output, run_id, config.if_exists))
        indexer = Reindexer(config, state.stop)
        running.push(indexer.__exit__)
        indexer.publish_first()
        mode = check_if_exists(config.if_exists)
        tables = running.enter_context(LiveTables(output, run_id, mode, config.snapshot_every_seconds, state))
        indexer.__enter__()
        state.started.set()
        _run_pipeline(config, options, score_feedback, run_id)
        state.begin_bundle()
        waiting = take_waiting(run_id)
        accounting = tables.close_books(waiting)
        return LiveReport(
            run_id=run_id,
            output=config.output,
            accounting=accounting,
            lists=state.lists + len(waiting),
            snapshots=tables.snapshots,
            failed_snapshots=tables.failures,
            rebuilds=indexer.rebuilds,
            failed_rebuilds=indexer.failures,
            freshness=state.freshness_quantiles(),
            unfinished=state.unfinished,
            index=read_pointer(output),
            seconds=time.monotonic() - started,
        )


def check_engine(runner: str) -> None:
    """Raises UsageError where an engine would do nothing, silently or otherwise, with an endless job."""
    why = {
        "DirectRunner": "it chooses among three engines by itself",
        "BundleBasedDirectRunner": "it refuses sources that checkpoint",
        "PrismRunner": "it was seen not to drain",
    }.get(runner.rpartition(".")[2], "that comes later")
    if runner != ENGINE:
        raise UsageError(f"--streaming does not run on {runner}: {why}; leave --runner out, or pass {ENGINE}")


def check_live(config: JobConfig) -> None:
    """Raises where a job cannot be endless on this machine, with what to do instead."""
    if "-" in config.inputs:
        raise UsageError("--streaming follows files, not stdin: let what writes it append to a file")
    if config.form.name != "jsonl":
        raise UsageError(
            f"--streaming follows JSON lines, not --format {config.form.name}; convert the files, or run "
            "without --streaming"
        )
    if not is_local(config.output):
        raise UsageError(f"--streaming writes into a folder of this machine, got --output {config.output}")
    if config.emit_history:
        raise UsageError("--emit_history is for bounded runs; an endless one keeps every list that it makes")
    if config.now is not None:
        raise UsageError("--now is for bounded runs; an endless one ranks as of the newest feedback")
    if config.allowed_lateness_seconds is not None:
        raise UsageError(
            "--allowed_lateness_seconds does not go with --streaming yet: it starts by reading the whole "
            "log, where all is late by the wall clock"
        )
    check_followed(config.inputs)
    if config.items:
        check_inputs(config.items)


def _run_pipeline(
    config: JobConfig, options: PipelineOptions, score_feedback: beam.PTransform, run_id: str
) -> None:
    pipeline = beam.Pipeline(ENGINE, options=options)
    build_live(pipeline, config, score_feedback, run_id)
    try:
        with _engine_for_long():
            pipeline.run().wait_until_finish()
    except RuntimeError as error:
        raise _told_plainly(error) from error


@contextmanager
def _engine_for_long() -> Iterator[None]:
    """The engine without what it gathers for a short run."""
    before = worker_handlers.STATE_CACHE_SIZE_MB, fn_runner.consolidate_monitoring_infos
    pool = pa.default_memory_pool()
    # The state is in this process anyway; a cache of it would only measure the size of each value.
    worker_handlers.STATE_CACHE_SIZE_MB = 0
    # It chains the metrics of all bundles lazily, to be added up at the end: some 50 kB a bundle, for ever.
    fn_runner.consolidate_monitoring_infos = _no_metrics
    # Arrow's own allocator keeps a little of every small file.
    pa.set_memory_pool(pa.system_memory_pool())
    try:
        yield
    finally:
        worker_handlers.STATE_CACHE_SIZE_MB, fn_runner.consolidate_monitoring_infos = before
        pa.set_memory_pool(pool)


def _no_metrics(*infos: object, **how: object) -> tuple[()]:
    return ()


def _told_plainly(error: RuntimeError) -> Exception:
    """The error of ours that the engine wrapped into the text of its own, or its own."""
    for kind in (OutputError, InputError):
        _, found, message = str(error).rpartition(f"{kind.__module__}.{kind.__name__}: ")
        if found:
            return kind(message.split("\n")[0].split(" [while running")[0])
    return error


def build_live(
    pipeline: beam.Pipeline, config: JobConfig, score_feedback: beam.PTransform, run_id: str
) -> None:
    """Source, recommender and sinks, as one stage: this engine holds back all that lies behind a shuffle.

    So no step may be a GroupByKey, a Flatten or wait for a side input or a timer; outputs that go to one
    table are written apart.
    """
    records = pipeline | "FollowFeedback" >> follow_files(config.inputs, run_id, config.form.max_record_bytes)
    parsed = records | "ParseFeedback" >> ParseFeedback(cleaning=config.cleaning)
    cleaned = parsed.events | "CleanFeedback" >> CleanFeedback(config.cleaning)
    made = build_live_recommender(
        cleaned.events, score_feedback, recommender_config(config), config.refresh_every_seconds, run_id
    )
    lists = made["recommendations"] | "NoteLists" >> beam.ParDo(_NoteLists(run_id))
    writes = {
        "Lists": {"recommendations": lists, "scored_feedback": made["scored_feedback"]},
        "Unread": {"dead_letters": parsed.dead_letters, "quarantine": parsed.quarantine},
        "Unclean": {"dead_letters": cleaned.dead_letters, "quarantine": cleaned.quarantine},
        "Unfit": {"dead_letters": made["dead_letters"], "quarantine": made["quarantine"]},
    }
    for name, tables in writes.items():
        tables | f"Write{name}" >> WriteStream(config.output, run_id)
    failed = made["dead_letters"] | "CountFailed" >> beam.Map(_count_dead_letter)
    counts = (parsed.accounting, cleaned.accounting, failed, made["accounting"], made["suppressed"])
    for number, counted in enumerate(counts):
        counted | f"Account{number}" >> beam.ParDo(_Account(run_id))


def _count_dead_letter(letter: DeadLetter) -> tuple[str, int]:
    return DEAD_LETTERED + letter.error_code, 1


class _WithState(beam.DoFn):
    """Reaches the run's state in this process."""

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id

    def setup(self) -> None:
        self._state: LiveState = live_state(self._run_id)


class _NoteLists(_WithState):
    def process(self, made: TopK) -> Iterator[TopK]:
        self._state.listed(made.emitted_time)
        yield made


class _Account(_WithState):
    def process(self, counted: tuple[str, int]) -> None:
        self._state.count(*counted)
