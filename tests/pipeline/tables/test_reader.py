from __future__ import annotations

from pathlib import Path

import pytest

from models.errors import InputError
from pipeline.tables.reader import highest_version, nearest_users, read_accounting, read_latest
from tests.models.table_records import ACCOUNTING, top_k
from tests.pipeline.tables.runs import BOOKS, RECORDS, publish_records


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("reader")
    publish_records(folder, RECORDS, "run-1")
    return str(folder)


def test_the_current_list_reads_back_as_it_was_written(output: str) -> None:
    assert read_latest(output, "ann") == top_k("ann", 4)


def test_an_unknown_user_is_told_the_nearest(output: str) -> None:
    with pytest.raises(InputError, match=r"user 'anne' has no list in .*; did you mean ann\?"):
        read_latest(output, "anne")
    assert nearest_users(output, "bobb") == ["bob"]


def test_an_erased_user_is_said_to_be_erased(output: str) -> None:
    with pytest.raises(InputError, match="user 'cat' was erased"):
        read_latest(output, "cat")


def test_an_id_with_quotes_is_an_id_like_any_other(output: str) -> None:
    with pytest.raises(InputError, match="has no list"):
        read_latest(output, "x' OR '1'='1")


def test_a_folder_without_tables_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no table recommendations_latest"):
        read_latest(str(tmp_path), "ann")
    with pytest.raises(InputError, match="there is no such folder; make the tables first: livelist run"):
        read_latest(str(tmp_path / "none"), "ann")


def test_the_books_read_back(output: str) -> None:
    books = read_accounting(output)
    assert books.counts == {name: count for name, count in BOOKS.items() if name != "unaccounted"}
    assert books.unaccounted == 0


def test_the_books_are_those_of_the_last_run(tmp_path: Path) -> None:
    publish_records(tmp_path, RECORDS, "run-1")
    publish_records(tmp_path, {"quality": ACCOUNTING}, "run-2", "append")
    assert read_accounting(str(tmp_path)).counts == {"input": 3, "accepted": 3}


def test_the_highest_version_is_the_floor_of_the_next_run(output: str, tmp_path: Path) -> None:
    assert highest_version(output) == 9
    assert highest_version(str(tmp_path)) == 0
    publish_records(tmp_path, {"quality": []}, "run-1")
    assert highest_version(str(tmp_path)) == 0
