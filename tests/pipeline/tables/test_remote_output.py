"""Tables on a file system that Beam reaches and the local disk does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.errors import OutputError
from models.tables import TABLES
from pipeline.tables.sinks import prepare_output
from tests.models.table_records import ACCOUNTING, query, top_k
from tests.pipeline import folder_filesystem
from tests.pipeline.folder_filesystem import PREFIX
from tests.pipeline.tables.runs import RECORDS, write_tables


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(folder_filesystem, "ROOT", tmp_path)
    return f"{PREFIX}bucket/out"


def files(tmp_path: Path) -> list[str]:
    return sorted(
        str(path.relative_to(tmp_path / "bucket/out")) for path in tmp_path.rglob("*") if path.is_file()
    )


def test_a_run_publishes_the_same_tables_elsewhere(remote: str, tmp_path: Path) -> None:
    write_tables(remote, RECORDS)
    assert files(tmp_path) == sorted(
        [".published.json", "README.md", "queries.sql", *(f"{t}/part-00000.parquet" for t in TABLES)]
    )
    write_tables(tmp_path / "local", RECORDS)
    for table in TABLES:
        there, here = (tmp_path / place / table / "part-00000.parquet" for place in ("bucket/out", "local"))
        assert there.read_bytes() == here.read_bytes()


def test_replace_and_append_mean_the_same_elsewhere(remote: str, tmp_path: Path) -> None:
    write_tables(remote, RECORDS)
    write_tables(
        remote, {"recommendations": [top_k("ann", 9, ["coat"])], "quality": ACCOUNTING}, "append", "run-2"
    )
    lists = f"'{tmp_path}/bucket/out/recommendations/*.parquet'"
    latest = f"'{tmp_path}/bucket/out/recommendations_latest/*.parquet'"
    assert query(f"SELECT count(*) FROM {lists}") == [(4,)]
    assert query(f"SELECT user_id, item_id FROM {latest} ORDER BY ALL") == [("ann", "coat"), ("bob", "coat")]
    assert "trends/part-00000.parquet" in files(tmp_path)
    write_tables(remote, {"recommendations": [top_k("dan", 1, ["coat"])]}, "replace", "run-3")
    assert query(f"SELECT user_id FROM {latest}") == [("dan",)]
    assert query(f"SELECT count(*) FROM {lists}") == [(1,)]


def test_tables_elsewhere_are_refused_when_so_said(remote: str) -> None:
    write_tables(remote, RECORDS)
    with pytest.raises(OutputError, match="already holds the tables"):
        prepare_output(remote, "run-2", "error")


def test_a_file_system_that_is_not_installed_is_a_clear_error() -> None:
    with pytest.raises(OutputError, match="cannot write the tables in nowhere://x"):
        prepare_output("nowhere://x/out", "run-1")
