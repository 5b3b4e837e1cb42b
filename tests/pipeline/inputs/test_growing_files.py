"""Files that grow: only whole lines, each once, at the positions of the bounded reader."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.adapters import adapter_of
from models.adapters.base import RawRecord
from models.errors import InputError, UsageError
from pipeline.inputs.finding import check_inputs
from pipeline.inputs.growing_files import GrowingFiles, check_followed
from pipeline.inputs.reading import read_records

LIMIT = 60
pieces = st.sampled_from(
    [
        b"a",
        b"{}",
        b'{"user_id": 1}',
        b"\n",
        b"\n",
        b"\r\n",
        b"\r",
        b"\n\n",
        b"  ",
        b"\xef\xbb\xbf",
        b"\xff",
        b"x" * 80,
    ]
)


def bounded(folder: Path) -> list[RawRecord]:
    inputs = check_inputs([str(folder)])
    return [record for each in inputs for record in read_records(each, adapter_of("jsonl"), LIMIT)]


def taken(files: GrowingFiles, find_new: bool = True) -> list[RawRecord]:
    files.look(find_new)
    found = []
    while (record := files.take()) is not None:
        found.append(record)
    return found


def append(path: Path, content: bytes) -> None:
    with path.open("ab") as file:
        file.write(content)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(writes=st.lists(st.tuples(st.booleans(), pieces, st.booleans()), max_size=25), data=st.data())
def test_however_it_is_written_and_resumed_the_records_are_those_of_the_bounded_reader(
    writes: list[tuple[bool, bytes, bool]], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("grown")
    one, other = folder / "one.jsonl", folder / "other.jsonl"
    one.touch()
    other.touch()
    files, found = GrowingFiles([str(folder)], LIMIT), []
    for which, piece, resume in writes:
        append(one if which else other, piece)
        files.look(True)
        for _ in range(data.draw(st.integers(0, 3))):
            if (record := files.take()) is not None:
                found.append(record)
        if resume:
            files = GrowingFiles([str(folder)], LIMIT, files.places)
    for path in (one, other):
        append(path, b"\n")
    assert sorted(found + taken(files)) == sorted(bounded(folder))
    assert files.unfinished() == []


def test_a_half_written_line_waits_for_its_end(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"a": 1}\n{"b"')
    files = GrowingFiles([str(tmp_path)], LIMIT)
    assert [record[0] for record in taken(files)] == [b'{"a": 1}']
    assert files.unfinished() == [str(path)]
    append(path, b": 2}")
    assert taken(files) == []
    append(path, b"\n")
    assert taken(files) == [(b'{"b": 2}', "events.jsonl:0000000002", b"", "")]


def test_what_is_written_after_a_look_waits_for_the_next(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"1\n")
    files = GrowingFiles([str(tmp_path)], LIMIT)
    files.look(True)
    append(path, b"2\n")
    assert [files.take(), files.take()] == [(b"1", "events.jsonl:0000000001", b"", ""), None]
    assert [record[0] for record in taken(files)] == [b"2"]


def test_a_line_of_megabytes_is_a_fault_and_those_around_it_are_not(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"before\n" + b"x" * 3_000_000)
    files = GrowingFiles([str(tmp_path)], LIMIT)
    assert [record[0] for record in taken(files)] == [b"before"]
    append(path, b"x" * 2_000_000)
    assert taken(files) == []
    append(path, b"\nafter\n")
    assert taken(files) == bounded(tmp_path)[1:]


def test_new_files_are_found_and_one_of_a_known_name_is_told_apart(tmp_path: Path) -> None:
    files = GrowingFiles([str(tmp_path)], LIMIT)
    assert taken(files) == []
    (tmp_path / "a.jsonl").write_bytes(b"1\n")
    assert taken(files, find_new=False) == []
    assert [record[1] for record in taken(files)] == ["a.jsonl:0000000001"]
    (tmp_path / "later").mkdir()
    (tmp_path / "later" / "a.jsonl").write_bytes(b"2\n")
    (position,) = [record[1] for record in taken(files)]
    assert position.endswith("later/a.jsonl:0000000001")


@pytest.mark.parametrize("replace", [True, False])
def test_a_file_that_was_cut_or_replaced_is_read_from_its_start(tmp_path: Path, replace: bool) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"1\n2\n")
    files = GrowingFiles([str(tmp_path)], LIMIT)
    assert len(taken(files)) == 2
    if replace:
        (tmp_path / ".new").write_bytes(b"3\n4\n")
        os.replace(tmp_path / ".new", path)
    else:
        path.write_bytes(b"3\n")
    assert taken(files)[0] == (b"3", "events.jsonl:0000000001", b"", "")


def test_a_compressed_file_that_appears_is_left_alone_and_named(tmp_path: Path) -> None:
    files = GrowingFiles([str(tmp_path)], LIMIT)
    (tmp_path / "old.jsonl.gz").write_bytes(gzip.compress(b"1\n"))
    (tmp_path / "new.jsonl").write_bytes(b"2\n")
    assert [record[0] for record in taken(files)] == [b"2"]
    assert files.refused == {str(tmp_path / "old.jsonl.gz"): "gzip"}


def test_what_cannot_be_followed_is_refused_with_the_reason(tmp_path: Path) -> None:
    check_followed([str(tmp_path), str(tmp_path / "*.jsonl")])
    (tmp_path / "events.gz").write_bytes(gzip.compress(b"1\n"))
    with pytest.raises(UsageError, match="gzip file does not grow by lines; unpack it"):
        check_followed([str(tmp_path)])
    with pytest.raises(UsageError, match="not stdin"):
        check_followed(["-"])
    with pytest.raises(UsageError, match="local folders and files"):
        check_followed(["gs://bucket/events"])
    with pytest.raises(UsageError, match="a pipe or a device"):
        check_followed(["/dev/null"])
    with pytest.raises(InputError, match="make the folder, it may be empty"):
        check_followed([str(tmp_path / "nowhere")])
