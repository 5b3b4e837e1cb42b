from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Sequence
from pathlib import Path

import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.table_columns import table_from_records
from models.tables import (
    COMMENT_KEY,
    SCHEMA_VERSION,
    SCHEMAS,
    SORT_KEYS,
    TABLES,
    AlertRow,
    TrendRow,
    describe_table,
    schema_version_of,
    table_of,
)
from tests.models.table_records import ACCOUNTING, NOON, dead_letter, query, scored, top_k

NOON_UTC = datetime.datetime.fromtimestamp(NOON // 1_000_000, datetime.UTC)
RECORDS: dict[str, Sequence[object]] = {
    "recommendations": [top_k("ann", 7), top_k("bob", 8, tombstone=True)],
    "scored_feedback": [scored("e1"), scored("e2", polarity=None, item_id=None, rating=None, weight=None)],
    "trends": [TrendRow(NOON, NOON + 60, "item", "apron", 3, 2, -0.5, 0.1, 2, 1)],
    "alerts": [AlertRow("surge", "item", "apron", NOON, '{"z": 6.0}')],
    "quality": ACCOUNTING,
    "dead_letters": [dead_letter("f:1")],
    "quarantine": [dead_letter("f:2", "late")],
}


@pytest.mark.parametrize("name", TABLES)
def test_every_column_has_a_comment_that_survives_in_parquet(name: str, tmp_path: Path) -> None:
    pq.write_table(SCHEMAS[name].empty_table(), tmp_path / "t.parquet")
    schema = pq.read_schema(tmp_path / "t.parquet")
    assert all(field.metadata[COMMENT_KEY] for field in schema)
    assert all(column.comment for column in describe_table(name))
    assert (table_of(schema), schema_version_of(schema)) == (name, SCHEMA_VERSION)


def test_nested_columns_are_described_under_dotted_names() -> None:
    names = [column.name for column in describe_table("recommendations")]
    assert "items.reasons.event_ids" in names
    assert next(c for c in describe_table("recommendations") if c.name == "items").type == "list<struct>"


def test_a_file_of_someone_else_belongs_to_no_table() -> None:
    schema = pa.schema([("a", pa.int64())])
    assert (table_of(schema), schema_version_of(schema)) == (None, 0)


@pytest.mark.parametrize("name", SORT_KEYS)
def test_the_canonical_order_uses_columns_of_the_table(name: str) -> None:
    assert set(SORT_KEYS[name]) <= set(SCHEMAS[name].names)


@pytest.mark.parametrize("name", RECORDS)
def test_records_read_back_alike_in_duckdb_and_pandas(name: str, tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    rows = table_from_records(name, RECORDS[name], "run-1")
    rows.validate(full=True)
    pq.write_table(rows, path)
    assert len(query(f"SELECT * FROM '{path}'")) == len(RECORDS[name])
    frame = pandas.read_parquet(path)
    assert list(frame.columns) == SCHEMAS[name].names
    assert len(frame) == len(RECORDS[name])


def test_no_field_that_may_not_be_null_is_null() -> None:
    for name, records in RECORDS.items():
        rows = table_from_records(name, records, "run-1")
        for field in rows.schema:
            assert field.nullable or rows[field.name].null_count == 0, (name, field.name)


def test_times_carry_their_zone_and_keep_microseconds(tmp_path: Path) -> None:
    pq.write_table(table_from_records("recommendations", [top_k("ann", 7)]), tmp_path / "t.parquet")
    frame = pandas.read_parquet(tmp_path / "t.parquet")
    assert frame["event_time"][0].to_pydatetime() == NOON_UTC + datetime.timedelta(microseconds=7)
    assert frame["event_time"][0] - frame["emitted_time"][0] == pandas.Timedelta(microseconds=6)
    assert query(f"SELECT typeof(event_time) FROM '{tmp_path}/t.parquet'") == [("TIMESTAMP WITH TIME ZONE",)]


def test_a_list_keeps_its_items_and_reasons() -> None:
    row = table_from_records("recommendations", [top_k("ann", 7, ["boots", "coat"])]).to_pylist()[0]
    assert [item["item_id"] for item in row["items"]] == ["boots", "coat"]
    reason = {
        "code": "also_liked",
        "event_ids": ["e1", "e2"],
        "contribution": 0.25,
        "text": "you liked boots",
    }
    assert row["items"][0] == {"rank": 1, "item_id": "boots", "score": 1.0, "reasons": [reason]}
    assert row["window_end"] is None
    assert row["state_version"] == 7


def test_scores_are_null_without_words_and_whole_with_them() -> None:
    with_words, without = table_from_records("scored_feedback", RECORDS["scored_feedback"]).to_pylist()
    assert with_words["sentiment"] == {"negative": 0.25, "neutral": 0.0, "positive": 0.75}
    assert with_words["topics"] == [{"name": "quality", "score": 0.8}]
    scores = (
        "sentiment",
        "polarity",
        "intensity",
        "confidence",
        "topics",
        "intent",
        "language",
        "model_version",
    )
    assert [without[name] for name in scores] == [None] * len(scores)


def test_half_a_surrogate_pair_becomes_a_question_mark_and_crashes_nothing() -> None:
    letter = dataclasses.replace(dead_letter("f:1"), payload="bad \ud800 😀 \x00")
    assert table_from_records("dead_letters", [letter])["payload"].to_pylist() == ["bad ? 😀 \x00"]


def test_a_record_of_another_table_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match="table trends takes TrendRow, got TopK"):
        table_from_records("trends", [top_k("ann", 1)])


def test_quality_rows_carry_the_run_that_measured_them() -> None:
    assert table_from_records("quality", ACCOUNTING, "run-9")["run_id"].to_pylist() == ["run-9", "run-9"]
