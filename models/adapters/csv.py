"""Any CSV or TSV with a header, by a mapping of columns to fields and constants."""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Final

from models.adapters.base import LINES, Framing, column_names, delimiter_of, named_row, rename
from models.adapters.fields import Fields, nearest_kind
from models.adapters.jsonl import decode_object
from models.errors import BadRecord, UsageError
from models.records import KIND_CODES, FeedbackEvent, Item

_FIELD_NAMES: Final = frozenset(
    field.name for record in (FeedbackEvent, Item) for field in fields(record)
) - {"source_position"}
#: Without these every row would be rejected.
_NEEDED: Final = ("user_id", "kind", "event_time")
_TRUE: Final = frozenset({"true", "t", "yes", "y", "1"})
_FALSE: Final = frozenset({"false", "f", "no", "n", "0"})


@dataclass(frozen=True, slots=True)
class CsvAdapter:
    """Columns named like a field are that field; `mapping` names others; the rest are attributes."""

    mapping: tuple[tuple[str, str], ...] = ()  # (field, column)
    constants: tuple[tuple[str, str], ...] = ()  # (field, value), for every row
    time_format: str = ""  # of event_time, as in `datetime.strptime`; "": RFC 3339 or an epoch number

    def __post_init__(self) -> None:
        for name, _ in self.mapping + self.constants:
            if name not in _FIELD_NAMES:
                raise UsageError(f"--map and --set name fields of a record; {name!r} is none; {_hint(name)}")
        for name, value in self.constants:
            if name == "kind" and value not in KIND_CODES:
                raise UsageError(f"--set kind={value}: {value!r} is no kind; {nearest_kind(value)}")
        if self.time_format:
            _check_time_format(self.time_format)

    def framing(self, start: bytes) -> Framing:
        """A header, then quoted rows; the separator is the one most frequent in the header."""
        if start.startswith(b"{"):
            return LINES
        return Framing(header=True, quoted=delimiter_of(start).encode())

    def event_fields(self, payload: bytes, header: bytes) -> Fields:
        """The fields of one row."""
        if not header:
            raise BadRecord("invalid_csv", "expected a header line with the names of the columns, got JSON")
        return self._fields(payload, header)

    def item_fields(self, payload: bytes, header: bytes) -> Fields:
        """The fields of one row; tags are separated by | or commas."""
        if not header:  # a catalogue in our own schema
            return decode_object(payload)
        return self._fields(payload, header)

    def _fields(self, payload: bytes, header: bytes) -> Fields:
        row = named_row(payload, header, delimiter_of(header))
        # A column may serve two fields, so mapped ones are looked up rather than renamed.
        mapped = {column for _, column in self.mapping}
        named = {name: row[column] for name, column in self.mapping if column in row}
        rest = {column: value for column, value in row.items() if column not in mapped}
        fields = _typed(rename({**rest, **dict(self.constants), **named}, {}))
        if self.time_format and isinstance(written := fields.get("event_time"), str):
            fields["event_time"] = _read_time(written, self.time_format)
        return fields

    def missing_columns(self, header: bytes) -> str:
        """Mapped columns that the header lacks, and fields that no event can be without."""
        names = column_names(header, delimiter_of(header))
        if missing := [column for _, column in self.mapping if column not in names]:
            return f"the mapped columns {', '.join(missing)}; it has {', '.join(names)}"
        given = {*names, *(name for name, _ in self.mapping + self.constants)}
        if missing := [name for name in _NEEDED if name not in given]:
            example = " --set kind=review" if missing == ["kind"] else f" --map {missing[0]}=COLUMN"
            return f"{', '.join(missing)}; it has {', '.join(names)}: say which column it is, as in{example}"
        return ""


def _check_time_format(time_format: str) -> None:
    """Refuses, at the start, a form that cannot read back the day that it wrote."""
    moment = datetime(2001, 2, 3, 4, 5, 6)
    try:
        read = datetime.strptime(moment.strftime(time_format), time_format)
    except ValueError:
        read = None
    if read is None or read.date() != moment.date():
        raise UsageError(
            f"--time_format: expected a form that tells the day, as '%d/%m/%Y %H:%M', got {time_format!r}"
        )


def _read_time(written: str, time_format: str) -> str:
    """RFC 3339; without a zone in the form it is UTC."""
    try:
        return datetime.strptime(written.strip(), time_format).isoformat()
    except ValueError:
        raise BadRecord(
            "invalid_time",
            f"event_time: expected the form {time_format} (--time_format); got {written[:40]!r}",
        ) from None


def _hint(name: str) -> str:
    near = difflib.get_close_matches(name, _FIELD_NAMES, 1)
    return f"did you mean {near[0]}?" if near else f"choose from {', '.join(sorted(_FIELD_NAMES))}"


def _typed(row: Fields) -> Fields:
    """Texts of tags, truth and attributes as the values they stand for."""
    if isinstance(tags := row.get("tags"), str):
        row["tags"] = [tag.strip() for tag in tags.split("|" if "|" in tags else ",") if tag.strip()]
    if isinstance(available := row.get("available"), str):
        word = available.strip().lower()
        row["available"] = True if word in _TRUE else False if word in _FALSE else available
    if isinstance(attributes := row.get("attributes"), str):
        try:
            row["attributes"] = json.loads(attributes)
        except (ValueError, RecursionError):
            pass  # stays a text, which the record refuses
    return row


def parse_pairs(flag: str, pairs: list[str]) -> tuple[tuple[str, str], ...]:
    """`["user_id=reviewer"]` -> `(("user_id", "reviewer"),)`; raises UsageError naming the flag."""
    split = [pair.partition("=") for pair in pairs]
    for pair, (name, equals, value) in zip(pairs, split, strict=True):
        if not (name.strip() and equals and value.strip()):
            raise UsageError(f"{flag} expects FIELD=VALUE, got {pair!r}; for example {flag} user_id=reviewer")
    return tuple((name.strip(), value.strip()) for name, _, value in split)
