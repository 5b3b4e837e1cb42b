"""The output tables as PostgreSQL has them: columns, comments, values, and how they are made."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import psycopg
import pyarrow as pa
from psycopg import sql

from models.tables import COMMENT_KEY, DESCRIPTIONS, SCHEMAS
from pipeline.connectors.identity import IDENTITY, ROW_KEY

#: Of each user the version of the list that stands, which guards it.
HEADS: Final = "recommendations_heads"
LATEST: Final = "recommendations_latest"
#: Nobody else's advisory lock: tables are made by one writer at a time.
_MAKING_TABLES: Final = 0x6C69_7665_6C69

_HEAD_COLUMNS: Final = (
    ("user_id", "text PRIMARY KEY", "the user"),
    ("state_version", "bigint NOT NULL", "version of the list that stands; 0 where none does"),
    ("list_hash", "text NOT NULL", "its hash; of two lists with one version the higher hash stands"),
    ("event_time", "timestamptz", "newest feedback of the user behind it"),
    ("buried_version", "bigint NOT NULL DEFAULT 0", "lists up to this version were erased"),
    ("buried_time", "timestamptz NOT NULL DEFAULT '-infinity'", "feedback up to this time was erased"),
)


def make_tables(connection: psycopg.Connection[Any], schema: str, tables: Sequence[str]) -> None:
    """Makes what is missing of a schema and these tables, columns of later releases among them."""
    connection.execute("SELECT pg_advisory_xact_lock(%s)", [_MAKING_TABLES])
    found = connection.execute("SELECT to_regnamespace(%s)", [schema]).fetchone()
    if found is None or found[0] is None:
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
    for table in tables:
        _make_table(connection, schema, table)


def _make_table(connection: psycopg.Connection[Any], schema: str, table: str) -> None:
    listed = connection.execute(
        "SELECT column_name FROM information_schema.columns WHERE table_schema = %s AND table_name = %s",
        [schema, table],
    )
    present, columns, place = {name for (name,) in listed}, _columns(table), sql.Identifier(schema, table)
    if not present:
        body = sql.SQL(", ").join(
            sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(kind)) for name, kind, _ in columns
        )
        key = sql.SQL(", PRIMARY KEY (user_id, rank)" if table == LATEST else "")
        connection.execute(sql.SQL("CREATE TABLE {} ({}{})").format(place, body, key))
        _describe(connection, schema, table, columns)
        if table == "recommendations":
            connection.execute(sql.SQL("CREATE INDEX ON {} (user_id, state_version)").format(place))
    for name, kind, comment in columns if present else ():
        if name not in present:  # a later release added it
            add = sql.SQL("ALTER TABLE {} ADD COLUMN {} {}")
            connection.execute(add.format(place, sql.Identifier(name), sql.SQL(kind)))
            _describe(connection, schema, table, [(name, kind, comment)])


def _describe(
    connection: psycopg.Connection[Any], schema: str, table: str, columns: Sequence[tuple[str, str, str]]
) -> None:
    what = DESCRIPTIONS.get(table, "Of each user the version of the current list, and what was erased.")
    comment = sql.SQL("COMMENT ON TABLE {} IS {}")
    connection.execute(comment.format(sql.Identifier(schema, table), sql.Literal(what)))
    for name, _, text in columns:
        place = sql.Identifier(schema, table, name)
        connection.execute(sql.SQL("COMMENT ON COLUMN {} IS {}").format(place, sql.Literal(text)))


def _columns(table: str) -> list[tuple[str, str, str]]:
    """(name, type, comment) of a table, in order."""
    if table == HEADS:
        return list(_HEAD_COLUMNS)
    described = [
        (
            each.name,
            _type_of(each.type) + ("" if each.nullable else " NOT NULL"),
            (each.metadata or {}).get(COMMENT_KEY, b"").decode(),
        )
        for each in SCHEMAS[table]
    ]
    if table not in IDENTITY:
        return described
    identity = f"hash of {', '.join(IDENTITY[table])}"
    return [(ROW_KEY, "text PRIMARY KEY", identity), *described]


def _type_of(kind: pa.DataType) -> str:
    simple = {
        pa.string(): "text",
        pa.int64(): "bigint",
        pa.int32(): "integer",
        pa.float64(): "double precision",
        pa.bool_(): "boolean",
    }
    if kind in simple:
        return simple[kind]
    if pa.types.is_timestamp(kind):
        return "timestamptz"
    return "text[]" if pa.types.is_list(kind) and kind.value_type == pa.string() else "jsonb"


def values_of(field: pa.Field, column: pa.Array) -> Iterator[object]:
    """A column's values as COPY takes them."""
    kind = _type_of(field.type)
    if kind == "jsonb":
        return (None if value is None else json.dumps(_storable(value)) for value in column.to_pylist())
    clean: Callable[[Any], Any] = _storable if kind in ("text", "text[]") else lambda value: value
    return (clean(value) for value in column.to_pylist())


def _storable(value: Any) -> Any:
    """PostgreSQL's texts hold no NUL, and JSON no NaN."""
    if isinstance(value, str):
        return value.replace("\0", "�") if "\0" in value else value
    if isinstance(value, dict):
        return {name: _storable(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_storable(each) for each in value]
    return None if isinstance(value, float) and value != value else value


def column_names(names: Sequence[str]) -> sql.Composed:
    """Quoted, with commas between them."""
    return sql.SQL(", ").join(map(sql.Identifier, names))
