"""Bytes are cut into the same records however they arrive, in bounded memory, and nothing vanishes."""

from __future__ import annotations

import csv
import hashlib
import io
import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.adapters import adapter_of
from models.adapters.base import RawRecord, split_row
from models.adapters.framing import DamagedInput, split_records
from models.errors import InputError, UsageError

LIMIT = 1 << 20


def records(
    content: bytes, form: str = "jsonl", step: int = 1 << 16, limit: int = LIMIT, damage: str = ""
) -> list[RawRecord]:
    def chunks() -> Iterator[bytes]:
        for start in range(0, len(content), step):
            yield content[start : start + step]
        if damage:
            raise DamagedInput(damage)

    # Which columns a header names is no matter of framing.
    return list(split_records(chunks(), adapter_of(form), "f", limit, form != "csv"))


def outcome(content: bytes, form: str, step: int = 1 << 16) -> list[RawRecord] | str:
    try:
        return records(content, form, step)
    except InputError as error:
        return str(error)


def payloads(content: bytes, form: str = "jsonl", step: int = 1 << 16) -> list[bytes]:
    return [payload for payload, _, _, fault in records(content, form, step) if not fault]


@given(
    st.lists(st.sampled_from([b"{}", b"\n", b"\r\n", b"\r", b" ", b"a", b'"', b",", b"\xef\xbb\xbf"])),
    st.integers(1, 9),
)
def test_the_cut_of_chunks_does_not_matter(parts: list[bytes], step: int) -> None:
    content = b"".join(parts)
    for form in ("jsonl", "csv"):
        assert outcome(content, form, step) == outcome(content, form)


@given(st.lists(st.binary(max_size=20)), st.integers(1, 9))
def test_every_line_that_is_not_blank_is_a_record_with_its_number(lines: list[bytes], step: int) -> None:
    content = b"\n".join(lines)
    numbered = enumerate(content.removeprefix(b"\xef\xbb\xbf").splitlines(), 1)
    expected = [(line, f"f:{number:010d}", b"", "") for number, line in numbered if line.strip()]
    assert records(content, step=step) == expected


def test_line_ends_may_be_mixed_and_a_byte_order_mark_may_lead() -> None:
    assert payloads(b"\xef\xbb\xbf{1}\r\n{2}\n\n{3}\r{4}") == [b"{1}", b"{2}", b"{3}", b"{4}"]


def test_an_empty_file_has_no_records() -> None:
    for form in ("jsonl", "csv", "amazon", "movielens"):
        assert records(b"", form) == []
        assert records(b"\n \r\n", form) == []


rows = st.lists(
    st.lists(st.text(st.sampled_from('ab",\n\r é')), min_size=2, max_size=4).filter(
        lambda row: any(map(str.strip, row))
    ),
    min_size=1,
)


@given(rows, st.integers(1, 7))
def test_quoted_rows_are_cut_where_the_csv_writer_ended_them(written: list[list[str]], step: int) -> None:
    content = io.StringIO()
    csv.writer(content, quoting=csv.QUOTE_ALL).writerows([["x", "y"], *written])
    read = records(content.getvalue().encode(), "csv", step)
    assert [split_row(payload.decode(), ",") for payload, _, _, _ in read] == written
    assert {header for _, _, header, _ in read} == {b'"x","y"'}


def test_a_row_over_several_lines_has_the_number_of_its_first() -> None:
    content = b'x,y\n1,"a\nb\n\nc"\n2,d\n'
    assert [(payload, position) for payload, position, _, _ in records(content, "csv")] == [
        (b'1,"a\nb\n\nc"', "f:0000000002"),
        (b"2,d", "f:0000000006"),
    ]


def test_a_quote_inside_an_open_field_does_not_join_rows() -> None:
    assert payloads(b'x,y\n5" pipe,a\n6" pipe,b\n', "csv") == [b'5" pipe,a', b'6" pipe,b']


def test_one_stray_quote_costs_one_row() -> None:
    read = records(b'x,y\n1,"never closed\n2,b\n3,c\n', "csv")
    assert [(payload, fault[:11]) for payload, _, _, fault in read] == [
        (b'1,"never closed', "invalid_csv"),
        (b"2,b", ""),
        (b"3,c", ""),
    ]


def test_rows_that_all_stay_open_are_cut_one_by_one() -> None:
    content = b"x,y\n" + b'1"2,"a\n' * 700
    faults = [fault for _, _, _, fault in records(content, "csv")]
    assert len(faults) == 700
    assert all(faults)


def test_a_header_that_never_closes_stops_the_job() -> None:
    with pytest.raises(InputError, match="f: expected a header line, got invalid_csv"):
        records(b'x,"y\n1,2\n', "csv")


def test_a_50_mb_line_is_one_fault_and_its_neighbours_are_read() -> None:
    line = b"x" * 50_000_000

    def chunks() -> Iterator[bytes]:
        yield b"{1}\n"
        for _ in range(50):
            yield line[:1_000_000]
        yield b"\r\n{2}\n"

    tracemalloc.start()
    first, long, last = split_records(chunks(), adapter_of("jsonl"), "f", LIMIT)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (first[0], last[0], last[1]) == (b"{1}", b"{2}", "f:0000000003")
    assert long[3].startswith("too_long: expected at most 1048576 bytes a record, got 50000000")
    assert long[2].decode() == f"bytes=50000000 sha256={hashlib.sha256(line).hexdigest()}"
    assert peak < 10_000_000


@given(st.integers(0, 12), st.integers(1, 9))
def test_the_longest_record_that_is_allowed_is_read(length: int, step: int) -> None:
    for end in (b"", b"\n", b"\r\n"):
        (record,) = records(b"x" * (length + 1) + end, step=step, limit=10)
        assert bool(record[3]) == (length + 1 > 10)


def test_what_came_before_damage_is_kept_and_the_rest_is_one_fault() -> None:
    good, broken = records(b'{"a": 1}\n{"a": ', damage="the gzip data ends early")
    assert good[3] == ""
    assert (broken[0], broken[1]) == (b'{"a": ', "f:0000000002")
    assert broken[3] == "truncated_input: the gzip data ends early; the records before it were read"


def test_damage_inside_a_quoted_field_loses_no_row_and_is_told_once() -> None:
    read = records(b'x,y\n1,a\n2,"b\nc', "csv", damage="the gzip data ends early")
    assert [fault.partition(":")[0] for _, _, _, fault in read] == ["", "invalid_csv", "truncated_input"]


def test_a_header_without_the_mapped_column_stops_the_job() -> None:
    adapter = adapter_of("csv", (("user_id", "reviewer"),))
    with pytest.raises(InputError, match=r"f: the header lacks the mapped columns reviewer; it has a, b"):
        list(split_records(iter([b"a,b\n1,2\n"]), adapter, "f", LIMIT))


def test_a_header_without_what_every_event_needs_says_how_to_name_it() -> None:
    with pytest.raises(InputError, match=r"f: the header lacks user_id, event_time; .* --map user_id=COLUMN"):
        list(split_records(iter([b"a,kind\n1,like\n"]), adapter_of("csv"), "f", LIMIT))


def test_a_constant_of_an_unknown_kind_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean review"):
        adapter_of("csv", (), (("kind", "reveiw"),))
