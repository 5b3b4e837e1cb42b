"""DeltaSink: the output tables as Delta tables below one folder or object store.

History grows by MERGE on `row_key`. `recommendations_latest` is replaced user by user in one commit
that Delta's log refuses if anybody else has written since it was read: then it is read again. So of
each user the newest list stands, whoever writes. Erasures stand in `recommendations_erased`. Every
such commit rewrites the files that hold its users: let few and large batches come.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import CommitProperties, DeltaTable, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, SchemaMismatchError

from models.errors import OutputError
from models.latest import merge_latest
from models.tables import DESCRIPTIONS, SCHEMAS
from pipeline.connectors.addresses import DeltaFolder
from pipeline.connectors.identity import IDENTITY, ROW_KEY, TOLD_ANEW, Lists, keyed, lists_of, no_graves
from pipeline.connectors.retrying import RefusedRowsError, try_again

ERASED: Final = "recommendations_erased"
_LATEST: Final = "recommendations_latest"
_PASSING: Final = (CommitFailedError, DeltaError, OSError)
#: A MERGE looks into files only where this column's range meets the batch's.
_ORDERED_BY: Final = {
    "recommendations": "state_version",
    "scored_feedback": "event_time",
    "trends": "window_start",
    "alerts": "time",
}
#: After so many commits to a table its small files are joined, and what nobody reads any more is deleted.
_COMMITS_PER_CLEANING: Final = 200
#: A reader may use a version of a table so long after it was replaced.
_CONFIGURATION: Final = {
    "delta.deletedFileRetentionDuration": "interval 1 hours",
    "delta.logRetentionDuration": "interval 1 days",
}
#: The log itself settles nothing for us: after a conflict the table has to be read again.
_NO_RETRIES: Final = CommitProperties(max_commit_retries=0)


class DeltaSink:
    """A `TableSink`."""

    def __init__(self, address: DeltaFolder) -> None:
        self._address = address
        self._where = f"Delta tables in {address.root}"
        self._commits: Counter[str] = Counter()

    def open(self) -> None:
        """Makes the tables that are missing."""
        try:
            if "://" not in self._address.root:
                Path(self._address.root).mkdir(parents=True, exist_ok=True)
            for table in (*self._address.tables, _LATEST, ERASED):
                self._make(table)
        except (DeltaError, OSError) as error:
            raise OutputError(
                f"{self._where}: {_reason(error)}; check the path and the credentials"
            ) from None

    def write(self, table: str, rows: pa.Table) -> None:
        """One commit a table. Tables that the address does not name are passed over."""
        if not len(rows) or (table if table != _LATEST else "recommendations") not in self._address.tables:
            return
        try:
            if table in IDENTITY:
                self._try(table, lambda: self._write_history(table, keyed(table, rows)))
            if table in ("recommendations", _LATEST):
                lists = lists_of(table, rows)
                self._try(ERASED, lambda: self._write_graves(lists.graves))
                self._try(_LATEST, lambda: self._write_lists(lists))
        except SchemaMismatchError as error:
            raise RefusedRowsError(f"{self._where}: {table}: {_reason(error)}") from error

    def close(self) -> None:
        """Nothing is held."""

    def _try(self, table: str, attempt: Callable[[], None]) -> None:
        what = f"{self._where}: {table} cannot be written"
        try_again(attempt, _PASSING, self._address.timeout_seconds, what, _reason)
        self._commits[table] += 1
        if self._commits[table] % _COMMITS_PER_CLEANING == 0:
            try_again(lambda: self._clean(table), _PASSING, self._address.timeout_seconds, what, _reason)

    def _open(self, table: str) -> DeltaTable:
        return DeltaTable(f"{self._address.root}/{table}")

    def _make(self, table: str) -> None:
        DeltaTable.create(
            f"{self._address.root}/{table}",
            _schema(table),
            mode="ignore",
            name=table,
            description=DESCRIPTIONS.get(table, "Of each erased user the version and time up to which."),
            configuration=_CONFIGURATION,
        )

    def _write_history(self, table: str, rows: pa.Table) -> None:
        merge = self._open(table).merge(
            rows, f"t.{ROW_KEY} = s.{ROW_KEY}{_within(table, rows)}", "s", "t", commit_properties=_NO_RETRIES
        )
        if table in TOLD_ANEW:
            merge = merge.when_matched_update_all("s.count >= t.count" if table == "trends" else None)
        merge.when_not_matched_insert_all().execute()

    def _write_graves(self, graves: pa.Table) -> None:
        if not len(graves):
            return
        merge = self._open(ERASED).merge(
            graves, "t.user_id = s.user_id", "s", "t", commit_properties=_NO_RETRIES
        )
        highest = {
            name: f"CASE WHEN s.{name} > t.{name} THEN s.{name} ELSE t.{name} END"
            for name in ("state_version", "event_time")
        }
        merge.when_matched_update(highest).when_not_matched_insert_all().execute()

    def _write_lists(self, lists: Lists) -> None:
        users = pc.unique(pa.concat_arrays([_strings(lists.latest), _strings(lists.graves)]))
        if not len(users):
            return
        # The table first: a commit to it after this makes ours fail, and then all is read again.
        table = self._open(_LATEST)
        standing = _rows_of(table, users, SCHEMAS[_LATEST])
        graves = _rows_of(self._open(ERASED), users, no_graves().schema)
        merged = merge_latest([standing, lists.latest], graves)
        if _versions(merged) != _versions(standing):
            write_deltalake(
                table, merged, mode="overwrite", predicate=_any_of(users), commit_properties=_NO_RETRIES
            )

    def _clean(self, table: str) -> None:
        opened = self._open(table)
        opened.optimize.compact()
        opened.vacuum(dry_run=False)


def _schema(table: str) -> pa.Schema:
    if table == ERASED:
        return no_graves().schema
    key = [pa.field(ROW_KEY, pa.string(), nullable=False)] if table in IDENTITY else []
    return pa.schema([*key, *SCHEMAS[table]])


def _within(table: str, rows: pa.Table) -> str:
    """The range of the batch, so that files beyond it are not read."""
    name = _ORDERED_BY.get(table)
    if name is None:
        return ""
    ends = pc.min_max(rows[name].cast(pa.int64()))
    low, high = ends["min"].as_py(), ends["max"].as_py()
    if rows.schema.field(name).type != pa.int64():
        low, high = (f"to_timestamp_micros({end})" for end in (low, high))
    return f" AND t.{name} >= {low} AND t.{name} <= {high}"


def _rows_of(table: DeltaTable, users: pa.Array, schema: pa.Schema) -> pa.Table:
    """The rows of some users, a batch in memory at a time.

    The scan is not asked to filter: the statistics that it would look at may be of another type of
    text than its filter, and then it fails.
    """
    parts = []
    for batch in table.to_pyarrow_dataset().to_batches(columns=schema.names):
        names = batch["user_id"].cast(pa.string())
        parts.append(pa.Table.from_batches([batch.filter(pc.is_in(names, users))]).cast(schema))
    return pa.concat_tables([schema.empty_table(), *parts])


def _versions(latest: pa.Table) -> list[tuple[object, ...]]:
    columns = [latest[name].to_pylist() for name in ("user_id", "rank", "state_version", "list_hash")]
    return sorted(zip(*columns, strict=True))


def _strings(rows: pa.Table) -> pa.Array:
    return pa.concat_arrays([pa.array([], pa.string()), *rows["user_id"].chunks])


def _any_of(users: Sequence[pa.Scalar]) -> str:
    quoted = ["'" + user.as_py().replace("'", "''") + "'" for user in users]
    return f"user_id IN ({', '.join(quoted)})"


def _reason(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
