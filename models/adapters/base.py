"""What every input format provides, and the raw record that readers hand to parsers."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Protocol, TypeAlias

from models.adapters.fields import Fields, event_from_fields, item_from_fields
from models.errors import BadRecord
from models.records import FeedbackEvent, Item

#: (payload, position "<file name>:<10-digit line number>", the file's header or b"", fault).
#: A fault is "" for a whole record. For what the reader could not read it is "<error code>: <reason>",
#: the payload its first bytes and the header its length and hash. A tuple, for its coder is fast.
RawRecord: TypeAlias = tuple[bytes, str, bytes, str]

NUMBER_FIELDS: Final = frozenset({"rating", "value", "revision", "price"})
# The record's length is bounded by the reader; the csv module's own limit of 128 kB would be in the way.
csv.field_size_limit(1 << 30)


@dataclass(frozen=True, slots=True)
class Framing:
    """How a file is cut into records."""

    header: bool = False  # the first record names the columns
    quoted: bytes = b""  # the delimiter, where a quoted field may hold line ends; else b""


LINES: Final = Framing()


class FeedbackAdapter(Protocol):
    """One input format: cuts files into records and names their values."""

    def framing(self, start: bytes) -> Framing:
        """The framing of a file that begins with the line `start`."""
        ...

    def event_fields(self, payload: bytes, header: bytes) -> Fields:
        """The fields of an event; raises BadRecord where the bytes cannot be read."""
        ...

    def item_fields(self, payload: bytes, header: bytes) -> Fields:
        """The fields of an item; raises BadRecord where the bytes cannot be read."""
        ...

    def missing_columns(self, header: bytes) -> str:
        """What a header of feedback lacks, in words, or an empty text."""
        ...


def raw_record(payload: bytes, position: str = "test:0000000001", header: bytes = b"") -> RawRecord:
    """A whole record."""
    return payload, position, header, ""


def position_of(name: str, line: int) -> str:
    """Where a record begins: file name and line from 1, ten digits so that text order is file order."""
    return f"{name}:{line:010d}"


def length_and_hash(length: int, sha256: str) -> str:
    """What identifies bytes of which a table holds no more than the start."""
    return f"bytes={length} sha256={sha256}"


def check_fault(record: RawRecord) -> None:
    """Raises BadRecord where the reader could not read this record."""
    if fault := record[3]:
        code, _, reason = fault.partition(": ")
        raise BadRecord(code, reason)


def parse_event(
    adapter: FeedbackAdapter, record: RawRecord, missing_time_code: str = "missing_field"
) -> FeedbackEvent:
    """One event from one raw record; raises BadRecord."""
    check_fault(record)
    return event_from_fields(adapter.event_fields(record[0], record[2]), record[1], missing_time_code)


def parse_item(adapter: FeedbackAdapter, record: RawRecord) -> Item:
    """One catalogue entry from one raw record; raises BadRecord."""
    check_fault(record)
    return item_from_fields(adapter.item_fields(record[0], record[2]))


def decode(payload: bytes, fallback: str | None = None) -> str:
    """UTF-8 text without byte order mark, or of the `fallback` encoding; raises BadRecord."""
    try:
        return payload.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if fallback is not None:
            return payload.decode(fallback)
        fault = f"byte 0x{payload[error.start]:02x} at {error.start}"
        raise BadRecord("invalid_utf8", f"expected UTF-8, got {fault}") from None


def split_row(text: str, delimiter: str) -> list[str]:
    """The fields of one CSV record, which may span lines; raises BadRecord."""
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    except csv.Error as error:
        raise BadRecord("invalid_csv", f"expected one row of separated values, got {error}") from None
    if len(rows) != 1:
        raise BadRecord("invalid_csv", f"expected one row, got {len(rows)}; quote separators and line ends")
    return rows[0]


def named_row(payload: bytes, header: bytes, delimiter: str, fallback: str | None = None) -> dict[str, str]:
    """Column name -> value, empty values left out; raises BadRecord."""
    names = column_names(header, delimiter)
    values = split_row(decode(payload, fallback), delimiter)
    if len(values) != len(names):
        raise BadRecord("invalid_csv", f"expected {len(names)} columns as in the header, got {len(values)}")
    return {name: value for name, value in zip(names, values, strict=True) if value.strip()}


@lru_cache(maxsize=64)
def column_names(header: bytes, delimiter: str) -> tuple[str, ...]:
    """The names in a header, trimmed."""
    return tuple(name.strip() for name in split_row(decode(header, "latin-1"), delimiter))


@lru_cache(maxsize=64)
def delimiter_of(header: bytes) -> str:
    """The separator that occurs most often in a header line."""
    text = header.decode("utf-8", "replace")
    return max(",\t;|", key=text.count)


def to_number(text: str) -> object:
    """The number that `text` is, or `text` itself, which the record then refuses."""
    try:
        number = float(text)
    except ValueError:
        return text
    return int(number) if math.isfinite(number) and number.is_integer() and abs(number) < 2**53 else number


def rename(
    row: dict[str, str], names: dict[str, str], convert: Callable[[str], object] = to_number
) -> Fields:
    """`row` with its columns named as fields, numeric fields converted; other columns keep their name."""
    fields: Fields = {}
    for column, value in row.items():
        name = names.get(column, column)
        fields[name] = convert(value) if name in NUMBER_FIELDS else value
    return fields
