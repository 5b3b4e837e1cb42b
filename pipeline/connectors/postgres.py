"""PostgresSink: the output tables in a schema of a PostgreSQL database.

`recommendations_latest` is replaced user by user. What a user's list is stands in
`recommendations_heads`, and the statement that changes a head is the guard: it takes a list only
above the version that stands, and never one that an erasure has buried. All of a call is one
transaction, so a reader sees an old list or a new one, whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

import psycopg
import pyarrow as pa
import pyarrow.compute as pc
from psycopg import sql

from models.errors import OutputError
from models.tables import SCHEMAS
from pipeline.connectors.addresses import PostgresDatabase
from pipeline.connectors.identity import IDENTITY, ROW_KEY, TOLD_ANEW, Lists, keyed, lists_of
from pipeline.connectors.postgres_tables import HEADS, LATEST, column_names, make_tables, values_of
from pipeline.connectors.postgres_watch import Watch
from pipeline.connectors.retrying import RefusedRowsError, try_again

_CONNECT_SECONDS: Final = 10
#: Tables are made within so long; another writer may be at it.
_MAKE_SECONDS: Final = 60
#: Rows that are Python objects at a time.
_ROWS_AT_A_TIME: Final = 2_000
_PASSING: Final = (psycopg.OperationalError, psycopg.InterfaceError)

_RAISE_GRAVES: Final = """
INSERT INTO {heads} AS h (user_id, state_version, list_hash, buried_version, buried_time)
SELECT user_id, 0, '', state_version, event_time FROM incoming_graves ORDER BY user_id
ON CONFLICT (user_id) DO UPDATE SET
  buried_version = greatest(h.buried_version, excluded.buried_version),
  buried_time = greatest(h.buried_time, excluded.buried_time)
"""
_BURY_LISTS: Final = """
DELETE FROM {latest} AS l USING {heads} AS h, incoming_graves AS g
WHERE h.user_id = g.user_id AND l.user_id = g.user_id
  AND (l.state_version <= h.buried_version OR l.event_time <= h.buried_time)
"""
_FREE_HEADS: Final = """
UPDATE {heads} AS h SET state_version = 0, list_hash = '', event_time = NULL FROM incoming_graves AS g
WHERE h.user_id = g.user_id
  AND (h.state_version <= h.buried_version OR h.event_time <= h.buried_time)
"""
_TAKE_LISTS: Final = """
INSERT INTO {heads} AS h (user_id, state_version, list_hash, event_time)
SELECT user_id, state_version, list_hash, event_time FROM incoming_heads ORDER BY user_id
ON CONFLICT (user_id) DO UPDATE SET
  state_version = excluded.state_version, list_hash = excluded.list_hash, event_time = excluded.event_time
WHERE (excluded.state_version, excluded.list_hash COLLATE "C") > (h.state_version, h.list_hash COLLATE "C")
  AND excluded.state_version > h.buried_version AND excluded.event_time > h.buried_time
RETURNING user_id
"""


class PostgresSink:
    """A `TableSink`. One connection, made anew when it breaks; one thread uses it."""

    def __init__(self, database: PostgresDatabase) -> None:
        self._database = database
        self._where = _where(database.dsn)
        self._connection: psycopg.Connection[Any] | None = None

    def open(self) -> None:
        """Connects, and makes what is missing: schema, tables, comments."""
        try:
            self._make_tables(self._connected())
        except psycopg.Error as error:
            self.close()
            raise OutputError(f"{self._where}: {_reason(error)}{_hint(error)}") from None

    def write(self, table: str, rows: pa.Table) -> None:
        """One transaction. Tables that the address does not name are passed over."""
        if not len(rows) or not self._writes(table):
            return
        try_again(
            lambda: self._attempt(table, rows),
            _PASSING,
            self._database.timeout_seconds,
            f"{self._where}: {table} cannot be written",
            _reason,
        )

    def close(self) -> None:
        """Frees the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error):
                connection.close()

    def _writes(self, table: str) -> bool:
        return (table if table != LATEST else "recommendations") in self._database.tables

    def _attempt(self, table: str, rows: pa.Table) -> None:
        connection = self._connected()
        try:
            with Watch(connection, self._database.timeout_seconds / 2) as watch, connection.transaction():
                writing = _Writing(connection, self._database.schema, watch)
                if table in IDENTITY:
                    writing.history(table, rows)
                if table in ("recommendations", LATEST):
                    writing.lists(lists_of(table, rows))
        except _PASSING:
            self.close()
            raise
        except psycopg.DataError as error:
            raise RefusedRowsError(f"{self._where}: {table} refuses rows: {_reason(error)}") from error
        except psycopg.Error as error:
            raise OutputError(f"{self._where}: {table}: {_reason(error)}{_hint(error)}") from error

    def _connected(self) -> psycopg.Connection[Any]:
        if self._connection is None or self._connection.closed:
            self._connection = psycopg.connect(
                self._database.dsn,
                autocommit=True,
                connect_timeout=_CONNECT_SECONDS,
                application_name="livelist",
                keepalives_idle=10,
                keepalives_interval=5,
                keepalives_count=3,
            )
        return self._connection

    def _make_tables(self, connection: psycopg.Connection[Any]) -> None:
        wanted = [table for table in (*IDENTITY, LATEST, HEADS) if table == HEADS or self._writes(table)]
        with Watch(connection, _MAKE_SECONDS), connection.transaction():
            make_tables(connection, self._database.schema, wanted)


class _Writing:
    """One transaction."""

    def __init__(self, connection: psycopg.Connection[Any], schema: str, watch: Watch) -> None:
        self._connection = connection
        self._schema = schema
        self._watch = watch

    def history(self, table: str, rows: pa.Table) -> None:
        """Rows whose identity stands change nothing, or take its place where a table is told anew."""
        target, incoming = sql.Identifier(self._schema, table), f"incoming_{table}"
        self._stage(incoming, target, keyed(table, rows))
        names = [ROW_KEY, *SCHEMAS[table].names]
        self._execute(
            "INSERT INTO {target} AS t ({columns}) SELECT {columns} FROM {incoming} "
            "ON CONFLICT ({key}) {does}",
            target=target,
            columns=column_names(names),
            incoming=sql.Identifier(incoming),
            key=sql.Identifier(ROW_KEY),
            does=_on_conflict(table, names[1:]),
        )

    def lists(self, lists: Lists) -> None:
        """The current lists: erasures first, then what is newer than what stands."""
        names = {
            "heads": sql.Identifier(self._schema, HEADS),
            "latest": sql.Identifier(self._schema, LATEST),
        }
        if len(lists.graves):
            self._stage("incoming_graves", names["heads"], lists.graves)
            for statement in (_RAISE_GRAVES, _BURY_LISTS, _FREE_HEADS):
                self._execute(statement, **names)
        if not len(lists.heads):
            return
        self._stage("incoming_heads", names["heads"], lists.heads)
        taken = [user for (user,) in self._execute(_TAKE_LISTS, **names)]
        self._execute("DELETE FROM {latest} WHERE user_id = ANY(%s)", [taken], **names)
        users = lists.latest["user_id"]
        self._copy(names["latest"], lists.latest.filter(pc.is_in(users, pa.array(taken, pa.string()))))

    def _execute(
        self, statement: str, values: Sequence[object] | None = None, **names: sql.Composable
    ) -> psycopg.Cursor[Any]:
        done = self._connection.execute(sql.SQL(statement).format(**names), values)
        self._watch.moves()
        return done

    def _stage(self, name: str, like: sql.Composable, rows: pa.Table) -> None:
        """A temporary table of the rows, gone with the transaction."""
        target, columns = sql.Identifier(name), column_names(rows.column_names)
        create = "CREATE TEMP TABLE {target} ON COMMIT DROP AS SELECT {columns} FROM {like} WITH NO DATA"
        self._execute(create, target=target, columns=columns, like=like)
        self._copy(target, rows)
        self._execute("ANALYZE {target}", target=target)

    def _copy(self, target: sql.Composable, rows: pa.Table) -> None:
        statement = sql.SQL("COPY {} ({}) FROM STDIN").format(target, column_names(rows.column_names))
        with self._connection.cursor() as cursor, cursor.copy(statement) as copy:
            for batch in rows.to_batches(max_chunksize=_ROWS_AT_A_TIME):
                columns = [values_of(each, batch[each.name]) for each in batch.schema]
                for row in zip(*columns, strict=True):
                    copy.write_row(row)
                self._watch.moves()


def _on_conflict(table: str, names: Sequence[str]) -> sql.Composable:
    if table not in TOLD_ANEW:
        return sql.SQL("DO NOTHING")
    given = [sql.SQL("{0} = excluded.{0}").format(sql.Identifier(name)) for name in names]
    guard = sql.SQL(" WHERE excluded.count >= t.count" if table == "trends" else "")
    return sql.SQL("DO UPDATE SET {}{}").format(sql.SQL(", ").join(given), guard)


def _where(dsn: str) -> str:
    try:
        parts = psycopg.conninfo.conninfo_to_dict(dsn)
    except psycopg.ProgrammingError as error:
        raise OutputError(f"PostgreSQL address: {_reason(error)}") from None
    return f"PostgreSQL {parts.get('host', 'localhost')}:{parts.get('port', 5432)}/{parts.get('dbname', '')}"


def _reason(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _hint(error: psycopg.Error) -> str:
    text = str(error)
    if "password" in text or "authentication" in text:
        return "; put the password into ~/.pgpass or PGPASSWORD, not into the address"
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        return "; grant it to the user of the address, or name another schema with ?schema="
    if isinstance(error, psycopg.OperationalError):
        return "; is the server up, and the address right?"
    return ""
