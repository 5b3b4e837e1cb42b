"""One endless run on this machine: files that grow or messages in, tables that follow within seconds out.

The engine is FnApiRunner, in this process. Its state dies with the process, so what counts is on
disk: the log, which is the files that are followed and the spools of what was pulled, and every few
seconds a checkpoint of everybody's state. A start takes up the newest checkpoint and reads the log
from there. The engine runs one bundle at a time, and keeps no time: the panes that refresh a list
are the bundles, which are what arrived since the one before.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, cast

from apache_beam.options.pipeline_options import PipelineOptions

from models.accounting import INPUT, Accounting
from models.canary import in_words
from models.encoder.serving import Refusal
from models.errors import LivelistError, UsageError
from models.ranking.index import read_pointer
from models.state import UserState
from pipeline import heap
from pipeline.config import JobConfig
from pipeline.connectors.base import PullSource, TableSink
from pipeline.connectors.feeder import SinkFeeder
from pipeline.connectors.registry import make_sink, make_source
from pipeline.connectors.uris import parse_sink, redacted, refuse_texts_of
from pipeline.flags.engines import Engine, changed_fields, refuse_meaningless
from pipeline.inputs.finding import check_inputs
from pipeline.inputs.growing_files import Place, check_followed
from pipeline.job import NO_MODEL, scorer_of
from pipeline.live.checkpoints import Checkpoint, picture
from pipeline.live.expiry import Expiry
from pipeline.live.follow import Followed, follow, forget_followed
from pipeline.live.job import ENGINE, run_pipeline
from pipeline.live.log import LiveLog
from pipeline.live.pulling import Puller
from pipeline.live.reindex import Reindexer
from pipeline.live.spool import Spool
from pipeline.live.start import (
    TakenUp,
    files_of,
    fingerprint,
    folder_of,
    sole_owner,
    state_folder,
    streams_of,
    take_up,
)
from pipeline.live.state import Done, LiveState, forget_state, live_state
from pipeline.live.tables import LiveFolders, LiveTables
from pipeline.live.text_lane import Scorer, TextLane
from pipeline.live.trends import LiveTrends
from pipeline.tables.output_folder import IfExists, check_if_exists, is_local, local_path, prepare_local
from transforms.live_store import forget_store, live_store
from transforms.score_late import ScoreLate, forget_queue, score_queue
from transforms.suppress_unchanged import ORDER_BYTES, take_waiting

_MICROS: Final = 1_000_000
#: A drain waits so long for each sink; what it has not taken then waits in its outbox for the next run.
_SINK_SECONDS: Final = 30.0
_LOG: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LiveReport:
    """What an endless run did until it was drained."""

    run_id: str
    output: str
    accounting: Accounting  # since the log began, restarts included
    lists: int  # refreshed by this process; those that were held back and came out at the end included
    snapshots: int
    failed_snapshots: int
    rebuilds: int  # of the index, the first included
    failed_rebuilds: int
    freshness: tuple[float, ...] | None  # seconds from arrival to list, at most: p50, p95, p99
    unfinished: tuple[str, ...]  # files whose last line had no end, which was not read
    canary: tuple[str, ...]  # of each pair of models that were compared, one line
    index: Path | None
    seconds: float


@dataclass
class LiveRun:
    """The parts of one run, for its launcher and for what watches it."""

    config: JobConfig
    run_id: str
    state: LiveState
    open_source: Callable[[str], PullSource] = make_source
    open_sink: Callable[[str], TableSink] = make_sink
    pullers: list[Puller] = field(default_factory=list)
    feeders: list[SinkFeeder] = field(default_factory=list)
    lane: TextLane | None = None
    tables: LiveTables | None = None
    indexer: Reindexer | None = None
    _read_anew: bool = False
    _reranked: bool = False

    @property
    def lists_wait(self) -> bool:
        """Whether users have no list because the index knows no item yet, but may."""
        if not live_store(self.run_id).relist or self.indexer is None:
            return False
        return not self.indexer.settled

    def ready(self) -> bool:
        """Whether all that was in the log at the start is in lists."""
        return self.state.caught_up.is_set() and not live_store(self.run_id).relist

    def capture(self, done: Done, replacing: bool) -> Checkpoint:
        """A checkpoint of this moment; the caller sees to it that no bundle runs."""
        self._tell_refused_indexes()
        taken = cast(Mapping[str, Place], score_queue(self.run_id).cursor)
        lane = taken if self.lane is not None else done.cursor
        store = live_store(self.run_id)
        return picture(self.run_id, fingerprint(self.config), done, store, lane, replacing)

    def refused(self, refusal: Refusal) -> None:
        """A new model that is not sound: the old one serves on, and people are told."""
        if self.tables is not None:
            told = json.dumps({"serving": refusal.serving, "why": refusal.reason})
            self.tables.raise_alert("model_refused", refusal.version, told)

    def lane_stopped(self, why: str) -> None:
        """No text gets a score any more: people are told at once, and the drain ends with it."""
        if self.tables is not None:
            self.tables.raise_alert("text_lane_stopped", "texts", json.dumps({"why": why}))

    def _tell_refused_indexes(self) -> None:
        store = live_store(self.run_id)
        refusals, store.refusals = store.refusals, []
        for why in refusals:
            if self.tables is not None:
                self.tables.raise_alert("index_refused", "index", json.dumps({"why": why}))

    def unfinished(self) -> bool:
        """Whether a drain has to wait: for scores, for first lists, for lists that are made anew."""
        if self.lane is not None and self.lane.behind:
            return True
        if self.config.rerank_at_drain and not self._read_anew:
            self._read_anew = True
            if self.lane is not None and self._has_older_scores():
                self.lane.read_anew()
                return True
        if self.config.rerank_at_drain and not self._reranked:
            self._reranked = True
            self._relist_outdated()
        return bool(live_store(self.run_id).relist) and (self.lists_wait or self._knows_items())

    def _knows_items(self) -> bool:
        return self.indexer is not None and self.indexer.knows_items

    def _has_older_scores(self) -> bool:
        """Whether a model scored something that is not the one that is published now."""
        scorers = scorer_of(self.config).load()
        newest = None if scorers is None else scorers.newest_version()
        states = map(UserState.decode, live_store(self.run_id).states.values())
        scores = (event.score for state in states for event in state.events.values())
        return any(score is not None and score.model_version != newest for score in scores)

    def _relist_outdated(self) -> None:
        index = read_pointer(local_path(self.config.output))
        version = b"" if index is None else index.name.encode()
        store = live_store(self.run_id)
        store.relist |= {user for user, shown in store.shown.items() if shown[ORDER_BYTES:] != version}


def run_live(
    config: JobConfig,
    options: PipelineOptions,
    run_id: str,
    watch: Callable[[LiveRun], None] | None = None,
    open_source: Callable[[str], PullSource] = make_source,
    open_sink: Callable[[str], TableSink] = make_sink,
) -> LiveReport:
    """Runs until `live_state(run_id).stop` is set, then drains and returns what was done.

    A drain reads what is there at that moment, waits for the scores of its texts, emits the lists that
    were held back and takes the last snapshot. `watch` is told the parts before the job starts. Raises
    InputError, OutputError, UsageError or DeploymentError: before anything starts where an input, the
    output or the model is not sound, later where the disk is full.
    """
    check_live(config)
    scorer_of(config)
    heap.keep_small()
    run = LiveRun(config, run_id, live_state(run_id), open_source, open_sink)
    started = time.monotonic()
    output = local_path(config.output)
    with ExitStack() as running:
        for forget in (forget_state, forget_store, forget_queue, forget_followed):
            running.callback(forget, run_id)
        tables, indexer = _start(run, running, output)
        if watch is not None:
            watch(run)
        run.state.started.set()
        score_feedback = scorer_of(config) if run.lane is None else ScoreLate(run_id)
        run_pipeline(config, options, score_feedback, run_id)
        run.state.end()
        for puller in run.pullers:
            puller.drain()
            if puller.error is not None:
                raise puller.error
        waiting = take_waiting(run_id)
        checks = [] if run.lane is None else run.lane.canary.rows()
        accounting = tables.close_books(waiting, checks)
        for feeder in run.feeders:
            feeder.drain(_SINK_SECONDS)
        if run.lane is not None and run.lane.error:
            raise LivelistError(_lane_told(run.lane.error))
        _LOG.info("drained: %s", accounting.as_line())
        return LiveReport(
            run_id=run_id,
            output=config.output,
            accounting=accounting,
            lists=run.state.lists + len(waiting),
            snapshots=tables.snapshots,
            failed_snapshots=tables.failures,
            rebuilds=indexer.rebuilds,
            failed_rebuilds=indexer.failures,
            freshness=run.state.freshness.recent_quantiles(),
            unfinished=run.state.unfinished,
            canary=tuple(in_words((row.check, row.value) for row in checks)),
            index=read_pointer(output),
            seconds=time.monotonic() - started,
        )


def _start(run: LiveRun, running: ExitStack, output: Path) -> tuple[LiveTables, Reindexer]:
    """Everything that runs beside the pipeline, in the order in which it is needed."""
    config, state, state_dir = run.config, run.state, state_folder(run.config)
    running.enter_context(prepare_local(output, run.run_id, _allowed(config, state_dir)))
    running.enter_context(sole_owner(state_dir))
    begun = take_up(config, run.run_id, state)
    _tell_start(run.run_id, state_dir, begun)
    store = live_store(run.run_id)
    state.unlisted = lambda: bool(store.relist)
    _feed(run, running, state_dir, restarted=begun.checkpoint is not None)
    spools = _pull(run, running, state_dir)
    _follow(run, begun, spools)
    trends = LiveTrends(output, config.trend_window_seconds * _MICROS, state.picture().trends)
    folders = LiveFolders(output, state_dir, tuple(spools))
    run.tables = tables = LiveTables(
        folders,
        run.run_id,
        begun.if_exists,
        config.snapshot_every_seconds,
        state,
        run.capture,
        trends,
        run.ready,
        Expiry(store, config.state.ttl_micros),
    )
    run.indexer = indexer = Reindexer(config, tables.take_now, state)
    running.push(indexer.__exit__)
    indexer.publish_first(begun.checkpoint is not None)
    running.enter_context(tables)
    if run.lane is not None:
        running.enter_context(run.lane)
    indexer.__enter__()
    return tables, indexer


def _lane_told(why: str) -> str:
    return (
        f"drained, but texts got no scores since the text lane stopped ({why}); the tables hold all else: "
        "start again, the next run scores them from the log"
    )


def _tell_start(run_id: str, state_dir: Path, begun: TakenUp) -> None:
    if begun.checkpoint is None:
        _LOG.info("run %s begins: there is no checkpoint in %s", run_id, state_dir)
        return
    done, users = begun.checkpoint.done, len(begun.checkpoint.states)
    told = "run %s goes on from the checkpoint of bundle %d in %s: %d records read, %d users"
    _LOG.info(told, run_id, done.bundle, state_dir, done.books[INPUT], users)


def _allowed(config: JobConfig, state_dir: Path) -> IfExists:
    """A restart appends, whatever the first start was told."""
    return "append" if any((state_dir / "checkpoints").glob("[0-9]*")) else check_if_exists(config.if_exists)


def _feed(run: LiveRun, running: ExitStack, state_dir: Path, restarted: bool) -> None:
    """Starts a feeder for each sink; every shard goes into its outbox from now on."""
    outboxes = []
    for uri in run.config.sinks:
        outbox = folder_of(state_dir / "outbox", uri)
        feeder = SinkFeeder(redacted(uri), outbox, run.open_sink(uri), restarted)
        run.feeders.append(running.enter_context(feeder))
        outboxes.append(outbox)
    run.state.outboxes = tuple(outboxes)


def _pull(run: LiveRun, running: ExitStack, state_dir: Path) -> list[Path]:
    """Starts a puller for each source; returns the folders of their spools."""
    folders = []
    for uri in streams_of(run.config):
        folder = folder_of(state_dir / "spool", uri)
        puller = Puller(run.open_source(uri), Spool(folder), run.state.stop)
        run.pullers.append(running.enter_context(puller))
        folders.append(folder)
    return folders


def _follow(run: LiveRun, begun: TakenUp, spools: list[Path]) -> None:
    config, limit = run.config, run.config.form.max_record_bytes
    files, checkpoint = files_of(config), begun.checkpoint
    if config.model != NO_MODEL:
        behind = LiveLog(files, spools, limit, checkpoint.lane if checkpoint else None)
        queue = score_queue(run.run_id)
        scorers = _scorer(config)
        run.lane = TextLane(config, behind, scorers, run.state, queue, run.refused, run.lane_stopped)
        waits = queue.ready.is_set
    else:
        waits = _never
    log = LiveLog(files, spools, limit, run.state.cursor)
    follow(run.run_id, Followed(log, waits, run.unfinished))


def _never() -> bool:
    return False


def _scorer(config: JobConfig) -> Scorer:
    scorers = scorer_of(config).load()
    assert scorers is not None  # there is no lane without a model
    return scorers


def check_engine(runner: str) -> None:
    """Raises UsageError where an engine would do nothing, silently or otherwise, with an endless job."""
    why = {
        "DirectRunner": "it chooses among three engines by itself",
        "BundleBasedDirectRunner": "it refuses sources that checkpoint",
    }.get(runner, "no endless job is made for it")
    if runner != ENGINE:
        raise UsageError(
            f"--streaming does not run on {runner}: {why}; leave --runner out, or pass {ENGINE}, "
            "FlinkRunner, PrismRunner or DataflowRunner"
        )


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
    refuse_meaningless(changed_fields(config), Engine.LOCAL)
    refuse_texts_of(streams_of(config), "on one machine")
    for uri in config.sinks:
        parse_sink(uri)
    if files := files_of(config):
        check_followed(files)
    if config.items:
        check_inputs(config.items)
