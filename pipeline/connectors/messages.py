"""What a message says before it is parsed: its raw record, and when the user acted. No Beam here."""

from __future__ import annotations

import hashlib
import re
from typing import Final

from models.adapters.base import RawRecord, length_and_hash
from models.adapters.framing import START_BYTES
from models.errors import BadRecord
from models.records import Micros
from models.times import parse_time

_EVENT_TIME: Final = re.compile(rb'"event_time"\s*:\s*(?:"([^"\\]{1,40})"|(-?[0-9][0-9.]{0,30}))')


def record_of(payload: bytes, position: str, max_record_bytes: int) -> RawRecord:
    """The raw record of a message; one that is too long keeps its first bytes, its length and its hash."""
    if len(payload) <= max_record_bytes:
        return payload, position, b"", ""
    fault = (
        f"too_long: expected at most {max_record_bytes} bytes a record, got {len(payload)}; "
        "see --max_record_bytes"
    )
    described = length_and_hash(len(payload), hashlib.sha256(payload).hexdigest()).encode()
    return payload[:START_BYTES], position, described, fault


def event_time_of(payload: bytes) -> Micros | None:
    """The first `event_time` in a JSON text, found without parsing it; None where none reads."""
    found = _EVENT_TIME.search(payload)
    if found is None:
        return None
    text = found[1] or found[2]
    try:
        return parse_time(text.decode("utf-8"))
    except (BadRecord, UnicodeDecodeError):
        return None
