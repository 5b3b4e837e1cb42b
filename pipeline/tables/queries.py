"""The README and the SQL file beside the tables: five queries that run as printed in DuckDB."""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

from models.tables import DESCRIPTIONS, SCHEMA_VERSION, TABLES, describe_table
from pipeline.tables.output_folder import Step

README_FILE: Final = "README.md"
SQL_FILE: Final = "queries.sql"


class Query(NamedTuple):
    """One question that the tables answer."""

    question: str
    sql: str


QUERIES: Final[tuple[Query, ...]] = (
    Query(
        "What does each user see, and why?",
        """\
SELECT user_id, rank, item_id, round(score, 3) AS score, reasons[1].text AS main_reason
FROM 'recommendations_latest/*.parquet'
ORDER BY user_id, rank
LIMIT 20;""",
    ),
    Query(
        "Which feedback put an item there? One row per reason, with what the cited events said.",
        """\
WITH why AS (
    SELECT user_id, item_id, unnest(reasons) AS reason FROM 'recommendations_latest/*.parquet'
)
SELECT w.user_id, w.item_id AS listed, w.reason.code, round(w.reason.contribution, 3) AS contribution,
       any_value(f.item_id) AS about, list(f.kind ORDER BY f.event_time, f.event_id) AS kinds,
       round(avg(f.rating), 2) AS rating, round(avg(f.polarity), 2) AS polarity
FROM why AS w
JOIN 'scored_feedback/*.parquet' AS f
  ON f.user_id = w.user_id AND list_contains(w.reason.event_ids, f.event_id)
GROUP BY w.user_id, w.item_id, w.reason
ORDER BY abs(w.reason.contribution) DESC, w.user_id, w.item_id, w.reason.code
LIMIT 20;""",
    ),
    Query(
        "Which items are praised in words, and which are not? With the share of stars that disagree.",
        """\
SELECT item_id, count(*) AS texts, round(avg(polarity), 2) AS tone, round(avg(rating), 2) AS stars,
       round(avg(conflict::INTEGER), 3) AS conflicts
FROM 'scored_feedback/*.parquet'
WHERE polarity IS NOT NULL AND item_id IS NOT NULL
GROUP BY item_id
HAVING count(*) >= 3
ORDER BY tone, item_id
LIMIT 20;""",
    ),
    Query(
        "What was rejected, and what can its sender do?",
        """\
SELECT source AS table_name, error_code, count(*) AS records, any_value(reason) AS example
FROM (
    SELECT 'dead_letters' AS source, error_code, reason FROM 'dead_letters/*.parquet'
    UNION ALL
    SELECT 'quarantine' AS source, error_code, reason FROM 'quarantine/*.parquet'
)
GROUP BY ALL
ORDER BY records DESC, error_code;""",
    ),
    Query(
        "Does the accounting of each run close? `open` is zero when nothing was lost.",
        """\
WITH books AS (
    SELECT run_id, split_part("check", '.', 2) AS account, value
    FROM 'quality/*.parquet'
    WHERE "check" LIKE 'accounting.%'
)
SELECT run_id,
       sum(value) FILTER (WHERE account = 'input')::BIGINT AS read,
       sum(value) FILTER (WHERE account = 'accepted')::BIGINT AS accepted,
       sum(value) FILTER (
           WHERE account NOT IN ('input', 'accepted', 'note', 'unaccounted')
       )::BIGINT AS refused,
       read - coalesce(accepted, 0) - coalesce(refused, 0) AS open
FROM books
GROUP BY run_id
ORDER BY run_id DESC;""",
    ),
)


def queries_sql() -> str:
    """The queries as one script: `duckdb < queries.sql` in the folder of the tables."""
    return "\n\n".join(f"-- {query.question}\n{query.sql}" for query in QUERIES) + "\n"


def readme_text() -> str:
    """The README of an output folder: queries first, then every column."""
    queries = "\n".join(f"{query.question}\n\n```sql\n{query.sql}\n```\n" for query in QUERIES)
    tables = "\n".join(_table_section(name) for name in reversed(TABLES))
    return f"""\
# Tables written by livelist (schema version {SCHEMA_VERSION})

Parquet, one folder a table; times are UTC with microseconds. Every `*.parquet` file in a table's
folder belongs to it, at any moment. Folders of tables belong to livelist: keep nothing else there.

## Five queries

Paths are relative to this folder: `cd` here, then `duckdb` (or `duckdb < {SQL_FILE}` for all of them).

{queries}
The same from Python: `pandas.read_parquet("recommendations_latest")` (`pip install pandas` first).

## Columns

{tables}"""


def _table_section(name: str) -> str:
    lines = [
        f"| {column.name} | {column.type}{', may be null' if column.nullable else ''} | {column.comment} |"
        for column in describe_table(name)
    ]
    header = "| column | type | meaning |\n|---|---|---|"
    return f"### {name}\n\n{DESCRIPTIONS[name]}\n\n{header}\n" + "\n".join(lines) + "\n"


def stage_query_files(staging: Path) -> list[Step]:
    """Writes both files below a staging folder; returns the steps that publish them."""
    texts = {README_FILE: readme_text(), SQL_FILE: queries_sql()}
    for name, text in texts.items():
        (staging / name).write_text(text, encoding="utf-8")
    return [Step("file", name, name) for name in texts]
