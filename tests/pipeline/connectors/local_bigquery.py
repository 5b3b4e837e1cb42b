"""A stand-in for BigQuery's client: its tables in DuckDB, its SQL parsed as BigQuery's and translated.

There is no BigQuery to run on one machine. What this cannot tell: the service's own checks, jobs,
quotas and conflicts of transactions. What it can: that the scripts are BigQuery's grammar and do
what they say.
"""

from __future__ import annotations

from typing import Any, BinaryIO

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import sqlglot
from google.api_core.exceptions import NotFound
from google.cloud import bigquery

_KINDS = {
    "STRING": "VARCHAR",
    "INTEGER": "BIGINT",
    "FLOAT": "DOUBLE",
    "BOOLEAN": "BOOLEAN",
    "TIMESTAMP": "TIMESTAMPTZ",
}


class LocalBigQuery:
    """One project with one dataset."""

    def __init__(self, project: str, dataset: str) -> None:
        self._database = duckdb.connect()
        self._database.execute(f'ATTACH \':memory:\' AS "{project}"; CREATE SCHEMA "{project}".{dataset}')
        self._dataset = dataset
        self.tables: dict[str, bigquery.Table] = {}

    def get_dataset(self, dataset: str, **how: Any) -> None:
        if dataset != self._dataset:
            raise NotFound(f"dataset {dataset}")

    def create_table(self, table: bigquery.Table, exists_ok: bool = False, **how: Any) -> None:
        name = f"{table.project}.{table.dataset_id}.{table.table_id}"
        assert exists_ok or name not in self.tables
        if name not in self.tables:
            columns = ", ".join(_column(field) for field in table.schema)
            self._database.execute(f"CREATE TABLE {_quoted(name)} ({columns})")
            self.tables[name] = table

    def delete_table(self, name: str, **how: Any) -> None:
        self._database.execute(f"DROP TABLE {_quoted(name)}")
        del self.tables[name]

    def load_table_from_file(self, file: BinaryIO, name: str, job_config: bigquery.LoadJobConfig) -> Job:
        assert job_config.source_format == "PARQUET"
        rows = pq.read_table(file)
        assert rows.column_names == [field.name for field in self.tables[name].schema]
        self._database.register("loaded", rows)
        self._database.execute(f"INSERT INTO {_quoted(name)} SELECT * FROM loaded")
        self._database.unregister("loaded")
        return Job()

    def query(self, script: str) -> Job:
        for statement in sqlglot.transpile(script, read="bigquery", write="duckdb"):
            self._database.execute("COMMIT" if statement.startswith("COMMIT") else statement)
        return Job()

    def rows(self, name: str) -> pa.Table:
        return self._database.sql(f"SELECT * FROM {_quoted(name)}").to_arrow_table()

    def close(self) -> None:
        """It is read after the sink has closed it."""


class Job:
    """It is done."""

    def result(self, timeout: float) -> None: ...


def _quoted(name: str) -> str:
    return ".".join(f'"{part}"' for part in name.split("."))


def _column(field: bigquery.SchemaField) -> str:
    return f'"{field.name}" {_kind(field)}{" NOT NULL" if field.mode == "REQUIRED" else ""}'


def _kind(field: bigquery.SchemaField) -> str:
    children = ", ".join(f'"{child.name}" {_kind(child)}' for child in field.fields)
    kind = f"STRUCT({children})" if children else _KINDS[field.field_type]
    return f"{kind}[]" if field.mode == "REPEATED" else kind
