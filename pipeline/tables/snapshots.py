"""The tables of an endless run: bundles leave shards, and a snapshot folds them in every few seconds.

    with prepare_output(output, run_id, if_exists), Snapshots(output, run_id, if_exists, every_seconds=10):
        {"recommendations": lists, ...} | WriteStream(output, run_id)
        pipeline.run().wait_until_finish()

A shard is on disk below `<output>/.stream-<run_id>/` before its bundle commits. A snapshot appends
the shards to the history tables, merges `recommendations_latest` (a stale list never overwrites a
newer one) and deletes the shards, all in one publication: what is killed in between neither loses
nor doubles a row. Shards left by a killed run are folded in at the next start. Rows of a bundle
that an engine runs again stand in the history again, but for lists of one version.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final

import apache_beam as beam
import pyarrow.compute as pc
import pyarrow.parquet as pq

from models.errors import LivelistError, UsageError
from models.records import Micros
from pipeline.tables.files import WRITTEN_TABLES, Shard, TableLimits, publish_shards
from pipeline.tables.output_folder import (
    STREAM,
    IfExists,
    TableReceipt,
    check_if_exists,
    check_run_id,
    is_local,
    local_path,
    settle,
    staging_path,
    stream_path,
    unwritable,
)
from pipeline.tables.shards import WriteStreamShards

_LOCK: Final = "LOCK"
_LOGGER: Final = logging.getLogger(__name__)


class WriteStream(beam.PTransform):
    """Writes a dict of table name -> endless PCollection of its records as shards for Snapshots.

    Each bundle is durable before it commits. Local folders only. Returns nothing of use.
    """

    def __init__(self, output: str, run_id: str, limits: TableLimits | None = None) -> None:
        super().__init__()
        if not is_local(output):
            raise UsageError(f"--output {output}: an endless run writes its tables into a local folder")
        self._output = output
        self._run_id = check_run_id(run_id)
        self._limits = limits or TableLimits()

    def expand(self, tables: dict[str, beam.PCollection[object]]) -> dict[str, beam.PCollection[None]]:
        unknown = sorted(set(tables) - set(WRITTEN_TABLES))
        if unknown or not tables:
            raise ValueError(
                f"tables: expected some of {', '.join(WRITTEN_TABLES)}, got {', '.join(unknown)}"
            )
        return {
            name: records
            | f"WriteShards_{name}"
            >> beam.ParDo(WriteStreamShards(name, self._output, self._run_id, self._limits))
            for name, records in tables.items()
        }


def take_snapshot(
    output: Path,
    run_id: str,
    limits: TableLimits | None = None,
    if_exists: IfExists = "append",
    bundle: int | None = None,
    among: Collection[Path] | None = None,
) -> tuple[TableReceipt, ...] | None:
    """Folds the shards that bundles have left into the tables; None when there are none.

    With `bundle` only those of the bundles up to that one, with `among` only these.

    With `replace` they become the tables, and all that stood there goes in the same step. Any process
    may call it at any time; of two at once, one does the work. Raises OutputError, and then every
    shard is still there for the next snapshot.
    """
    stream = stream_path(output, run_id)
    with _sole(stream) as alone:
        shards = _shards_in(stream, bundle, among) if alone else []
        if not shards:
            return None
        publication = f"{run_id}-{time.time_ns() // 1000:016d}"
        try:
            return publish_shards(output, run_id, if_exists, shards, limits or TableLimits(), publication)
        except OSError as error:
            raise unwritable(output, error) from error
        finally:
            settle(staging_path(output, publication))


def fold_streams(output: Path) -> None:
    """Takes the last snapshot of endless runs that were killed. Raises OutputError."""
    for stream in sorted(output.glob(f"{STREAM}*")):
        take_snapshot(output, stream.name.removeprefix(STREAM))
        shutil.rmtree(stream, ignore_errors=True)


@contextmanager
def _sole(stream: Path) -> Iterator[bool]:
    stream.mkdir(parents=True, exist_ok=True)
    lock = os.open(stream / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield True
    except BlockingIOError:
        yield False
    finally:
        os.close(lock)


def drop_shards(stream: Path, after: int) -> Micros:
    """Deletes the shards of bundles beyond `after`, which run again; returns the highest list version."""
    highest = 0
    for path in stream.glob("*/*.shard"):
        if _bundle_of(path) <= after:
            continue
        if path.parent.name == "recommendations":
            versions = pq.read_table(path, columns=["state_version"], partitioning=None)["state_version"]
            highest = max(highest, pc.max(versions).as_py() or 0)
        path.unlink()
    return highest


def _bundle_of(path: Path) -> int:
    number, dash, _ = path.name.partition("-")
    return int(number) if dash else 0


def _shards_in(stream: Path, bundle: int | None, among: Collection[Path] | None) -> list[Shard]:
    paths = sorted(stream.glob("*/*.shard"))
    chosen = paths if among is None else sorted(set(paths) & set(among))
    return [_shard(path) for path in chosen if bundle is None or _bundle_of(path) <= bundle]


def _shard(path: Path) -> Shard:
    metadata = pq.read_metadata(path)
    held = sum(metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups))
    return Shard(path.parent.name, str(path), metadata.num_rows, held)


class Snapshots(AbstractContextManager["Snapshots"]):
    """Takes a snapshot every few seconds in a thread of the launcher, and a last one at the end.

    Entering makes the tables exist: emptied for `replace`, as they are for `append`. A snapshot
    that fails is tried again; leaving raises its OutputError if the last one fails too.
    """

    def __init__(
        self,
        output: str,
        run_id: str,
        if_exists: str,
        every_seconds: float,
        limits: TableLimits | None = None,
    ) -> None:
        if every_seconds <= 0:
            raise UsageError(f"--snapshot_every_seconds must be above 0, got {every_seconds:g}")
        self._output = local_path(output)
        self._run_id = check_run_id(run_id)
        self._if_exists = check_if_exists(if_exists)
        self._every_seconds = every_seconds
        self._limits = limits or TableLimits()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="snapshots", daemon=True)

    def __enter__(self) -> Snapshots:
        start = f"{self._run_id}-start"
        try:
            publish_shards(self._output, self._run_id, self._if_exists, [], self._limits, start)
        except OSError as error:
            raise unwritable(self._output, error) from error
        finally:
            settle(staging_path(self._output, start))
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        take_snapshot(self._output, self._run_id, self._limits)
        shutil.rmtree(stream_path(self._output, self._run_id), ignore_errors=True)

    def _run(self) -> None:
        while not self._stop.wait(self._every_seconds):
            try:
                take_snapshot(self._output, self._run_id, self._limits)
            except LivelistError as error:
                _LOGGER.warning("the tables are not refreshed: %s", error)
