"""Shards in, sorted Parquet files out: the building of a run's tables before they are published.

A table larger than memory allows is read and sorted one key range at a time: every shard is
sorted, so a range touches only the row groups that hold it.
"""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from models.latest import explode_lists, merge_latest, tombstones_of, without_repeats
from models.tables import SCHEMAS, SORT_KEYS, TABLES
from pipeline.tables.output_folder import (
    SINGLE_FILE,
    IfExists,
    Published,
    Step,
    TableReceipt,
    parquet_files,
    publish,
    published_receipts,
    staging_path,
    sync_file,
    table_step,
)
from pipeline.tables.queries import stage_query_files

#: Tables that bundles write; the current lists are derived from `recommendations`.
WRITTEN_TABLES: Final = tuple(name for name in TABLES if name != "recommendations_latest")


class Shard(NamedTuple):
    """One finished file of one bundle. Only shards that reach the publication count."""

    table: str
    path: str
    rows: int
    bytes: int  # of the rows in memory


@dataclass(frozen=True, slots=True)
class TableLimits:
    """Sizes of files and of what is held in memory."""

    shard_rows: int = 100_000  # a bundle writes a shard at this many rows,
    shard_bytes: int = 64 << 20  # or at this many bytes in memory
    range_bytes: int = 128 << 20  # sorted in memory at a time
    file_bytes: int = 512 << 20  # compressed; a table starts another file beyond
    latest_rows: int = 5_000_000  # the current lists are one file up to here
    small_files: int = 32  # appending merges the small files of a table when there are more
    small_bytes: int = 32 << 20


def sort_rows(name: str, rows: pa.Table) -> pa.Table:
    """The rows in the table's canonical order."""
    return rows.sort_by([(key, "ascending") for key in SORT_KEYS[name]])


def write_rows(name: str, rows: pa.Table, path: Path | str | pa.NativeFile) -> None:
    """One Parquet file of sorted rows; a failed write leaves no file behind."""
    try:
        with _open_writer(name, path) as writer:
            writer.write_table(rows, row_group_size=_row_group_size(name))
    except BaseException:
        if isinstance(path, Path):
            path.unlink(missing_ok=True)
        raise


def read_rows(name: str, paths: Sequence[Path], bounds: pc.Expression | None = None) -> pa.Table:
    """The rows of several files of one table, in the order of the files."""
    parts = [pq.read_table(path, filters=bounds, partitioning=None) for path in paths]
    schema = SCHEMAS[name]
    return pa.concat_tables([schema.empty_table(), *(_as_of_now(part, schema) for part in parts)])


def _as_of_now(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """Rows of a file that an earlier release wrote lack the columns that were added at the end."""
    for field in schema:
        if field.nullable and field.name not in rows.column_names:
            rows = rows.append_column(field, pa.nulls(len(rows), field.type))
    return rows.select(schema.names).cast(schema)


def _open_writer(name: str, path: Path | str | pa.NativeFile) -> pq.ParquetWriter:
    target = os.fspath(path) if isinstance(path, Path) else path
    return pq.ParquetWriter(target, SCHEMAS[name], compression="zstd")


def _row_group_size(name: str) -> int:
    return 10_000 if name == "recommendations" else 50_000


def publish_shards(
    output: Path,
    run_id: str,
    if_exists: IfExists,
    shards: Sequence[Shard],
    limits: TableLimits,
    publication: str = "",
) -> tuple[TableReceipt, ...]:
    """Builds every table and makes them visible; a second call for the same publication changes nothing.

    `publication` defaults to `run_id`; one that differs consumes its shards: they are deleted in
    the same transaction, so that what dies in between neither loses nor doubles a row.
    """
    publication = publication or run_id
    done = published_receipts(output)
    if done is not None and done.publication == publication:
        return done.receipts
    staging = staging_path(output, publication)
    shutil.rmtree(staging / "tables", ignore_errors=True)  # of an attempt that failed
    staging.mkdir(parents=True, exist_ok=True)
    steps, receipts = build_tables(output, publication, if_exists, shards, limits, publication != run_id)
    steps += stage_query_files(staging)
    if publication != run_id:
        steps += [Step("delete", "", os.path.relpath(shard.path, output)) for shard in shards]
    publish(staging, steps, Published(run_id, tuple(receipts), publication))
    return tuple(receipts)


def build_tables(
    output: Path,
    run_id: str,
    if_exists: IfExists,
    shards: Sequence[Shard],
    limits: TableLimits,
    endless: bool = False,
) -> tuple[list[Step], list[TableReceipt]]:
    """Writes every table of a run below its staging folder, complete and sorted.

    The trends of an `endless` run take the place of what it told of the same windows before.

    Returns the steps that publish them. Nothing that a reader sees is touched. Raises OSError.
    """
    builder = _Builder(output, run_id, if_exists, limits, endless)
    for name in WRITTEN_TABLES:
        builder.build(name, [shard for shard in shards if shard.table == name])
    order = {name: place for place, name in enumerate(TABLES)}
    steps = sorted(builder.steps.items(), key=lambda entry: order[entry[0]])
    receipts = sorted(builder.receipts, key=lambda receipt: order[receipt.table])
    return [step for _, step in steps], receipts


class _Builder:
    def __init__(
        self, output: Path, run_id: str, if_exists: IfExists, limits: TableLimits, endless: bool
    ) -> None:
        self._output = output
        self._endless = endless
        self._staging = staging_path(output, run_id)
        self._run_id = run_id
        self._append = if_exists == "append"
        self._limits = limits
        self.steps: dict[str, Step] = {}
        self.receipts: list[TableReceipt] = []

    def build(self, name: str, shards: Sequence[Shard]) -> None:
        """Stages one table; of `recommendations`, the current lists too."""
        old = self._old(name)
        if old and not shards:
            self._leave(name, old)
        elif name == "recommendations":
            self._build_lists(shards, old)
        elif name == "trends" and self._endless:
            files = self._files(name, self._limits.file_bytes)
            files.write(sort_rows(name, _newest_of_each(name, [*old, *_paths(shards)])))
            self._finish(name, files)
        elif len(shards) == 1 and not self._append:
            files = self._files(name, self._limits.file_bytes)
            files.adopt(Path(shards[0].path), shards[0].rows)
            self._finish(name, files)
        else:
            files, merged = self._history_files(name, old)
            for bounds in self._ranges(name, shards, merged):
                files.write(sort_rows(name, read_rows(name, [*merged, *_paths(shards)], bounds)))
            self._finish(name, files, shards)

    def _build_lists(self, shards: Sequence[Shard], old: list[Path]) -> None:
        """The history and, from the same rows, the current lists."""
        name, old_latest = "recommendations", self._old("recommendations_latest")
        history, merged = self._history_files(name, old)
        latest = self._files("recommendations_latest", rows_per_file=self._limits.latest_rows)
        for bounds in self._ranges(name, shards, [*merged, *old_latest]):
            lists = without_repeats(sort_rows(name, read_rows(name, [*merged, *_paths(shards)], bounds)))
            history.write(lists)
            current = lists.filter(pc.invert(lists["hindsight"]))
            graves = pa.concat_tables([tombstones_of(current), *(_old_graves(path, bounds) for path in old)])
            standing = read_rows("recommendations_latest", old_latest, bounds)
            latest.write(merge_latest([standing, explode_lists(current)], graves))
        self._finish(name, history, shards)
        self._finish("recommendations_latest", latest)

    def _history_files(self, name: str, old: list[Path]) -> tuple[_TableFiles, list[Path]]:
        """The files to write, with old ones taken over, and the small old ones to be merged instead."""
        small = [path for path in old if path.stat().st_size < self._limits.small_bytes]
        merged = small if len(small) > self._limits.small_files else []
        files = self._files(name, self._limits.file_bytes)
        for path in old:
            if path not in merged:
                files.keep(path)
        return files, merged

    def _files(self, name: str, bytes_per_file: int = 1 << 62, rows_per_file: int = 1 << 62) -> _TableFiles:
        folder = self._staging / "tables" / name
        folder.mkdir(parents=True)
        single = name == "recommendations_latest" or not self._append
        return _TableFiles(folder, name, self._run_id, single, bytes_per_file, rows_per_file)

    def _leave(self, name: str, old: list[Path]) -> None:
        """Nothing to append."""
        self.receipts.append(TableReceipt(name, 0, len(old)))
        if name == "recommendations":
            latest = self._old("recommendations_latest")
            rows = sum(pq.read_metadata(path).num_rows for path in latest)
            self.receipts.append(TableReceipt("recommendations_latest", rows, len(latest)))

    def _old(self, name: str) -> list[Path]:
        return parquet_files(self._output / name) if self._append else []

    def _finish(self, name: str, files: _TableFiles, shards: Sequence[Shard] | None = None) -> None:
        files.close()
        rows = files.rows if shards is None else sum(shard.rows for shard in shards)
        self.receipts.append(TableReceipt(name, rows, files.count))
        self.steps[name] = table_step(self._output, self._staging, name)

    def _ranges(
        self, name: str, shards: Sequence[Shard], more: Sequence[Path]
    ) -> Iterator[pc.Expression | None]:
        """Filters that split the rows by their first key into parts that fit in memory."""
        key = SORT_KEYS[name][0]
        held = sum(shard.bytes for shard in shards) + sum(_bytes_in_memory(path) for path in more)
        count = -(-held // self._limits.range_bytes)
        if count <= 1:
            yield None
            return
        cuts = _quantiles(key, [*_paths(shards), *more], count)
        field = pc.field(key)
        yield pc.or_kleene(field < cuts[0], field.is_null())
        for low, high in itertools.pairwise(cuts):
            yield (field >= low) & (field < high)
        yield field >= cuts[-1]


def _newest_of_each(name: str, paths: Sequence[Path]) -> pa.Table:
    """Of the rows with one key, which is the table's order, that of the last file."""
    rows = read_rows(name, paths)
    numbered = rows.append_column("_number", pa.array(range(len(rows)), pa.int64()))
    last = numbered.group_by(list(SORT_KEYS[name])).aggregate([("_number", "max")])
    return rows.take(last["_number_max"])


def link_file(path: Path, target: Path) -> None:
    """The same file under another name, copied where the disk knows no hard links."""
    try:
        os.link(path, target)
    except OSError:  # a disk without hard links
        shutil.copyfile(path, target)


def _paths(shards: Sequence[Shard]) -> list[Path]:
    return [Path(shard.path) for shard in sorted(shards)]


def _bytes_in_memory(path: Path) -> int:
    metadata = pq.read_metadata(path)
    return sum(metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups))


def _quantiles(key: str, paths: Sequence[Path], count: int) -> list[pa.Scalar]:
    keys = pa.concat_tables([pq.read_table(path, columns=[key], partitioning=None) for path in paths])
    ordered = keys.filter(pc.field(key).is_valid()).sort_by(key)[key]
    places = np.linspace(0, len(ordered), count, endpoint=False).astype(int)[1:]
    return list(pc.unique(ordered.take(pa.array(places))))


def _old_graves(path: Path, bounds: pc.Expression | None) -> pa.Table:
    graves = pc.field("tombstone") & ~pc.field("hindsight")
    wanted = graves if bounds is None else graves & bounds
    columns = ["user_id", "state_version", "event_time", "tombstone"]
    return tombstones_of(pq.read_table(path, columns=columns, filters=wanted, partitioning=None))


class _TableFiles:
    """The files of one staged table: `part-00000.parquet`, or several that carry the run's id."""

    def __init__(
        self,
        folder: Path,
        name: str,
        run_id: str,
        single: bool,
        bytes_per_file: int,
        rows_per_file: int,
    ) -> None:
        self._folder = folder
        self._name = name
        self._run_id = run_id
        self._single = single  # a lone new file gets the plain name
        self._bytes_per_file = bytes_per_file
        self._rows_per_file = rows_per_file
        self._writer: pq.ParquetWriter | None = None
        self._rows_in_file = 0
        self._new: list[Path] = []
        self._kept = 0
        self.rows = 0

    @property
    def count(self) -> int:
        """Files of the table, kept ones included."""
        return self._kept + len(self._new)

    def keep(self, path: Path) -> None:
        """Takes over a published file, without copying it where the disk allows."""
        link_file(path, self._folder / path.name)
        self._kept += 1

    def adopt(self, shard: Path, rows: int) -> None:
        """Takes a lone shard, which is sorted already, as it is."""
        link_file(shard, self._next_path())  # the shard stays, for another attempt at publishing
        self.rows += rows

    def write(self, rows: pa.Table) -> None:
        """Adds sorted rows, all after those before."""
        self.rows += len(rows)
        while len(rows):
            if self._writer is None:
                self._writer = _open_writer(self._name, self._next_path())
            room = self._rows_per_file - self._rows_in_file
            part, rows = rows[:room], rows[room:]
            self._writer.write_table(part, row_group_size=_row_group_size(self._name))
            self._rows_in_file += len(part)
            if self._rows_in_file >= self._rows_per_file or self._file_size() >= self._bytes_per_file:
                self._end_file()

    def close(self) -> None:
        """Ends the last file, names them all, and sees them on disk. An empty table has a file too."""
        self._end_file()
        if self.count == 0:
            write_rows(self._name, SCHEMAS[self._name].empty_table(), self._next_path())
        plain = self._single and len(self._new) == 1
        for place, path in enumerate(self._new):
            sync_file(path)
            final = SINGLE_FILE if plain else f"part-{self._run_id}-{place:05d}.parquet"
            os.replace(path, self._folder / final)

    def _next_path(self) -> Path:
        path = self._folder / f"{len(self._new):05d}.partial"
        self._new.append(path)
        return path

    def _file_size(self) -> int:
        return self._new[-1].stat().st_size

    def _end_file(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._writer = None
        self._rows_in_file = 0
