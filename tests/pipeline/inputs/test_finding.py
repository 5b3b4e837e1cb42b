"""Patterns become the same named inputs on every run, or a readable error before the job starts."""

from __future__ import annotations

import io
import os
import re
import sys
import threading
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from models.errors import InputError, UsageError
from pipeline.inputs.finding import Input, check_inputs, open_input, skipped_files, spool, total_bytes


def write(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"{}\n")


def names(*patterns: object) -> list[str]:
    return [each.name for each in check_inputs([str(pattern) for pattern in patterns])]


def test_a_file_a_glob_and_a_folder_are_listed_in_order(tmp_path: Path) -> None:
    write(tmp_path, "b.jsonl", "a.jsonl", "c.csv", "deep/d.jsonl")
    assert names(tmp_path / "b.jsonl") == ["b.jsonl"]
    assert names(tmp_path / "*.jsonl") == ["a.jsonl", "b.jsonl"]
    assert names(tmp_path) == ["a.jsonl", "b.jsonl", "c.csv", "d.jsonl"]
    assert names(tmp_path / "**" / "*.jsonl") == ["a.jsonl", "b.jsonl", "d.jsonl"]


def test_a_file_that_two_patterns_name_is_read_once(tmp_path: Path) -> None:
    write(tmp_path, "a.jsonl")
    assert names(tmp_path, tmp_path / "a.jsonl") == ["a.jsonl"]


def test_hidden_files_and_markers_are_left_out(tmp_path: Path) -> None:
    write(tmp_path, "a.jsonl", ".b.jsonl", "_SUCCESS", ".git/c", "_tmp/d")
    assert names(tmp_path) == ["a.jsonl"]


def test_files_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    write(tmp_path, "x/part-0.jsonl", "y/part-0.jsonl")
    assert names(tmp_path) == ["x/part-0.jsonl", "y/part-0.jsonl"]


def test_a_name_with_glob_characters_is_taken_as_it_stands(tmp_path: Path) -> None:
    write(tmp_path, "a[1].jsonl")
    assert names(tmp_path / "a[1].jsonl") == ["a[1].jsonl"]


@pytest.mark.parametrize("pattern", ["missing.jsonl", "*.csv", "empty"])
def test_what_matches_nothing_is_an_input_error(tmp_path: Path, pattern: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        InputError, match=r"no file matches .*expected a file, a folder with files, a glob or -"
    ):
        check_inputs([str(tmp_path / pattern)])


def test_no_pattern_at_all_is_an_input_error() -> None:
    with pytest.raises(InputError, match="names no file"):
        check_inputs([])


def test_a_url_that_beam_does_not_know_is_an_input_error() -> None:
    with pytest.raises(InputError, match="cannot list nowhere://bucket/x"):
        check_inputs(["nowhere://bucket/x"])


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        (
            "kafka://h:9092/t?group=g&sasl.password=hunter2",
            "kafka://h:9092/t?group=g&sasl.password=*** never ends",
        ),
        ("pubsub://my-project/feedback", "pass it as --input of `livelist run --streaming`"),
        ("postgresql://me:hunter2@h/db", "postgresql:// is not for --input"),
        ("kafak://h:9092/t?group=g&sasl.password=hunter2", "did you mean kafka://"),
    ],
)
def test_a_service_is_told_from_a_file_system_and_shows_no_password(uri: str, told: str) -> None:
    with pytest.raises(UsageError, match=re.escape(told)) as refused:
        check_inputs([uri])
    assert "hunter2" not in str(refused.value)


def test_a_file_that_cannot_be_opened_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot open .*: Is a directory"):
        open_input(str(tmp_path))


@pytest.fixture
def fresh_spool() -> Iterator[None]:
    spool.cache_clear()
    yield
    spool.cache_clear()


@pytest.mark.usefixtures("fresh_spool")
def test_stdin_is_read_once_and_may_be_opened_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"{1}\n{2}\n")))
    (first,), (again,) = check_inputs(["-"]), check_inputs(["-"])
    assert first == again == Input(first.path, "stdin")
    with open_input(first.path) as stream:
        assert stream.read() == b"{1}\n{2}\n"


@pytest.mark.usefixtures("fresh_spool")
def test_a_named_pipe_is_read_once_and_may_be_opened_again(tmp_path: Path) -> None:
    pipe = tmp_path / "events"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(b"{1}\n",))
    writer.start()
    (given,) = check_inputs([str(pipe)])
    writer.join()
    assert (given.name, Path(given.path).read_bytes()) == ("events", b"{1}\n")


def test_a_url_without_a_file_system_names_no_package() -> None:
    with pytest.raises(InputError, match="there is no file system for http://") as refused:
        check_inputs(["http://127.0.0.1/events.jsonl"])
    assert "pip" not in str(refused.value)


@pytest.mark.skipif(find_spec("boto3") is not None, reason="the extra aws is installed")
def test_a_url_of_an_extra_names_it() -> None:
    with pytest.raises(InputError, match=r"s3:// needs: pip install 'livelist\[aws\]'"):
        check_inputs(["s3://bucket/events.jsonl"])


def test_documents_in_a_folder_are_not_read_and_can_be_told(tmp_path: Path) -> None:
    write(tmp_path, "a.jsonl", "README.md", "deep/README", "deep/old.parquet", "part-00000", "notes.txt")
    assert names(tmp_path) == ["a.jsonl", "notes.txt", "part-00000"]
    skipped = skipped_files([str(tmp_path), "-", str(tmp_path / "*")])
    assert skipped == [str(tmp_path / name) for name in ("README.md", "deep/README", "deep/old.parquet")]
    assert names(tmp_path / "*.md") == names(tmp_path / "README.md") == ["README.md"]


def test_sizes_are_those_on_disk(tmp_path: Path) -> None:
    write(tmp_path, "a.jsonl", "b.jsonl")
    assert total_bytes(check_inputs([str(tmp_path)])) == 6
    assert total_bytes([Input("nowhere://bucket/x", "x")]) == 0
