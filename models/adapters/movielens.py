"""MovieLens and RecBole files: .inter/.item with typed headers, .dat with '::', u.data, .csv.

A row becomes a `rating` event. MovieLens 10M and later rate from half a star: pass
`--rating_scale 0.5:5`. Ratings are in UTF-8 or, before 2010, ISO 8859-1.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from models.adapters.base import LINES, Framing, column_names, decode, named_row, rename
from models.adapters.fields import Fields
from models.adapters.jsonl import decode_object
from models.errors import BadRecord

_EVENT_NAMES: Final = {
    "userId": "user_id",
    "movieId": "item_id",
    "timestamp": "event_time",
}
_ITEM_NAMES: Final = {
    "movieId": "item_id",
    "movie_title": "title",
    "class": "tags",
    "genre": "tags",
    "genres": "tags",
}
_EVENT_COLUMNS: Final = ("user_id", "item_id", "rating", "event_time")
_YEAR_AT_END = re.compile(r"\s*\((\d{4})\)\s*$")


@dataclass(frozen=True, slots=True)
class MovieLensAdapter:
    """Ratings as events, movies as items."""

    def framing(self, start: bytes) -> Framing:
        """By the first line: '::', JSON or bare numbers have no header, names of columns are one."""
        if b"::" in start or start.startswith(b"{"):
            return LINES
        if b"\t" in start or b":token" in start:
            return LINES if start[:1].isdigit() else Framing(header=True)
        return Framing(header=True, quoted=b",")

    def event_fields(self, payload: bytes, header: bytes) -> Fields:
        """The fields of one rating."""
        row = _named(payload, header) if header else _unnamed(payload, _EVENT_COLUMNS)
        fields = rename(row, _EVENT_NAMES)
        fields["kind"] = "rating"
        return fields

    def item_fields(self, payload: bytes, header: bytes) -> Fields:
        """The fields of one movie; genres become tags, the year a tag of its own."""
        if payload.startswith(b"{") and not header:  # a catalogue in our own schema
            return decode_object(payload)
        row = _named(payload, header) if header else _unnamed(payload, ("item_id", "title", "tags"))
        fields = rename(row, _ITEM_NAMES)
        genres = _genres(str(fields.get("tags", "")))
        title = str(fields.get("title", ""))
        year = fields.pop("release_year", None)
        if (match := _YEAR_AT_END.search(title)) is not None:
            year = year or match[1]
        fields.update(title=title, tags=[*genres, str(year)] if year else genres)
        if genres:
            fields["category"] = genres[0]
        return fields

    def missing_columns(self, header: bytes) -> str:
        """What a header lacks."""
        names = {_EVENT_NAMES.get(name, name) for name in _names(header)}
        missing = [name for name in _EVENT_COLUMNS if name not in names]
        return f"the columns {', '.join(missing)} of MovieLens" if missing else ""


def _delimiter(header: bytes) -> str:
    return "\t" if b"\t" in header else ","


def _names(header: bytes) -> list[str]:
    return [name.partition(":")[0] for name in column_names(header, _delimiter(header))]


def _named(payload: bytes, header: bytes) -> dict[str, str]:
    if _delimiter(header) == ",":
        return named_row(payload, header, ",", "latin-1")
    return _row(decode(payload, "latin-1").split("\t"), _names(header))


def _unnamed(payload: bytes, names: tuple[str, ...]) -> dict[str, str]:
    text = decode(payload, "latin-1")
    return _row(text.split("::" if "::" in text else "\t"), names)


def _row(values: list[str], names: list[str] | tuple[str, ...]) -> dict[str, str]:
    if len(values) != len(names):
        expected = f"{len(names)} columns ({', '.join(names)})"
        raise BadRecord("invalid_csv", f"expected {expected}, got {len(values)}")
    return {name: value.strip() for name, value in zip(names, values, strict=True) if value.strip()}


def _genres(text: str) -> list[str]:
    listed = text.split("|") if "|" in text else text.split()
    return [] if text == "(no genres listed)" else listed
