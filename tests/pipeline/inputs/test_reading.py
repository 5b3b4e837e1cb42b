"""Files come in as events and rows, in order, by the functions of the job; nothing vanishes."""

from __future__ import annotations

import gzip
import json
import zipfile
from collections import Counter
from pathlib import Path

import pytest

from models.cleaning import CleaningConfig
from models.errors import InputError
from models.records import DeadLetter, FeedbackEvent, Item
from pipeline.inputs.reading import InputFormat, iterate_records, read_feedback, read_items

NOW = 1_769_860_800_000_000


def line(number: int, **members: object) -> bytes:
    event = {
        "event_id": f"e{number}",
        "user_id": "u1",
        "kind": "review",
        "event_time": 1769860800 - number,
        "item_id": "i1",
        "rating": 4,
        **members,
    }
    return json.dumps(event).encode() + b"\n"


def read(path: Path, **form: object) -> list[FeedbackEvent | DeadLetter]:
    return list(read_feedback([str(path)], InputFormat(**form), CleaningConfig(), NOW))  # type: ignore[arg-type]


def codes(rows: list[FeedbackEvent | DeadLetter]) -> list[str]:
    return [row.error_code if isinstance(row, DeadLetter) else "accepted" for row in rows]


def test_good_and_bad_lines_come_in_the_order_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(
        b"\xef\xbb\xbf"
        + line(1)
        + b"not json\r\n\n"
        + line(2, rating=9)
        + line(3, event_time="9999-12-31T23:59:59Z")
        + line(4, text="<b>good</b>")
        + b"\xff\xfe\n"
        + b"[" * 100_000
        + b"\n"
        + line(5, event_id="x" * 10_240)
    )
    rows = read(path)
    assert codes(rows) == [
        "accepted",
        "invalid_json",
        "rating_out_of_scale",
        "time_in_future",
        "accepted",
        "invalid_utf8",
        "too_deep",
        "invalid_id",
    ]
    assert [row.source_position for row in rows[1:3]] == [
        "events.jsonl:0000000002",
        "events.jsonl:0000000004",
    ]


def test_a_50_mb_line_is_a_dead_letter_between_its_neighbours(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with path.open("wb") as out:
        out.write(line(1))
        for _ in range(50):
            out.write(b'{"text": "jo@example.com ' + b"x" * 1_000_000)
        out.write(b"\n" + line(2))
    first, long, last = read(path)
    assert codes([first, long, last]) == ["accepted", "too_long", "accepted"]
    assert isinstance(long, DeadLetter)
    assert long.payload.startswith("bytes=50001250 sha256=")
    assert "example.com" not in long.payload


def test_max_record_bytes_may_be_raised(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(line(1, text="x" * 2_000_000))
    assert codes(read(path)) == ["too_long"]
    assert codes(read(path, max_record_bytes=3_000_000)) == ["accepted"]


def test_a_truncated_gz_keeps_its_good_lines_and_tells_the_break_once(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl.gz"
    whole = gzip.compress(b"".join(line(number, text=str(hash(str(number)))) for number in range(2000)))
    path.write_bytes(whole[: len(whole) // 2])
    rows = read(path)
    counted = Counter(codes(rows))
    assert counted["truncated_input"] == 1
    assert codes(rows)[-1] == "truncated_input"
    assert 500 < counted["accepted"] == len(rows) - 1


def test_an_empty_file_is_no_fault(tmp_path: Path) -> None:
    for name in ("a.jsonl", "b.jsonl.gz"):
        (tmp_path / name).write_bytes(b"" if name == "a.jsonl" else gzip.compress(b""))
    assert read(tmp_path) == []


def test_a_missing_file_is_an_input_error() -> None:
    with pytest.raises(InputError, match=r"no file matches 'missing\.jsonl'"):
        list(iterate_records(["missing.jsonl"], InputFormat()))


def test_two_events_with_one_id_and_different_content_are_both_read(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(line(1, text="good") + line(1, text="bad"))
    first, second = read(path)
    assert isinstance(first, FeedbackEvent)
    assert isinstance(second, FeedbackEvent)
    assert (first.event_id, first.text) == (second.event_id, "good")
    assert second.text == "bad"


def test_a_zipped_csv_has_its_rows_numbered_as_in_an_editor(tmp_path: Path) -> None:
    path = tmp_path / "reviews.csv.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(
            "reviews.csv", 'user,item,when,words\nu1,i1,2026-01-01,"two\nlines"\nu2,i2,2026-01-02,one\n'
        )
    rows = read(
        path,
        name="csv",
        columns=(("user_id", "user"), ("item_id", "item"), ("event_time", "when"), ("text", "words")),
        constants=(("kind", "comment"),),
    )
    assert [row.event_id for row in rows if isinstance(row, FeedbackEvent)] == [
        "reviews.csv.zip:0000000002",
        "reviews.csv.zip:0000000004",
    ]


def test_items_and_their_faults_are_read(tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    path.write_bytes(b'{"item_id": "i1", "title": "Coat"}\n{"title": "no id"}\n')
    item, row = read_items([str(path)], now=NOW)
    assert item == Item("i1", "Coat")
    assert isinstance(row, DeadLetter)
    assert (row.stage, row.error_code) == ("parse_items", "missing_field")


def test_a_limit_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1, got 0"):
        InputFormat(max_record_bytes=0)
