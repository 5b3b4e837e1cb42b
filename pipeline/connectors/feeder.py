"""SinkFeeder: a thread that carries an endless run's shards from a folder to a sink, for as long as it takes.

The folder is the queue: files named `<bundle>-<table>-<anything>.parquet`, made whole and durable
by whoever leaves them, deleted here once the sink has them. So a sink that is slow or away costs
disk and no memory, and what a killed process had not sent is sent by the next one. Files go out in
the order of their names; a sink takes rows twice without harm.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from models.errors import LivelistError, OutputError
from models.tables import SCHEMAS
from pipeline.connectors.base import TableSink
from pipeline.connectors.retrying import RefusedRowsError

#: An empty folder is looked at this often.
POLL_SECONDS: Final = 0.05
#: Files of one table go out together, up to so many rows or bytes in memory.
MAX_ROWS: Final = 20_000
MAX_BYTES: Final = 64 << 20
_FIRST_PAUSE_SECONDS: Final = 1.0
_LONGEST_PAUSE_SECONDS: Final = 30.0
#: Below the folder: rows that the sink will never take.
REFUSED: Final = "refused"
_SUFFIX: Final = ".parquet"
_LOGGER: Final = logging.getLogger(__name__)


@dataclass(slots=True)
class FeedCounts:
    """What one feeder did so far; read it from any thread."""

    rows: int = 0
    failures: int = 0  # in a row; 0 while the sink takes what it is given
    refused: int = 0  # rows, set aside under `refused/`
    last_error: str = ""


class _Batch(NamedTuple):
    table: str
    paths: list[Path]
    rows: pa.Table


class SinkFeeder(AbstractContextManager["SinkFeeder"]):
    """Feeds one sink from one folder between entering and leaving, or until `drain`.

    Entering opens the sink and raises its error: a wrong address is told at the start. Later a sink
    that fails is asked again, for ever, ever more slowly; `counts` and the log say so. So it is from the
    start on when a run is `restarted` whose folder stands: that sink was there once, and may be away now.
    """

    def __init__(self, name: str, folder: Path, sink: TableSink, restarted: bool = False) -> None:
        self.name = name  # for people: the address without secrets
        self.counts = FeedCounts()
        self._folder = folder
        self._sink = sink
        self._may_be_away = restarted and folder.is_dir()
        self._opened = False
        self._stop = threading.Event()
        self._draining = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sink-feeder", daemon=True)

    def __enter__(self) -> SinkFeeder:
        if not self._may_be_away:
            self._open()
            self._folder.mkdir(parents=True, exist_ok=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self._sink.close()

    def waiting(self) -> int:
        """Files that the sink does not have yet."""
        return len(self._files())

    def drain(self, seconds: float) -> None:
        """Returns when all is sent that is there. Raises OutputError after so long; the rest is kept."""
        self._draining.set()
        deadline = time.monotonic() + seconds
        while self._thread.is_alive() and (left := self.waiting()):
            if time.monotonic() > deadline:
                raise OutputError(
                    f"{self.name} has not taken {left} files within {seconds:g} s"
                    f"{f' ({self.counts.last_error})' if self.counts.last_error else ''}; they wait in "
                    f"{self._folder} and are sent by the next run"
                )
            self._stop.wait(POLL_SECONDS)

    def _open(self) -> None:
        self._sink.open()
        self._opened = True

    def _run(self) -> None:
        pause = _FIRST_PAUSE_SECONDS
        while not self._stop.is_set():
            try:
                if not self._opened:
                    self._open()
                    self._tell_success()
                sent = self._send_some()
            except Exception as error:  # a thread must not die in silence
                self._tell_failure(error)
                # Whoever drains is waiting: it is asked again sooner.
                self._stop.wait(min(pause, _FIRST_PAUSE_SECONDS) if self._draining.is_set() else pause)
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
                continue
            pause = _FIRST_PAUSE_SECONDS
            if sent:
                self._tell_success()
            else:
                self._stop.wait(POLL_SECONDS)

    def _send_some(self) -> bool:
        batch = _next_batch(self._files())
        if batch is None:
            return False
        try:
            self._sink.write(batch.table, batch.rows)
        except RefusedRowsError:
            write_what_it_takes(self._sink, batch.table, batch.rows, self._set_aside)
        for path in batch.paths:
            path.unlink()
        self.counts.rows += len(batch.rows)
        return True

    def _files(self) -> list[Path]:
        with suppress(FileNotFoundError):
            with os.scandir(self._folder) as entries:
                names = sorted(entry.name for entry in entries if entry.name.endswith(_SUFFIX))
            return [self._folder / name for name in names]
        return []

    def _set_aside(self, table: str, rows: pa.Table, error: RefusedRowsError) -> None:
        folder = self._folder / REFUSED
        folder.mkdir(exist_ok=True)
        path = folder / f"{time.time_ns()}-{table}{_SUFFIX}"
        partial = path.with_suffix(".partial")
        pq.write_table(rows, partial)
        os.replace(partial, path)
        self.counts.refused += len(rows)
        _LOGGER.error("%s refused %d rows of %s, kept in %s: %s", self.name, len(rows), table, path, error)

    def _tell_failure(self, error: Exception) -> None:
        self.counts.failures += 1
        self.counts.last_error = str(error) if isinstance(error, LivelistError) else repr(error)
        if self.counts.failures == 1:
            _LOGGER.warning("%s; what is meant for it waits in %s", self.counts.last_error, self._folder)

    def _tell_success(self) -> None:
        if self.counts.failures:
            _LOGGER.warning("%s takes rows again, after %d failures", self.name, self.counts.failures)
        self.counts.failures = 0
        self.counts.last_error = ""


def write_what_it_takes(
    sink: TableSink, table: str, rows: pa.Table, refused: Callable[[str, pa.Table, RefusedRowsError], None]
) -> None:
    """Writes rows of which the sink refuses some, by halving; `refused` gets those, one at a time."""
    try:
        sink.write(table, rows)
    except RefusedRowsError as error:
        if len(rows) == 1:
            refused(table, rows, error)
            return
        half = len(rows) // 2
        write_what_it_takes(sink, table, rows.slice(0, half), refused)
        write_what_it_takes(sink, table, rows.slice(half), refused)


def _next_batch(files: Sequence[Path]) -> _Batch | None:
    """The oldest file, and those of its table that follow it."""
    if not files:
        return None
    table = _table_of(files[0])
    paths: list[Path] = []
    parts: list[pa.Table] = []
    rows = size = 0
    for path in files:
        if rows >= MAX_ROWS or size >= MAX_BYTES:
            break
        if _table_of(path) != table:
            continue
        part = pq.read_table(path, partitioning=None)
        paths.append(path)
        parts.append(part.select([name for name in SCHEMAS[table].names if name in part.column_names]))
        rows += len(part)
        size += part.nbytes
    return _Batch(table, paths, pa.concat_tables(parts, promote_options="default"))


def _table_of(path: Path) -> str:
    name = path.name.split("-", 2)[1]
    if name not in SCHEMAS:
        raise OutputError(f"{path}: expected a file <bundle>-<table>-<name>.parquet; move it away")
    return name
