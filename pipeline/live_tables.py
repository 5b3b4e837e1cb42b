"""The tables of an endless run on this machine: published every few seconds, with its books.

Where the folder holds tables already, `replace` leaves them to their readers until the log that is
there has been read: the first snapshot then takes their place whole.
"""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Final

from models.accounting import Accounting
from models.errors import LivelistError, OutputError
from models.records import Micros, TopK
from models.table_columns import table_from_records
from models.tables import QualityRow
from models.times import wall_clock
from pipeline.live_state import LiveState
from pipeline.output_folder import (
    IfExists,
    parquet_files,
    settle,
    staging_path,
    stream_path,
    unwritable,
)
from pipeline.shards import store_shard
from pipeline.snapshots import take_snapshot
from pipeline.table_files import TableLimits, publish_shards, sort_rows

#: So many snapshots in a row may fail; then the run drains and ends with the error.
_MOST_FAILURES: Final = 3
_POLL_SECONDS: Final = 0.1
_LOG: Final = logging.getLogger(__name__)


class LiveTables(AbstractContextManager["LiveTables"]):
    """Takes snapshots in a thread of the launcher while the job runs; `close_books` takes the last one.

    Each writes what was counted since the one before as rows of `quality` with a window of wall
    clock; the last adds the sums of the whole run, without a window.
    """

    def __init__(
        self, output: Path, run_id: str, if_exists: IfExists, every_seconds: float, state: LiveState
    ) -> None:
        self._output = output
        self._run_id = run_id
        self._mode = if_exists
        self._every_seconds = every_seconds
        self._state = state
        self._told: Counter[str] = Counter()
        self._told_time: Micros = wall_clock()
        self._failed_in_a_row = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="snapshots", daemon=True)
        self.snapshots = 0
        self.failures = 0
        self.error: OutputError | None = None  # that ended the run

    def __enter__(self) -> LiveTables:
        standing = parquet_files(self._output / "recommendations_latest")
        if self._mode != "replace" or not standing:
            self._publish_empty()
            self._mode = "append"
        self._thread.start()
        return self

    def close_books(self, waiting: Sequence[TopK]) -> Accounting:
        """The end of a drain: lists that were held back, the sums, the last snapshot. Raises OutputError."""
        self._end_thread()
        if self.error is not None:
            raise self.error
        accounting = Accounting(self._state.books())
        if waiting:
            self._leave_shard("recommendations", waiting)
        self._tell_counts()
        self._leave_shard("quality", accounting.rows())
        self._snapshot()
        return accounting

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end_thread()
        # What a run wrote that failed before it had read the log is no match for what stands.
        if error is not None and self._mode == "append":
            self._try_snapshot()
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
            if self._mode != "replace" or self._state.caught_up.is_set():
                self._try_snapshot()
            if self._failed_in_a_row >= _MOST_FAILURES:
                self._state.stop.set()
                return
            self._ended.wait(self._every_seconds)

    def _await_lists(self) -> None:
        """Until the log that was there is in lists: the first ones do not wait for their interval to end."""
        deadline = time.monotonic() + self._every_seconds
        while time.monotonic() < deadline and not self._ended.wait(_POLL_SECONDS):
            if self._state.caught_up.is_set():
                return

    def _try_snapshot(self) -> None:
        try:
            self._tell_counts()
            self._snapshot()
        except Exception as error:  # a thread must not die in silence
            self.failures += 1
            self._failed_in_a_row += 1
            _LOG.error("the tables are not refreshed: %s", error)
            if self._failed_in_a_row >= _MOST_FAILURES:
                self.error = _output_error(self._output, error)

    def _snapshot(self) -> None:
        published = take_snapshot(self._output, self._run_id, if_exists=self._mode)
        self._failed_in_a_row = 0
        if published is not None:
            self._mode = "append"
            self.snapshots += 1
        self._state.snapshot_time = time.time()

    def _tell_counts(self) -> None:
        """Rows of what the bundles since the last call counted."""
        books, now = self._state.books(), wall_clock()
        since = {code: count - self._told[code] for code, count in books.items() if count != self._told[code]}
        if since:
            window = (self._told_time, now)
            rows = [
                QualityRow(row.check, row.value, *window, row.threshold) for row in Accounting(since).rows()
            ]
            self._leave_shard("quality", rows)
        self._told, self._told_time = books, now

    def _leave_shard(self, table: str, records: Sequence[QualityRow] | Sequence[TopK]) -> None:
        rows = sort_rows(table, table_from_records(table, list(records), self._run_id))
        try:
            store_shard(stream_path(self._output, self._run_id) / table, table, rows)
        except OSError as error:
            raise unwritable(self._output, error) from error

    def _end_thread(self) -> None:
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()


def _output_error(output: Path, error: Exception) -> OutputError:
    if isinstance(error, OutputError):
        return error
    if isinstance(error, OSError):
        return unwritable(output, error)
    why = str(error) if isinstance(error, LivelistError) else repr(error)
    return OutputError(f"the tables in {output} cannot be written: {why}")
