"""The output folder on a local disk: who may write, and how a finished run becomes visible.

A run writes everything below `<output>/.staging-<run_id>/` and publishes it at the end:

    .staging-<run_id>/shards/<table>/*.shard      what the bundles wrote
    .staging-<run_id>/tables/<table>/*.parquet    the finished tables, complete
    .staging-<run_id>/PUBLISH                     the journal: from here on the run counts

Each step of the journal is one rename (a file over a file, or two folders exchanged), so a reader
of a table sees the old rows or the new ones, and always some file. Tables change one after the
other within milliseconds, the current lists last. A run that was killed leaves a staging folder:
with a journal it is completed at the next start, without one it is deleted.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from models.errors import OutputError, UsageError
from models.tables import SCHEMA_VERSION, TABLES, schema_version_of, table_of

IfExists = Literal["replace", "append", "error"]
IF_EXISTS: Final[tuple[IfExists, ...]] = ("replace", "append", "error")

SINGLE_FILE: Final = "part-00000.parquet"
RECEIPT_FILE: Final = ".published.json"
STREAM: Final = ".stream-"
_STAGING: Final = ".staging-"
_JOURNAL: Final = "PUBLISH"
_LOCK: Final = ".livelist.lock"
_NO_SPACE: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_PROBE_BYTES: Final = 1 << 16
_RENAME_EXCHANGE: Final = 2
_AT_FDCWD: Final = -100


@dataclass(frozen=True, slots=True)
class TableReceipt:
    """What a run published of one table."""

    table: str
    rows: int  # of this run; of recommendations_latest, the rows now in the table
    files: int  # now in the table


def new_run_id() -> str:
    """A run's name: its start in UTC and six random hex digits; sorts by time."""
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()) + "-" + secrets.token_hex(3)


def check_run_id(run_id: str) -> str:
    """`run_id` itself; it becomes part of file names. Raises UsageError."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", run_id):
        raise UsageError(f"run_id: expected up to 64 letters, digits, - and _, got {run_id!r}")
    return run_id


def check_if_exists(if_exists: str) -> IfExists:
    """`if_exists` itself, typed. Raises UsageError."""
    for known in IF_EXISTS:
        if if_exists == known:
            return known
    raise UsageError(f"if_exists: expected one of {', '.join(IF_EXISTS)}, got {if_exists!r}")


def is_local(output: str) -> bool:
    """Whether `output` is a folder of this machine rather than gs://, s3:// or hdfs://."""
    return "://" not in output or output.startswith("file://")


def local_path(output: str) -> Path:
    """The folder of a local `output`; a leading ~ is expanded."""
    return Path(output.removeprefix("file://")).expanduser()


def staging_path(output: Path, run_id: str) -> Path:
    """Where a run writes until it is published."""
    return output / f"{_STAGING}{run_id}"


def stream_path(output: Path, run_id: str) -> Path:
    """Where the bundles of an endless run leave their shards; see pipeline.tables.snapshots."""
    return output / f"{STREAM}{run_id}"


def parquet_files(folder: Path) -> list[Path]:
    """The files of a table, in name order; none where the folder is missing."""
    return sorted(folder.glob("*.parquet"))


class OutputLease(AbstractContextManager["OutputLease"]):
    """The right to write into a folder, held by the launcher for the length of a run.

    Leaving it deletes what an unpublished run had staged, so that a failed run frees the disk.
    """

    def __init__(self, output: Path, run_id: str, lock: int | None) -> None:
        self.output = output
        self.run_id = run_id
        self._lock = lock

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def release(self) -> None:
        """Completes or deletes what is staged, and lets others write; may be called twice."""
        if self._lock is None:
            return
        try:
            settle(staging_path(self.output, self.run_id))
        finally:
            os.close(self._lock)
            self._lock = None


def prepare_local(output: Path, run_id: str, if_exists: IfExists) -> OutputLease:
    """Checks that a run may write into `output`, and repairs what killed runs left.

    Raises OutputError when the folder cannot be written, is being written by another run, holds
    files that livelist did not write, or does not fit `if_exists`.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
        _probe(output)
        lock = _take_lock(output)
    except OSError as error:
        raise unwritable(output, error) from error
    try:
        recover(output)
        _check_tables(output, if_exists)
        staging_path(output, run_id).mkdir()
    except OSError as error:
        os.close(lock)
        raise unwritable(output, error) from error
    except BaseException:
        os.close(lock)
        raise
    return OutputLease(output, run_id, lock)


def unwritable(output: Path | str, error: OSError) -> OutputError:
    """The readable form of an operating system's refusal to write."""
    if error.errno in _NO_SPACE:
        return OutputError(
            f"no space left to write the tables in {output} ({os.strerror(error.errno)}); free some space or "
            "choose another --output; the tables of earlier runs are untouched"
        )
    places = [Path(output), *Path(output).parents]
    if isinstance(error, FileExistsError | NotADirectoryError) and any(place.is_file() for place in places):
        file = next(place for place in places if place.is_file())
        return OutputError(f"--output {output}: expected a folder, but {file} is a file; choose another")
    return OutputError(
        f"cannot write the tables in {output}: {error.strerror or error}; check its permissions or choose "
        "another --output"
    )


def _probe(output: Path) -> None:
    path = output / f".probe-{secrets.token_hex(4)}"
    try:
        with open(path, "wb") as file:
            file.write(bytes(_PROBE_BYTES))
            file.flush()
            os.fsync(file.fileno())
    finally:
        path.unlink(missing_ok=True)


def _take_lock(output: Path) -> int:
    lock = os.open(output / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise OutputError(
            f"another run is writing into {output}; wait for its end or choose another --output"
        ) from None
    except OSError as error:
        if error.errno not in {errno.ENOLCK, errno.EOPNOTSUPP}:  # a network disk without locks
            os.close(lock)
            raise
    return lock


def _check_tables(output: Path, if_exists: IfExists) -> None:
    present = {name: files for name in TABLES if (files := parquet_files(output / name))}
    for name in TABLES:
        if (output / name).exists() and not (output / name).is_dir():
            raise OutputError(
                f"{output / name}: expected a folder of the table {name}, found a file; move it away"
            )
    if present and if_exists == "error":
        raise OutputError(
            f"{output} already holds the tables {', '.join(present)}; pass --if_exists replace or append, "
            "or choose another --output"
        )
    for name, files in present.items():
        for path in files:
            _check_file(path, name, if_exists)


def _check_file(path: Path, name: str, if_exists: IfExists) -> None:
    try:
        schema = pq.read_schema(path)
    except pa.ArrowInvalid:
        schema = pa.schema([])
    if table_of(schema) != name:
        raise OutputError(f"livelist did not write {path} and will not touch it; choose another --output")
    version = schema_version_of(schema)
    if if_exists == "append" and version != SCHEMA_VERSION:
        raise OutputError(
            f"{path} has schema version {version}, this livelist writes {SCHEMA_VERSION}; "
            "pass --if_exists replace or choose another --output"
        )


def recover(output: Path) -> None:
    """Completes published runs that were killed meanwhile, and deletes what others left."""
    for staging in sorted(output.glob(f"{_STAGING}*")):
        settle(staging)
    for probe in output.glob(".probe-*"):
        probe.unlink(missing_ok=True)


def settle(staging: Path) -> None:
    """Completes the publication that a staging folder holds, if any, and deletes the folder."""
    if (staging / _JOURNAL).exists():
        roll_forward(staging)
    shutil.rmtree(staging, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class Step:
    """One rename or deletion of a publication; `source` is below the staging folder, `target` the output."""

    kind: Literal["file", "folder", "delete"]
    source: str
    target: str
    inode: int = 0  # of the staged folder: tells whether the exchange was done


def table_step(output: Path, staging: Path, table: str) -> Step:
    """How the staged folder of `table` takes the place of the published one.

    One file over one file wherever that is all: every file system can, and a reader that listed
    the folder before opens the new file. Otherwise the folders change places.
    """
    source = staging / "tables" / table
    single = [SINGLE_FILE]
    if os.listdir(source) == single and (output / table).is_dir() and os.listdir(output / table) == single:
        return Step("file", f"tables/{table}/{SINGLE_FILE}", f"{table}/{SINGLE_FILE}")
    return Step("folder", f"tables/{table}", table, source.stat().st_ino)


class Published(NamedTuple):
    """What was published last."""

    run_id: str
    receipts: tuple[TableReceipt, ...]
    publication: str  # the run_id of a bounded run; an endless run publishes again and again


def publish(staging: Path, steps: Iterable[Step], published: Published) -> None:
    """Makes staged tables visible. Once the journal is on disk the run will be published, whatever dies."""
    tables = [asdict(receipt) for receipt in published.receipts]
    content = {"run_id": published.run_id, "publication": published.publication, "tables": tables}
    _write_durably(staging / RECEIPT_FILE, json.dumps(content))
    journal = [*steps, Step("file", RECEIPT_FILE, RECEIPT_FILE)]
    partial = staging / f"{_JOURNAL}.partial"
    _write_durably(partial, json.dumps([asdict(step) for step in journal]))
    os.replace(partial, staging / _JOURNAL)
    _sync_folder(staging)
    roll_forward(staging)


def roll_forward(staging: Path) -> None:
    """Does the steps of the journal that are not done yet, then deletes the staging folder."""
    for fields in json.loads((staging / _JOURNAL).read_text()):
        _take_step(staging, Step(**fields))
    _sync_folder(staging.parent)
    (staging / _JOURNAL).unlink()
    shutil.rmtree(staging, ignore_errors=True)


def published_receipts(output: Path) -> Published | None:
    """The run that was published last and what it published; None before the first."""
    try:
        return read_receipts((output / RECEIPT_FILE).read_bytes())
    except FileNotFoundError:
        return None


def read_receipts(written: bytes) -> Published:
    """What a receipt file says."""
    found = json.loads(written)
    receipts = tuple(TableReceipt(**fields) for fields in found["tables"])
    return Published(found["run_id"], receipts, found["publication"])


def _take_step(staging: Path, step: Step) -> None:
    source, target = staging / step.source, staging.parent / step.target
    if step.kind == "delete":
        target.unlink(missing_ok=True)
        return
    if step.kind == "file":
        if source.exists():
            os.replace(source, target)
        return
    if target.exists() and target.stat().st_ino == step.inode:
        return
    if target.exists() and not exchange(source, target):
        # No atomic exchange on this file system: for an instant the table has no folder.
        old = staging / "old" / step.target
        old.parent.mkdir(exist_ok=True)
        os.rename(target, old)
    if not target.exists():
        os.rename(source, target)


def exchange(one: Path, other: Path) -> bool:
    """Lets two paths change places in one step; False where the file system cannot."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):
        return False
    done: int = renameat2(
        _AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), ctypes.c_uint(_RENAME_EXCHANGE)
    )
    if done == 0:
        return True
    code = ctypes.get_errno()
    if code in {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP}:
        return False
    raise OSError(code, os.strerror(code), str(other))


def _write_durably(path: Path, text: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def sync_file(path: Path) -> None:
    """Returns once the file is on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


_sync_folder = sync_file
