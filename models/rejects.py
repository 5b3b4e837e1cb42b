"""Rejected input as a row: redacted, of bounded size, without raw user ids where a key is given."""

from __future__ import annotations

import hashlib
import json
from typing import Final

from models.adapters.base import RawRecord, length_and_hash
from models.adapters.fields import Fields, fields_of_event
from models.errors import BadRecord
from models.records import DeadLetter, FeedbackEvent, Micros
from models.text import clean_and_redact, pseudonym, redact

#: A payload that is longer is cut, and its length and hash are given.
MAX_PAYLOAD_CHARS: Final = 8192
#: So much of bytes that cannot be parsed is shown.
MAX_UNPARSED_CHARS: Final = 200
MAX_REASON_CHARS: Final = 500


def reject_bytes(
    stage: str, error: BadRecord, payload: bytes, position: str, now: Micros, key: bytes | None = None
) -> DeadLetter:
    """The row of bytes that are not a record: hash, length and, without `key`, a redacted start.

    With a key the start is left out, for a user id may stand in it.
    """
    described = length_and_hash(len(payload), hashlib.sha256(payload).hexdigest())
    return _row(stage, error, _with_start(described, payload, key), position, now)


def reject_fault(stage: str, record: RawRecord, now: Micros, key: bytes | None = None) -> DeadLetter:
    """The row of what the reader could not read, which names its fault."""
    start, position, described, fault = record
    code, _, reason = fault.partition(": ")
    return _row(stage, BadRecord(code, reason), _with_start(described.decode(), start, key), position, now)


def _with_start(described: str, start: bytes, key: bytes | None) -> str:
    if key is not None or not start:
        return described
    # Cut after redaction: half an address would not be recognised.
    text = start[: 16 * MAX_UNPARSED_CHARS].decode("utf-8", "replace")
    shown = (clean_and_redact(text) or "")[:MAX_UNPARSED_CHARS]
    return f"{described} start={shown}"


def reject_fields(
    stage: str, error: BadRecord, fields: Fields, position: str, now: Micros, key: bytes | None = None
) -> DeadLetter:
    """The row of a record whose fields could be read but are not an event."""
    if key is not None and (user_id := fields.get("user_id")) is not None:
        fields = {**fields, "user_id": pseudonym(str(user_id), key)}
    return _row(stage, error, _to_json(fields), position, now)


def reject_event(
    stage: str, error: BadRecord, event: FeedbackEvent, now: Micros, key: bytes | None = None
) -> DeadLetter:
    """The row of an event that is understood but incomplete or not trusted."""
    fields = fields_of_event(event)
    if event.text is not None:
        fields["text"] = clean_and_redact(event.text)
    return reject_fields(stage, error, fields, event.source_position, now, key)


def _to_json(fields: Fields) -> str:
    try:
        return json.dumps(fields, ensure_ascii=False, separators=(",", ":"), default=str)
    except (ValueError, RecursionError):  # numbers of thousands of digits
        return repr(sorted(fields))


def _row(stage: str, error: BadRecord, payload: str, position: str, now: Micros) -> DeadLetter:
    payload = redact(payload).encode("utf-8", "replace").decode()
    if len(payload) > MAX_PAYLOAD_CHARS:
        digest = hashlib.sha256(payload.encode()).hexdigest()
        payload = f"{payload[:MAX_PAYLOAD_CHARS]}… chars={len(payload)} sha256={digest}"
    reason = redact(error.reason)[:MAX_REASON_CHARS]
    return DeadLetter(stage, error.error_code, reason, payload, position, now)
