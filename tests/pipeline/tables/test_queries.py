from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from pipeline.tables.queries import QUERIES, readme_text
from tests.models.table_records import query
from tests.pipeline.tables.runs import RECORDS, write_tables


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("queries") / "out"
    write_tables(output, RECORDS)
    return output


@pytest.fixture(autouse=True)
def in_the_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


def printed_queries() -> list[str]:
    return re.findall(r"```sql\n(.*?)```", Path("README.md").read_text(), re.DOTALL)


def test_the_readme_prints_five_queries_that_run_in_its_folder() -> None:
    assert len(printed_queries()) == 5
    for sql in printed_queries():
        assert query(sql), sql


def test_the_script_holds_the_same_queries_and_runs_as_a_whole() -> None:
    script = Path("queries.sql").read_text()
    assert all(one.sql in script for one in QUERIES)
    assert query(script)


def test_the_queries_run_on_empty_tables_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tables(tmp_path / "out", {"quality": []})
    monkeypatch.chdir(tmp_path / "out")
    for sql in printed_queries():
        assert query(sql) == []


def test_the_first_query_shows_each_rank_with_its_main_reason() -> None:
    rows = query(QUERIES[0].sql)
    assert rows[0] == ("ann", 1, "apron", 1.0, "you liked apron")
    assert [(row[0], row[1]) for row in rows] == [("ann", 1), ("ann", 2), ("bob", 1)]


def test_the_second_query_joins_a_reason_to_the_words_behind_it() -> None:
    rows = [row for row in query(QUERIES[1].sql) if row[:2] == ("ann", "apron")]
    assert [row[2:6] for row in rows] == [("also_liked", 0.25, "apron", ["review", "review"])]


def test_the_last_query_closes_the_books() -> None:
    assert query(QUERIES[4].sql) == [("run-1", 6, 3, 3, 0)]


def test_the_readme_lists_every_column_of_every_table() -> None:
    text = readme_text()
    assert "| items.reasons.contribution | double |" in text
    assert all(
        f"### {name}\n" in text for name in os.listdir(".") if not name.startswith((".", "README", "queries"))
    )
