"""Input formats by name; see `models.adapters.base.FeedbackAdapter` for what each provides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from models.adapters.amazon import AmazonAdapter
from models.adapters.base import LINES, FeedbackAdapter, Framing
from models.adapters.csv import CsvAdapter
from models.adapters.fields import Fields
from models.adapters.jsonl import decode_object
from models.adapters.movielens import MovieLensAdapter
from models.errors import UsageError

FORMATS: Final = ("jsonl", "amazon", "movielens", "csv")


@dataclass(frozen=True, slots=True)
class JsonLinesAdapter:
    """One JSON object a line, as the schemas describe it."""

    def framing(self, start: bytes) -> Framing:
        """Lines without header."""
        return LINES

    def event_fields(self, payload: bytes, header: bytes) -> Fields:
        """The object's members."""
        return decode_object(payload)

    def item_fields(self, payload: bytes, header: bytes) -> Fields:
        """The object's members."""
        return decode_object(payload)

    def missing_columns(self, header: bytes) -> str:
        """Nothing: lines have no header."""
        return ""


def adapter_of(
    name: str,
    mapping: tuple[tuple[str, str], ...] = (),
    constants: tuple[tuple[str, str], ...] = (),
    time_format: str = "",
) -> FeedbackAdapter:
    """The adapter of a format; raises UsageError for an unknown one, or for options it has no use for."""
    if name == "csv":
        return CsvAdapter(mapping, constants, time_format)
    if mapping or constants:
        raise UsageError(f"--map and --set belong to --format csv, got --format {name}")
    if time_format:
        raise UsageError(f"--time_format belongs to --format csv, got --format {name}")
    if name == "jsonl":
        return JsonLinesAdapter()
    if name == "amazon":
        return AmazonAdapter()
    if name == "movielens":
        return MovieLensAdapter()
    raise UsageError(f"--format must be one of {', '.join(FORMATS)}; got {name!r}")
