"""The one place where named values become records: every format maps its names to these first."""

from __future__ import annotations

import difflib
import json
import math
import re
from typing import Final, TypeAlias

from models.errors import BadRecord
from models.records import KIND_CODES, FeedbackEvent, Item
from models.text import clean_text
from models.times import format_time, parse_time

#: Values by field name, as the schemas of `models.schema` describe them.
Fields: TypeAlias = dict[str, object]

MAX_ID_CHARS: Final = 512
MAX_LOCALE_CHARS: Final = 64
MAX_INT64: Final = 2**63 - 1

_COMPACT = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), sort_keys=True).encode
_SURROGATE = re.compile("[\ud800-\udfff]")
_LONGEST_SHOWN = 60
_TYPE_NAMES = {
    bool: "a boolean",
    int: "a number",
    float: "a number",
    str: "a text",
    type(None): "null",
    list: "a list",
    dict: "an object",
}


def event_from_fields(
    fields: Fields, position: str, missing_time_code: str = "missing_field"
) -> FeedbackEvent:
    """One event from its fields, which are used up; unknown ones become attributes.

    null counts as absent; without an event_id the position stands in. Raises BadRecord. What a
    kind needs beyond user and time is judged by `models.cleaning`.
    """
    pop = fields.pop
    kind = _kind(pop("kind", None))
    user_id = _needed_id(pop("user_id", None), "user_id", kind)
    event_time = pop("event_time", None)
    if event_time is None:
        raise BadRecord(missing_time_code, f"event_time: every {kind} needs one, got none")
    event_id = pop("event_id", None)
    revision = pop("revision", None)
    return FeedbackEvent(
        position if event_id is None else _id(event_id, "event_id"),
        user_id,
        kind,
        parse_time(event_time),
        _optional_id(pop("item_id", None), "item_id"),
        _number(pop("rating", None), "rating"),
        _text(pop("text", None), "text"),
        _number(pop("value", None), "value"),
        _locale(pop("locale", None)),
        _optional_id(pop("recommendation_id", None), "recommendation_id"),
        target_event_id=_optional_id(pop("target_event_id", None), "target_event_id"),
        revision=0 if revision is None else _revision(revision),
        attributes=_attributes(fields) if fields else (),
        source_position=position,
    )


def _kind(value: object) -> str:
    if value is None:
        raise BadRecord("missing_field", "kind: every event needs one, got none")
    if type(value) is not str:
        raise _wrong_type("kind", "a text", value)
    if value not in KIND_CODES:
        raise BadRecord("unknown_kind", f"kind: got {_shown(value)}; {nearest_kind(value)}")
    return value


def nearest_kind(value: str) -> str:
    """What a misspelt kind probably means, in words."""
    near = difflib.get_close_matches(value.lower(), KIND_CODES, 1) if len(value) <= MAX_LOCALE_CHARS else []
    return f"did you mean {near[0]}?" if near else f"expected one of {', '.join(KIND_CODES)}"


def _needed_id(value: object, name: str, kind: str) -> str:
    if value is None:
        raise BadRecord("missing_field", f"{name}: every {kind} needs one, got none")
    return _id(value, name)


def _optional_id(value: object, name: str) -> str | None:
    return None if value is None else _id(value, name)


def _id(value: object, name: str) -> str:
    """Ids are texts or whole numbers; what is wrong with one is said without showing it."""
    if type(value) is float and value.is_integer():
        value = int(value)
    if type(value) is int:
        # Python refuses to print an integer of thousands of digits.
        value = str(value) if -(10**MAX_ID_CHARS) < value < 10**MAX_ID_CHARS else " " * (MAX_ID_CHARS + 1)
    if type(value) is not str:
        raise BadRecord("wrong_type", f"{name}: expected a text or a whole number, got {type_name(value)}")
    if len(value) > MAX_ID_CHARS:
        raise BadRecord("invalid_id", f"{name}: expected at most {MAX_ID_CHARS} characters, got {len(value)}")
    if not value or value.isspace():
        raise BadRecord("invalid_id", f"{name}: expected an id, got an empty text; leave the field out")
    if not value.isascii() and _SURROGATE.search(value):
        raise BadRecord("invalid_id", f"{name}: holds half of a surrogate pair; write the id as UTF-8")
    return value


def _number(value: object, name: str) -> float | None:
    if value is None:
        return None
    if type(value) is not float and type(value) is not int:
        raise _wrong_type(name, "a number", value)
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise BadRecord("invalid_number", f"{name}: expected a finite number, got {number}")
    return number


def _text(value: object, name: str) -> str | None:
    if value is None or type(value) is str:
        return value
    raise _wrong_type(name, "a text", value)


def _locale(value: object) -> str | None:
    locale = _text(value, "locale")
    if locale is not None and len(locale) > MAX_LOCALE_CHARS:
        raise BadRecord("wrong_type", f"locale: expected a tag such as en-GB, got {len(locale)} characters")
    return _encodable(locale) if locale else None


def _revision(value: object) -> int:
    if type(value) is float and value.is_integer():
        value = int(value)
    if type(value) is not int or not 0 <= value <= MAX_INT64:
        raise _wrong_type("revision", "a whole number from 0 to 2^63 - 1", value)
    return value


def _attributes(fields: Fields) -> tuple[tuple[str, str], ...]:
    declared = fields.pop("attributes", None)
    if declared is not None:
        if not isinstance(declared, dict):
            raise _wrong_type("attributes", "an object", declared)
        fields = {**declared, **fields}
    named = [(_encodable(name), _compact(name, value)) for name, value in fields.items() if value is not None]
    return tuple(sorted(named)) if len(named) > 1 else tuple(named)


def _compact(name: str, value: object) -> str:
    if type(value) is str and value.isascii() and value.isalnum():
        return f'"{value}"'
    try:
        return _encodable(_COMPACT(value))
    except ValueError:
        raise BadRecord("invalid_number", f"{_shown(name)}: expected finite numbers") from None


def _encodable(text: str) -> str:
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


def _wrong_type(name: str, expected: str, value: object) -> BadRecord:
    return BadRecord("wrong_type", f"{name}: expected {expected}, got {type_name(value)} {_shown(value)}")


def type_name(value: object) -> str:
    """The JSON name of a value's type."""
    return _TYPE_NAMES.get(type(value), type(value).__name__)


def _shown(value: object) -> str:
    if isinstance(value, dict | list):
        return f"of {len(value)}"
    shown = repr(value) if type(value) is not int or abs(value) < 10**_LONGEST_SHOWN else "of many digits"
    return _encodable(shown if len(shown) <= _LONGEST_SHOWN else shown[:_LONGEST_SHOWN] + "…")


def item_from_fields(fields: Fields) -> Item:
    """One catalogue entry from its fields; unknown ones are ignored. Raises BadRecord."""
    price = _number(fields.get("price"), "price")
    published = fields.get("published_at")
    available = fields.get("available")
    if available is not None and type(available) is not bool:
        raise _wrong_type("available", "true or false", available)
    return Item(
        _needed_id(fields.get("item_id"), "item_id", "item"),
        _item_text(fields.get("title"), "title"),
        _item_text(fields.get("description"), "description"),
        _item_text(fields.get("category"), "category"),
        _tags(fields.get("tags")),
        price,
        None if published is None else parse_time(published, "published_at"),
        available is not False,
    )


def _item_text(value: object, name: str) -> str:
    text = _text(value, name)
    return (clean_text(text) or "") if text else ""


def _tags(value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise _wrong_type("tags", "a list of texts", value)
    tags = (_item_text(tag, "tags") for tag in value)
    return tuple(dict.fromkeys(tag for tag in tags if tag))


def fields_of_event(event: FeedbackEvent) -> Fields:
    """The wire fields of an event, absent ones left out; `event_from_fields` reads them back."""
    fields: Fields = {"event_id": event.event_id, "user_id": event.user_id, "kind": event.kind}
    fields["event_time"] = format_time(event.event_time)
    for name in ("item_id", "rating", "text", "value", "locale", "recommendation_id", "target_event_id"):
        if (value := getattr(event, name)) is not None:
            fields[name] = value
    if event.revision:
        fields["revision"] = event.revision
    if event.attributes:
        fields["attributes"] = {name: json.loads(text) for name, text in event.attributes}
    return fields


def fields_of_item(item: Item) -> Fields:
    """The wire fields of an item, empty ones left out."""
    fields: Fields = {"item_id": item.item_id}
    for name in ("title", "description", "category"):
        if value := getattr(item, name):
            fields[name] = value
    if item.price is not None:
        fields["price"] = item.price
    if item.tags:
        fields["tags"] = list(item.tags)
    if item.published_at is not None:
        fields["published_at"] = format_time(item.published_at)
    if not item.available:
        fields["available"] = False
    return fields
