"""Amazon review dumps: JSON lines of 2014, 2018 and 2023, CSV conversions, and their metadata.

A review becomes a `review` event with the summary before its text. Reviewers' names are dropped;
what else a row holds (votes, verified, style) becomes attributes.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from typing import Final

from models.adapters.base import LINES, Framing, column_names, named_row, to_number
from models.adapters.fields import Fields
from models.adapters.jsonl import decode_object
from models.errors import BadRecord

_REVIEW_NAMES: Final = {
    "reviewerID": "user_id",
    "asin": "item_id",
    "overall": "rating",
    "unixReviewTime": "event_time",
    "timestamp": "event_time",  # 2023
}
_DROPPED: Final = frozenset({"reviewerName", "reviewTime", "images", "image"})
# What the shop filled in where a reviewer wrote no summary: stars again, not words.
_STARS = re.compile(r"(?:one|two|three|four|five) stars?", re.IGNORECASE)
_PRICE = re.compile(r"\s*(?:US)?\$?\s*(\d{1,3}(?:,\d{3})*(?:\.\d+)?|\d+(?:\.\d+)?)\s*")
_REVIEW_TIME = re.compile(r"(\d\d) (\d{1,2}), (\d{4})")
_CSV: Final = Framing(header=True, quoted=b",")


@dataclass(frozen=True, slots=True)
class AmazonAdapter:
    """Reviews as events, metadata as items."""

    def framing(self, start: bytes) -> Framing:
        """Lines of JSON (or of Python literals, as the metadata of 2014), else CSV with header."""
        return LINES if start.lstrip(b"\xef\xbb\xbf \t").startswith((b"{", b"[")) else _CSV

    def event_fields(self, payload: bytes, header: bytes) -> Fields:
        """The fields of one review."""
        row: Fields = dict(named_row(payload, header, ",")) if header else decode_object(payload)
        if header and isinstance(overall := row.get("overall"), str):
            row["overall"] = to_number(overall)
        return _review_fields(row)

    def item_fields(self, payload: bytes, header: bytes) -> Fields:
        """The fields of one metadata row."""
        row: Fields = dict(named_row(payload, header, ",")) if header else _decode_metadata(payload)
        return _item_fields(row)

    def missing_columns(self, header: bytes) -> str:
        """What a CSV's header lacks."""
        names = column_names(header, ",")
        missing = [name for name in ("reviewerID", "asin", "unixReviewTime") if name not in names]
        return f"the columns {', '.join(missing)} of Amazon's reviews" if missing else ""


def _review_fields(row: Fields) -> Fields:
    fields: Fields = {"kind": "review", "text": _review_text(row)}
    if row.get("unixReviewTime") is None and "timestamp" not in row:
        fields["event_time"] = _review_time(row.get("reviewTime"))
    for name, value in row.items():
        if name not in _DROPPED and name not in ("reviewText", "summary", "text", "title"):
            fields[_REVIEW_NAMES.get(name, name)] = value
    if (parent := fields.pop("parent_asin", None)) is not None:  # metadata of 2023 knows only parents
        fields["item_id"] = parent
    return fields


def _review_text(row: Fields) -> object:
    """Summary and text as one; a value of another type goes on as it is and is refused."""
    summary, text = row.get("summary", row.get("title")), row.get("reviewText", row.get("text"))
    if not isinstance(summary, str) or not summary.strip() or _STARS.fullmatch(summary.strip()):
        return text
    if text is not None and not isinstance(text, str):
        return text
    summary = summary.strip()
    if not text or text.startswith(summary):
        return text or summary
    return f"{summary} {text}" if summary[-1] in ".!?…" else f"{summary}. {text}"


def _review_time(value: object) -> object:
    if isinstance(value, str) and (match := _REVIEW_TIME.fullmatch(value.strip())) is not None:
        return f"{match[3]}-{match[1]}-{int(match[2]):02d}"
    return value


def _decode_metadata(payload: bytes) -> Fields:
    try:
        return decode_object(payload)
    except BadRecord as error:
        if error.error_code != "invalid_json" or not payload.startswith(b"{'"):
            raise
        literal = _python_literal(payload)
        if literal is None:
            raise
        return literal


def _python_literal(payload: bytes) -> Fields | None:
    """The dict of a metadata row of 2014, which was printed by Python 2."""
    try:
        value = ast.literal_eval(payload.decode().strip())
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None
    return value if isinstance(value, dict) else None


def _item_fields(row: Fields) -> Fields:
    if "item_id" in row:  # a catalogue in our own schema
        return row
    levels = _texts(row.get("categories")) or _texts(row.get("category"))
    main = _texts(row.get("main_cat")) or _texts(row.get("main_category"))
    levels = list(dict.fromkeys(levels or main))
    brand = _texts(row.get("brand")) or _texts(row.get("store"))
    words = _texts(row.get("description")) + _texts(row.get("feature")) + _texts(row.get("features"))
    return {
        "item_id": row.get("parent_asin") or row.get("asin"),
        "title": row.get("title"),
        "description": " ".join(words) or None,
        "category": levels[-1] if levels else None,
        "tags": levels[:-1] + brand,
        "price": _price(row.get("price")),
    }


def _texts(value: object) -> list[str]:
    """All texts in a text or nested list of texts."""
    if isinstance(value, str):
        return [value.strip()] if value.strip() else []
    if isinstance(value, list):
        return [text for each in value for text in _texts(each)]
    return []


def _price(value: object) -> object:
    """The price, or None where the dump holds a range, markup or nothing."""
    if isinstance(value, str):
        match = _PRICE.fullmatch(value)
        return float(match[1].replace(",", "")) if match else None
    return value
