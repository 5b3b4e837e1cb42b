"""The tables of an endless run on this machine: published every few seconds, with its books and trends.

Each snapshot is one step for all that the run keeps. Between two bundles a picture is taken of the
states, the places in the log and the books; it goes to disk as a checkpoint; then what the bundles up
to there have left is folded into the tables, and what of the spool nobody needs any more is deleted.
A start takes up the newest checkpoint, folds what belongs to it and drops what will run again: so a
row stands once, whatever died in between.

Where the folder holds tables already, `replace` leaves them to their readers until the log that is
there has been read: the first snapshot then takes their place whole.
"""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final

from models.accounting import INPUT, Accounting
from models.errors import OutputError
from models.records import Micros, TopK
from models.table_columns import table_from_records
from models.tables import AlertRow, QualityRow
from models.times import wall_clock
from pipeline import heap
from pipeline.live.checkpoints import Checkpoint, hold, oldest_lane, write_checkpoint
from pipeline.live.expiry import Expiry
from pipeline.live.spool import delete_read
from pipeline.live.state import Done, LiveState
from pipeline.live.told import told_error
from pipeline.live.trends import LiveTrends
from pipeline.tables.files import TableLimits, publish_shards, sort_rows
from pipeline.tables.output_folder import (
    IfExists,
    parquet_files,
    settle,
    staging_path,
    stream_path,
    unwritable,
)
from pipeline.tables.shards import leave_shard
from pipeline.tables.snapshots import take_snapshot

#: So many snapshots in a row may fail; then the run drains and ends with the error.
_MOST_FAILURES: Final = 3
_POLL_SECONDS: Final = 0.1
#: A bundle is over by then, or the engine stands still.
_BUNDLE_SECONDS: Final = 120.0
#: A checkpoint of many users takes its time: the next one follows so many times as long later.
_REST: Final = 4.0
#: Without feedback for so long, windows close by the wall clock.
_IDLE_SECONDS: Final = 60.0
_LOG: Final = logging.getLogger(__name__)


@dataclass(frozen=True)
class LiveFolders:
    """Where an endless run writes."""

    output: Path
    state_dir: Path
    spools: tuple[Path, ...] = ()


class LiveTables(AbstractContextManager["LiveTables"]):
    """Takes snapshots in a thread of the launcher while the job runs; `close_books` takes the last one.

    Each writes what was counted since the one before as rows of `quality` with a window of wall
    clock; the last adds the sums of the whole run, without a window.
    """

    def __init__(
        self,
        folders: LiveFolders,
        run_id: str,
        if_exists: IfExists,
        every_seconds: float,
        state: LiveState,
        capture: Callable[[Done, bool], Checkpoint],
        trends: LiveTrends,
        ready: Callable[[], bool],
        expiry: Expiry,
    ) -> None:
        self._folders = folders
        self._output = folders.output
        self._run_id = run_id
        self._mode = if_exists
        self._every_seconds = every_seconds
        self._state = state
        self._capture = capture
        self._trends = trends
        self._ready = ready  # whether the lists of the log that was there are made
        self._expiry = expiry
        self._due: list[TopK] = []  # lists of users who left, which were held back
        self._told: Counter[str] = Counter(state.books())
        self._told_time: Micros = wall_clock()
        self._failed_in_a_row = 0
        self._ready_told = False
        self._alerts: list[AlertRow] = []  # that other threads raised
        self._lock = threading.Lock()  # one snapshot at a time
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="snapshots", daemon=True)
        self.snapshots = 0
        self.failures = 0
        self.checkpoint: Path | None = None  # the newest
        self.checkpoint_seconds = 0.0  # that it took
        self.error: OutputError | None = None  # that ended the run

    def __enter__(self) -> LiveTables:
        standing = parquet_files(self._output / "recommendations_latest")
        if self._mode != "replace" or not standing:
            self._publish_empty()
            self._mode = "append"
        self._thread.start()
        return self

    def raise_alert(self, kind: str, subject: str, evidence: str) -> None:
        """A row of `alerts` with the next snapshot: something that people should look at."""
        self._alerts.append(AlertRow(kind, "job", subject, wall_clock(), evidence))

    def _take_alerts(self) -> list[AlertRow]:
        alerts, self._alerts = self._alerts, []
        return alerts

    def take_now(self) -> Path | None:
        """A snapshot at once. Its checkpoint, in a folder that the caller deletes; None: no bundle ended."""
        with self._lock:
            checkpoint = self._snapshot()
            return None if checkpoint is None else hold(checkpoint)

    def close_books(self, waiting: Sequence[TopK], checks: Sequence[QualityRow] = ()) -> Accounting:
        """The end of a drain: lists held back, sums, `checks`, the last snapshot. Raises OutputError."""
        self._end_thread()
        if self.error is not None:
            raise self.error
        with self._lock:
            return self._close(self._state.picture(), waiting, checks)

    def _close(self, done: Done, waiting: Sequence[TopK], checks: Sequence[QualityRow]) -> Accounting:
        accounting = Accounting(done.books)
        if waiting:
            self._leave("recommendations", waiting, done.bundle)
        self._leave("quality", [*accounting.rows(), *checks], done.bundle)
        self._write_down(self._capture(done, self._mode == "replace"))
        return accounting

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end_thread()
        if error is None:
            shutil.rmtree(stream_path(self._output, self._run_id), ignore_errors=True)

    def _publish_empty(self) -> None:
        start = f"{self._run_id}-start"
        try:
            publish_shards(self._output, self._run_id, self._mode, [], TableLimits(), start)
        except OSError as error:
            raise unwritable(self._output, error) from error
        finally:
            settle(staging_path(self._output, start))

    def _run(self) -> None:
        self._await_lists()
        while not self._ended.is_set():
            self._try_snapshot()
            if self._failed_in_a_row >= _MOST_FAILURES:
                self._state.stop.set()
                return
            self._ended.wait(max(self._every_seconds, _REST * self.checkpoint_seconds))

    def _await_lists(self) -> None:
        """Until the log that was there is in lists: the first ones do not wait for their interval to end."""
        deadline = time.monotonic() + self._every_seconds
        while time.monotonic() < deadline and not self._ended.wait(_POLL_SECONDS):
            if self._ready():
                self._tell_ready()
                return

    def _tell_ready(self) -> None:
        """Once, when it is so."""
        if not self._ready_told and self._ready():
            self._ready_told = True
            _LOG.info("all that was there is in lists: %d records", self._state.books()[INPUT])

    def _try_snapshot(self) -> None:
        try:
            with self._lock:
                self._snapshot()
        except Exception as error:  # a thread must not die in silence
            self.failures += 1
            self._failed_in_a_row += 1
            _LOG.error("the tables are not refreshed: %s", told_error(error))
            if self._failed_in_a_row >= _MOST_FAILURES:
                self.error = _output_error(self._output, error)

    def _snapshot(self) -> Path | None:
        taken: list[Checkpoint] = []

        def take(done: Done) -> None:
            self._drop_left()
            taken.append(self._capture(done, self._mode == "replace"))
            if self._state.caught_up.is_set():
                self._state.forget_trends(self._trends.oldest_open(done))

        if not self._state.between(take, 0 if self._ended.is_set() else _BUNDLE_SECONDS):
            return None
        return self._write_down(taken[0])

    def _drop_left(self) -> None:
        held_back = self._expiry.drop()
        self._state.lists += len(held_back)
        self._due += held_back

    def _write_down(self, checkpoint: Checkpoint) -> Path:
        done, began = checkpoint.done, time.monotonic()
        self._tell_counts(done)
        self._leave("recommendations", self._due, done.bundle)
        self._due = []
        self._leave("trends", self._trends.rows(done), done.bundle)
        if self._state.caught_up.is_set():
            alerts = self._take_alerts()
            idle = time.time() - self._state.last_read > _IDLE_SECONDS
            self._leave("alerts", [*alerts, *self._trends.alerts(done, idle)], done.bundle)
        self.checkpoint = write_checkpoint(self._folders.state_dir, checkpoint)
        self.checkpoint_seconds = time.monotonic() - began
        self._expiry.look(checkpoint.states, done.newest)
        self._tell_ready()
        if not checkpoint.replacing or self._ended.is_set() or self._ready():
            self._fold(done.bundle)
        for spool in self._folders.spools:
            delete_read(spool, oldest_lane(self._folders.state_dir))
        heap.give_back()
        return self.checkpoint

    def _fold(self, bundle: int) -> None:
        published = take_snapshot(self._output, self._run_id, if_exists=self._mode, bundle=bundle)
        if self._failed_in_a_row:
            _LOG.warning("the tables are refreshed again, after %d failures", self._failed_in_a_row)
        self._failed_in_a_row = 0
        if published is not None:
            self._mode = "append"
            self.snapshots += 1
        self._state.snapshot_time = time.time()

    def _tell_counts(self, done: Done) -> None:
        """Rows of what the bundles since the last call counted."""
        books, now = done.books, wall_clock()
        since = {code: count - self._told[code] for code, count in books.items() if count != self._told[code]}
        if since:
            window = (self._told_time, now)
            rows = [
                QualityRow(row.check, row.value, *window, row.threshold) for row in Accounting(since).rows()
            ]
            self._leave("quality", rows, done.bundle)
        self._told, self._told_time = Counter(books), now

    def _leave(self, table: str, records: Sequence[object], bundle: int) -> None:
        if records:
            rows = table_from_records(table, records, self._run_id, wall_clock())
            leave_shard(
                self._output, self._run_id, table, sort_rows(table, rows), bundle, self._state.outboxes
            )

    def _end_thread(self) -> None:
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()


def _output_error(output: Path, error: Exception) -> OutputError:
    if isinstance(error, OutputError):
        return error
    if isinstance(error, OSError):
        return unwritable(output, error)
    return OutputError(f"the tables in {output} cannot be written: {told_error(error)}")
