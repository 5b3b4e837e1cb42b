"""Times on the wire to integer microseconds and back, without rounding."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final

from models.errors import BadRecord
from models.records import MICROS_PER_SECOND, Micros

#: The first second beyond year 9999. An epoch number below it counts seconds, below a thousand times
#: it milliseconds, below a million times it microseconds. No time after 1980 can be mistaken.
MAX_EPOCH_SECONDS: Final = 253_402_300_800

_MIN_MICROS: Final = -62_135_596_800 * MICROS_PER_SECOND  # the first instant of year 1
_MAX_MICROS: Final = MAX_EPOCH_SECONDS * MICROS_PER_SECOND - 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_RFC_3339 = re.compile(
    r"\d{4}-\d\d-\d\d(?:[Tt ]([01]\d|2[0-3]):[0-5]\d(?::(?P<second>[0-5]\d|60)(?:\.\d{1,9})?)?"
    r"(?:[Zz]|[+-]([01]\d|2[0-3]):?[0-5]\d)?)?",
    re.ASCII,
)
_NUMBER = re.compile(r"[+-]?\d{1,18}(?:\.\d{0,9})?", re.ASCII)


def parse_time(value: object, name: str = "event_time") -> Micros:
    """Microseconds since 1970 UTC of an RFC 3339 text or an epoch number (also as text).

    A text without zone is UTC; a date alone is its midnight. Whole numbers and decimal texts
    convert exactly; digits below a microsecond are cut off. See `MAX_EPOCH_SECONDS` for units.
    """
    if type(value) is str:
        return _parse_text(value.strip(), name)
    if type(value) is int:
        return _from_epoch(value, name)
    if type(value) is float:
        return _from_float(value, name)
    raise BadRecord("wrong_type", f"{name}: expected a text or a number, got {type(value).__name__}")


def _parse_text(text: str, name: str) -> Micros:
    if (match := _RFC_3339.fullmatch(text)) is not None:
        leap = match["second"] == "60"
        if leap:
            text = text[: match.start("second")] + "59" + text[match.end("second") :]
        try:
            micros = to_micros(datetime.fromisoformat(text.upper())) + leap * MICROS_PER_SECOND
        except ValueError:
            micros = _MAX_MICROS + 1
        if _MIN_MICROS <= micros <= _MAX_MICROS:
            return micros
    elif _NUMBER.fullmatch(text):
        return _from_epoch(Decimal(text), name)
    expected = "2026-01-31T12:00:00Z or epoch seconds, in the years 1 to 9999"
    raise BadRecord("invalid_time", f"{name}: expected {expected}; got {text[:40]!r}")


def _from_epoch(number: int | Decimal, name: str) -> Micros:
    for unit in (MICROS_PER_SECOND, 1000, 1):
        micros = int(number * unit)
        if _MIN_MICROS <= micros <= _MAX_MICROS:
            return micros
    raise BadRecord("invalid_time", f"{name}: {str(number)[:40]} is beyond year 9999 even in microseconds")


def _from_float(number: float, name: str) -> Micros:
    if number != number or number in (float("inf"), float("-inf")):
        raise BadRecord("invalid_number", f"{name}: expected a finite number, got {number}")
    # The shortest digits that read as this double are what was written; its exact value is not.
    return _from_epoch(Decimal(repr(number)), name)


def wall_clock() -> Micros:
    """Microseconds now. For judging impossible times and stamping rows, never for ranking."""
    return time.time_ns() // 1_000


def to_micros(moment: datetime) -> Micros:
    """Microseconds since 1970 of a moment; one without zone is taken as UTC."""
    delta: timedelta = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH
    return (delta.days * 86_400 + delta.seconds) * MICROS_PER_SECOND + delta.microseconds


def format_time(micros: Micros) -> str:
    """RFC 3339 in UTC, without a fraction where there is none; years 1 to 9999."""
    moment = _EPOCH + timedelta(microseconds=micros)
    return moment.isoformat().replace("+00:00", "Z")
