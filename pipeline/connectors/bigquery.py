"""BigQuerySink: the output tables in a dataset, each batch loaded as Parquet and merged by one script.

The script is one transaction. `recommendations_heads` says what list of each user stands; its MERGE
is the guard: it takes a list only above the version that stands, and never one that an erasure has
buried. Two writers of one table wait for each other by BigQuery's refusal, which is tried again.
"""

from __future__ import annotations

import io
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
from google.api_core import exceptions
from google.auth.exceptions import GoogleAuthError, TransportError
from google.cloud import bigquery

from models.errors import OutputError
from models.tables import COMMENT_KEY, DESCRIPTIONS, SCHEMAS
from pipeline.connectors.addresses import BigQueryDataset
from pipeline.connectors.identity import IDENTITY, ROW_KEY, TOLD_ANEW, keyed, lists_of
from pipeline.connectors.retrying import RefusedRowsError, try_again

HEADS: Final = "recommendations_heads"
_LATEST: Final = "recommendations_latest"
_EPOCH: Final = "TIMESTAMP '0001-01-01'"
#: What a killed writer staged goes by itself.
_STAGED_FOR: Final = timedelta(hours=6)

_HEAD_SCHEMA: Final = pa.schema(
    [
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("state_version", pa.int64(), nullable=False),
        pa.field("list_hash", pa.string(), nullable=False),
        pa.field("event_time", pa.timestamp("us", tz="UTC")),
        pa.field("buried_version", pa.int64(), nullable=False),
        pa.field("buried_time", pa.timestamp("us", tz="UTC"), nullable=False),
    ]
)

#: Erasures first: they raise the head's graves and free what they bury.
GRAVES_SCRIPT: Final = """
MERGE {heads} h USING {graves} s ON h.user_id = s.user_id
WHEN MATCHED THEN UPDATE SET
  buried_version = GREATEST(h.buried_version, s.state_version),
  buried_time = GREATEST(h.buried_time, s.event_time),
  state_version = IF(h.state_version <= s.state_version OR h.event_time <= s.event_time, 0, h.state_version),
  list_hash = IF(h.state_version <= s.state_version OR h.event_time <= s.event_time, '', h.list_hash)
WHEN NOT MATCHED THEN INSERT (user_id, state_version, list_hash, event_time, buried_version, buried_time)
  VALUES (s.user_id, 0, '', NULL, s.state_version, s.event_time);
DELETE FROM {latest} l WHERE EXISTS (
  SELECT 1 FROM {graves} g WHERE g.user_id = l.user_id
  AND (l.state_version <= g.state_version OR l.event_time <= g.event_time));
"""
#: Then the lists that are newer than what stands; the rows of those whose head is now theirs.
LISTS_SCRIPT: Final = """
MERGE {heads} h USING (
  SELECT user_id, state_version, list_hash, event_time FROM {lists} WHERE `rank` = 1
) s ON h.user_id = s.user_id
WHEN MATCHED
  AND (s.state_version > h.state_version OR (s.state_version = h.state_version AND s.list_hash > h.list_hash))
  AND s.state_version > h.buried_version AND s.event_time > h.buried_time
THEN UPDATE SET state_version = s.state_version, list_hash = s.list_hash, event_time = s.event_time
WHEN NOT MATCHED THEN INSERT (user_id, state_version, list_hash, event_time, buried_version, buried_time)
  VALUES (s.user_id, s.state_version, s.list_hash, s.event_time, 0, {epoch});
DELETE FROM {latest} l WHERE EXISTS (
  SELECT 1 FROM {lists} s JOIN {heads} h ON h.user_id = s.user_id
  WHERE s.user_id = l.user_id AND h.state_version = s.state_version AND h.list_hash = s.list_hash);
INSERT INTO {latest} ({columns})
SELECT {from_lists} FROM {lists} s JOIN {heads} h
ON h.user_id = s.user_id AND h.state_version = s.state_version AND h.list_hash = s.list_hash;
"""
HISTORY_SCRIPT: Final = """
MERGE {table} t USING {rows} s ON t.row_key = s.row_key
{told_anew}
WHEN NOT MATCHED THEN INSERT ({columns}) VALUES ({columns});
"""

_PASSING: Final = (
    exceptions.ServerError,
    exceptions.TooManyRequests,
    exceptions.RetryError,
    TransportError,
    ConnectionError,
    TimeoutError,
)


class _Aborted(Exception):
    """Another transaction was first."""


class BigQuerySink:
    """A `TableSink`. `client` is BigQuery's own, for other endpoints than the service's."""

    def __init__(self, address: BigQueryDataset, client: bigquery.Client | None = None) -> None:
        self._address = address
        self._where = f"BigQuery {address.project}.{address.dataset}"
        self._client = client

    def open(self) -> None:
        """Makes the dataset's tables that are missing; the dataset itself has to be there."""
        try:
            if self._client is None:
                self._client = bigquery.Client(self._address.project, location=self._address.location or None)
            self._client.get_dataset(self._address.dataset, retry=None, timeout=20)
            for table in (*self._address.tables, _LATEST, HEADS):
                self._make(table)
        except exceptions.NotFound:
            name = f"{self._address.project}:{self._address.dataset}"
            raise OutputError(f"{self._where}: there is no such dataset; create it: bq mk {name}") from None
        except (exceptions.GoogleAPIError, GoogleAuthError, ConnectionError) as error:
            raise OutputError(
                f"{self._where}: {_reason(error)}; run `gcloud auth application-default login`, or let "
                "GOOGLE_APPLICATION_CREDENTIALS name the key file of an account that may write there"
            ) from None

    def write(self, table: str, rows: pa.Table) -> None:
        """One load and one script. Tables that the address does not name are passed over."""
        if not len(rows) or (table if table != _LATEST else "recommendations") not in self._address.tables:
            return
        try_again(
            lambda: self._attempt(table, rows),
            (*_PASSING, _Aborted),
            self._address.timeout_seconds,
            f"{self._where}: {table} cannot be written",
            _reason,
        )

    def close(self) -> None:
        """Frees the connection."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _attempt(self, table: str, rows: pa.Table) -> None:
        try:
            if table in IDENTITY:
                with self._staged(keyed(table, rows)) as staged:
                    self._run(history_script(table, self._name(table), staged))
            if table in ("recommendations", _LATEST):
                lists = lists_of(table, rows)
                with self._staged(lists.graves) as graves, self._staged(lists.latest) as latest:
                    self._run(self._lists_script(graves, latest))
        except exceptions.BadRequest as error:
            if "concurrent update" in str(error) or "aborted" in str(error):
                raise _Aborted(_reason(error)) from error
            raise RefusedRowsError(f"{self._where}: {table}: {_reason(error)}") from error
        except (exceptions.ClientError, GoogleAuthError) as error:
            if isinstance(error, _PASSING):
                raise
            raise OutputError(f"{self._where}: {table}: {_reason(error)}") from error

    def _lists_script(self, graves: str, latest: str) -> str:
        script = ""
        if graves:
            script += GRAVES_SCRIPT.format(heads=self._name(HEADS), latest=self._name(_LATEST), graves=graves)
        if latest:
            names = SCHEMAS[_LATEST].names
            script += LISTS_SCRIPT.format(
                heads=self._name(HEADS),
                latest=self._name(_LATEST),
                lists=latest,
                epoch=_EPOCH,
                columns=_quoted(names),
                from_lists=", ".join(f"s.`{name}`" for name in names),
            )
        return script

    def _run(self, script: str) -> None:
        if script and self._client is not None:
            job = self._client.query(f"BEGIN TRANSACTION;\n{script}\nCOMMIT TRANSACTION;")
            job.result(timeout=self._address.timeout_seconds)

    @contextmanager
    def _staged(self, rows: pa.Table) -> Iterator[str]:
        """The name of a table of the rows, for a while; empty where there are none."""
        if not len(rows) or self._client is None:
            yield ""
            return
        name = f"{self._address.project}.{self._address.dataset}.staged_{secrets.token_hex(8)}"
        staged = bigquery.Table(name, schema=bigquery_schema(rows.schema))
        staged.expires = datetime.now(UTC) + _STAGED_FOR
        self._client.create_table(staged, timeout=20)
        try:
            self._load(name, rows)
            yield f"`{name}`"
        finally:
            self._client.delete_table(name, not_found_ok=True, timeout=20)

    def _load(self, name: str, rows: pa.Table) -> None:
        parquet = io.BytesIO()
        pq.write_table(rows, parquet, use_compliant_nested_type=True)
        parquet.seek(0)
        lists = bigquery.ParquetOptions()
        lists.enable_list_inference = True
        config = bigquery.LoadJobConfig(
            source_format=bigquery.SourceFormat.PARQUET,
            write_disposition=bigquery.WriteDisposition.WRITE_APPEND,
            parquet_options=lists,
        )
        assert self._client is not None
        job = self._client.load_table_from_file(parquet, name, job_config=config)
        job.result(timeout=self._address.timeout_seconds)

    def _name(self, table: str) -> str:
        return f"`{self._address.project}.{self._address.dataset}.{table}`"

    def _make(self, table: str) -> None:
        schema = bigquery_schema(_HEAD_SCHEMA if table == HEADS else schema_of(table))
        made = bigquery.Table(f"{self._address.project}.{self._address.dataset}.{table}", schema=schema)
        made.description = DESCRIPTIONS.get(table, "Of each user the version of the current list.")
        if table in (HEADS, _LATEST, "recommendations"):
            made.clustering_fields = ["user_id"]
        assert self._client is not None
        self._client.create_table(made, exists_ok=True, timeout=20)


def history_script(table: str, target: str, staged: str) -> str:
    """The MERGE of staged history rows by `row_key`."""
    names = [ROW_KEY, *SCHEMAS[table].names]
    told_anew = ""
    if table in TOLD_ANEW:
        guard = " AND s.count >= t.count" if table == "trends" else ""
        given = ", ".join(f"`{name}` = s.`{name}`" for name in names[1:])
        told_anew = f"WHEN MATCHED{guard} THEN UPDATE SET {given}"
    return HISTORY_SCRIPT.format(table=target, rows=staged, told_anew=told_anew, columns=_quoted(names))


def schema_of(table: str) -> pa.Schema:
    """The Arrow schema of a table as the dataset holds it."""
    if table not in IDENTITY:
        return SCHEMAS[table]
    return pa.schema([pa.field(ROW_KEY, pa.string(), nullable=False), *SCHEMAS[table]])


def bigquery_schema(schema: pa.Schema) -> list[bigquery.SchemaField]:
    """The same columns in BigQuery's types, comments as descriptions."""
    return [_field(each) for each in schema]


def _field(field: pa.Field) -> bigquery.SchemaField:
    repeated = pa.types.is_list(field.type)
    kind = field.type.value_type if repeated else field.type
    comment = (field.metadata or {}).get(COMMENT_KEY, b"").decode()
    return bigquery.SchemaField(
        field.name,
        "RECORD"
        if pa.types.is_struct(kind)
        else "TIMESTAMP"
        if pa.types.is_timestamp(kind)
        else _TYPES[kind],
        "REPEATED" if repeated else "NULLABLE" if field.nullable else "REQUIRED",
        description=comment or None,
        fields=[_field(child) for child in kind] if pa.types.is_struct(kind) else (),
    )


_TYPES: Final[Mapping[pa.DataType, str]] = {
    pa.string(): "STRING",
    pa.int64(): "INTEGER",
    pa.int32(): "INTEGER",
    pa.float64(): "FLOAT",
    pa.bool_(): "BOOLEAN",
}


def _quoted(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _reason(error: BaseException) -> str:
    text: Any = getattr(error, "message", None) or str(error) or type(error).__name__
    return str(text).strip().splitlines()[0][:300]
