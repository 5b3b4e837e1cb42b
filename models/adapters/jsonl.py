"""JSON lines: one object a line, as `livelist schema` describes it."""

from __future__ import annotations

import json
from typing import Final

from models.adapters.fields import (
    Fields,
    event_from_fields,
    fields_of_event,
    fields_of_item,
    item_from_fields,
    type_name,
)
from models.errors import BadRecord
from models.records import FeedbackEvent, Item

#: Objects and lists may be nested this deep, the record itself included.
MAX_DEPTH: Final = 64


class _NotFinite(ValueError):
    pass


def _refuse_constant(name: str) -> float:
    raise _NotFinite(name)


_DECODE = json.JSONDecoder(parse_constant=_refuse_constant).decode


def parse_feedback(payload: bytes, position: str, missing_time_code: str = "missing_field") -> FeedbackEvent:
    """One event from one line; raises BadRecord with a code of `models.errors.ERROR_CODES`.

    `position` says where the line was read, and is the event_id where the line has none.
    """
    return event_from_fields(decode_object(payload), position, missing_time_code)


def parse_item(payload: bytes, position: str = "") -> Item:
    """One catalogue entry from one line; raises BadRecord."""
    return item_from_fields(decode_object(payload))


def decode_object(payload: bytes) -> Fields:
    """The object in `payload` (UTF-8, a byte order mark allowed); raises BadRecord."""
    try:
        value = _DECODE(payload.decode())
    except UnicodeDecodeError as error:
        fault = f"byte 0x{payload[error.start]:02x} at {error.start}"
        raise BadRecord("invalid_utf8", f"expected UTF-8, got {fault}") from None
    except json.JSONDecodeError as error:
        if payload.startswith(b"\xef\xbb\xbf"):
            return decode_object(payload[3:])
        fault = f"a fault at character {error.pos}: {error.msg}"
        raise BadRecord("invalid_json", f"expected one JSON object, got {fault}") from None
    except _NotFinite as error:
        raise BadRecord("invalid_number", f"expected finite numbers, got {error}") from None
    except RecursionError:
        raise _too_deep() from None
    except ValueError:  # an integer of more digits than Python converts
        raise BadRecord("invalid_number", "expected numbers of at most 4,300 digits") from None
    if type(value) is not dict:
        raise BadRecord("not_an_object", f"expected a JSON object, got {type_name(value)}")
    if payload.count(b"{") + payload.count(b"[") > MAX_DEPTH:
        _check_depth(value)
    return value


def _check_depth(value: object) -> None:
    level: list[object] = [value]
    for _ in range(MAX_DEPTH + 1):
        inner: list[object] = []
        for each in level:
            if isinstance(each, dict):
                inner.extend(each.values())
            elif isinstance(each, list):
                inner.extend(each)
        if not inner:
            return
        level = inner
    raise _too_deep()


def _too_deep() -> BadRecord:
    return BadRecord("too_deep", f"expected at most {MAX_DEPTH} levels of nesting; flatten the object")


def feedback_to_json(event: FeedbackEvent) -> bytes:
    """One line (without its end) that `parse_feedback` reads back as the same event."""
    return _encode(fields_of_event(event))


def item_to_json(item: Item) -> bytes:
    """One line (without its end) that `parse_item` reads back as the same item."""
    return _encode(fields_of_item(item))


def _encode(fields: Fields) -> bytes:
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()
