"""The output folder on another file system than the local disk (gs://, s3://, hdfs://).

Shards travel through the file system; one worker builds the tables on its own disk and sends them
file by file. On an object store each file appears whole and `recommendations_latest` is one object
replaced by another, but a table of several files is not swapped in one step: new files come before
old ones go. Nor are there locks: only one run may write into such a folder at a time.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO, cast

import pyarrow as pa
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from models.errors import OutputError
from models.tables import TABLES
from pipeline.inputs.file_systems import why_not
from pipeline.tables.files import Shard, TableLimits, publish_shards, write_rows
from pipeline.tables.output_folder import (
    RECEIPT_FILE,
    IfExists,
    Published,
    TableReceipt,
    read_receipts,
    staging_path,
)
from pipeline.tables.queries import README_FILE, SQL_FILE


class RemoteLease(AbstractContextManager["RemoteLease"]):
    """Deletes what a run staged once it has ended; other file systems have no locks to hold."""

    def __init__(self, staging: str) -> None:
        self._staging = staging

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """Deletes the staging folder; may be called twice."""
        delete_all(list_files(FileSystems.join(self._staging, "**")))


def prepare_remote(output: str, run_id: str, if_exists: IfExists) -> RemoteLease:
    """Checks that a run may write into `output`. Raises OutputError."""
    try:
        staging = FileSystems.join(output, f".staging-{run_id}")
        with FileSystems.create(FileSystems.join(staging, "probe")) as file:
            file.write(b"\0")
        present = [name for name in TABLES if list_files(FileSystems.join(output, name, "*.parquet"))]
    except Exception as error:  # each file system raises its own
        raise OutputError(f"cannot write the tables in {output}: {why_not(error, output)}") from error
    if present and if_exists == "error":
        raise OutputError(
            f"{output} already holds the tables {', '.join(present)}; pass --if_exists replace or append, "
            "or choose another --output"
        )
    return RemoteLease(staging)


def write_shard(output: str, run_id: str, table: str, rows: pa.Table) -> str:
    """Sends one sorted shard under a name that no other attempt has, and returns its path."""
    name = f"{secrets.token_hex(12)}.shard"
    path = FileSystems.join(output, f".staging-{run_id}", "shards", table, name)
    buffer = pa.BufferOutputStream()
    write_rows(table, rows, buffer)
    with FileSystems.create(path) as file:
        file.write(buffer.getvalue().to_pybytes())
    return path


def publish_remote(
    output: str, run_id: str, if_exists: IfExists, shards: Sequence[Shard], limits: TableLimits
) -> tuple[TableReceipt, ...]:
    """Builds the tables on this worker's disk and replaces those of `output` with them."""
    with tempfile.TemporaryDirectory(prefix="livelist-") as scratch:
        local = Path(scratch, "out")
        fetched = [_fetch_shard(shard, Path(scratch, "shards")) for shard in shards]
        if if_exists == "append":
            for name in ("recommendations", "recommendations_latest"):
                _fetch(list_files(FileSystems.join(output, name, "*.parquet")), local / name)
        staging_path(local, run_id).mkdir(parents=True)
        receipts = publish_shards(local, run_id, if_exists, fetched, limits)
        for receipt in receipts:
            _replace_table(output, local / receipt.table, receipt, if_exists)
        for name in (README_FILE, SQL_FILE, RECEIPT_FILE):
            _send(local / name, FileSystems.join(output, name))
    return receipts


def _fetch_shard(shard: Shard, folder: Path) -> Shard:
    _fetch([shard.path], folder)
    return shard._replace(path=str(folder / os.path.basename(shard.path)))


def _fetch(paths: Iterable[str], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for path in paths:
        with FileSystems.open(path) as source, open(folder / os.path.basename(path), "wb") as target:
            shutil.copyfileobj(source, target)


def _send(path: Path, target: str) -> None:
    with open(path, "rb") as source, FileSystems.create(target) as sink:
        shutil.copyfileobj(source, sink)


def _replace_table(output: str, built: Path, receipt: TableReceipt, if_exists: IfExists) -> None:
    old = {
        os.path.basename(path): path for path in list_files(FileSystems.join(output, built.name, "*.parquet"))
    }
    history = if_exists == "append" and built.name != "recommendations_latest"
    if history and old and receipt.rows == 0:
        return
    new = sorted(path for path in built.iterdir() if not (history and path.name in old))
    for path in new:
        _send(path, FileSystems.join(output, built.name, path.name))
    if not history:
        kept = {path.name for path in new}
        delete_all([path for name, path in old.items() if name not in kept])


def remote_receipts(output: str) -> Published | None:
    """What was published last in `output`; None before the first run."""
    found = list_files(FileSystems.join(output, RECEIPT_FILE))
    if not found:
        return None
    with open_file(found[0]) as file:
        return read_receipts(file.read())


def open_file(path: str) -> BinaryIO:
    """The bytes of a file, as they are stored."""
    return cast(BinaryIO, FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED))


def list_files(pattern: str) -> list[str]:
    """The files that match, in name order."""
    (match,) = FileSystems.match([pattern])
    return sorted(found.path for found in match.metadata_list)


def delete_all(paths: list[str]) -> None:
    """Deletes files; none is fine."""
    if paths:
        FileSystems.delete(paths)
