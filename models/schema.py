"""JSON Schemas (draft 2020-12) of what goes over the wire; `livelist schema` prints them.

Parsing does not use them: `models.adapters.fields` checks the same by hand, some ten times faster,
and a test holds the two together.
"""

from __future__ import annotations

from typing import Final, TypeAlias

from models.adapters.fields import MAX_ID_CHARS, MAX_INT64, MAX_LOCALE_CHARS
from models.records import ITEM_KINDS, KINDS

Schema: TypeAlias = dict[str, object]

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


def _optional(schema: Schema, description: str) -> Schema:
    """null counts as absent."""
    return {"anyOf": [schema, {"type": "null"}], "description": description}


_ID: Final[Schema] = {
    "anyOf": [
        {"type": "string", "minLength": 1, "maxLength": MAX_ID_CHARS, "pattern": "\\S"},
        {"type": "integer"},
    ]
}
_TIME: Final[Schema] = {
    "anyOf": [
        {
            "type": "string",
            "description": "RFC 3339 (no zone: UTC), a date, or an epoch number as text",
        },
        {
            "type": "number",
            "description": "epoch seconds below 253402300800, milliseconds below 1000 times and "
            "microseconds below 1000000 times that",
        },
    ]
}
_TEXT: Final[Schema] = {"type": "string"}
_NUMBER: Final[Schema] = {"type": "number"}


def _needs(kinds: tuple[str, ...], field: str) -> Schema:
    return {
        "if": {"properties": {"kind": {"enum": list(kinds)}}, "required": ["kind"]},
        "then": {"required": [field], "properties": {field: {"not": {"type": "null"}}}},
    }


FEEDBACK_SCHEMA: Final[Schema] = {
    "$schema": _DIALECT,
    "title": "FeedbackEvent",
    "description": "One piece of feedback; one object a line. Other members become attributes.",
    "type": "object",
    "required": ["user_id", "kind", "event_time"],
    "properties": {
        "event_id": _optional(_ID, "Unique within a user; without one, file name and line number."),
        "user_id": {**_ID, "description": "Who acted."},
        "kind": {"enum": list(KINDS), "description": "What the user did."},
        "event_time": {**_TIME, "description": "When the user acted; a retract carries its target's."},
        "item_id": _optional(_ID, "What it is about; all kinds but query, profile, retract, erase need it."),
        "rating": _optional(_NUMBER, "On the declared scale, 1 to 5 unless --rating_scale says otherwise."),
        "text": _optional(_TEXT, "The user's own words; a query needs them."),
        "value": _optional(_NUMBER, "Of the kind: seconds of a dwell, price of a purchase."),
        "locale": _optional({**_TEXT, "maxLength": MAX_LOCALE_CHARS}, "BCP 47, such as en-GB."),
        "recommendation_id": _optional(_ID, "The list that this reacts to."),
        "target_event_id": _optional(_ID, "The event_id that a retract takes back."),
        "revision": _optional(
            {"type": "integer", "minimum": 0, "maximum": MAX_INT64},
            "An edit has the event_id and event_time of what it edits, and a higher revision.",
        ),
        "attributes": _optional({"type": "object"}, "Anything else; declared attributes of a profile."),
    },
    "allOf": [
        _needs(ITEM_KINDS, "item_id"),
        _needs(("retract",), "target_event_id"),
        _needs(("query",), "text"),
    ],
    "examples": [
        {
            "event_id": "r-1",
            "user_id": "u-7",
            "kind": "review",
            "event_time": "2026-01-31T12:00:00Z",
            "item_id": "jacket-3",
            "rating": 2,
            "text": "The zipper broke after a day",
        },
        {
            "user_id": "u-7",
            "kind": "dwell",
            "event_time": 1769860800123,
            "item_id": "jacket-3",
            "value": 12.5,
        },
        {"user_id": "u-7", "kind": "query", "event_time": 1769860900, "text": "a warm coat for rain"},
        {
            "event_id": "x-1",
            "user_id": "u-7",
            "kind": "retract",
            "event_time": "2026-01-31T12:00:00Z",
            "target_event_id": "r-1",
        },
    ],
}

ITEM_SCHEMA: Final[Schema] = {
    "$schema": _DIALECT,
    "title": "Item",
    "description": "One entry of the catalogue; one object a line. Other members are ignored.",
    "type": "object",
    "required": ["item_id"],
    "properties": {
        "item_id": {**_ID, "description": "As feedback names it."},
        "title": _optional(_TEXT, "A short name."),
        "description": _optional(_TEXT, "What it is, in words."),
        "category": _optional(_TEXT, "The most specific one."),
        "tags": _optional({"type": "array", "items": _TEXT}, "Brand, genre, wider categories ..."),
        "price": _optional(_NUMBER, "In one currency for all items."),
        "published_at": _optional(_TIME, "When it came out."),
        "available": _optional({"type": "boolean"}, "Whether it may be listed; true unless said otherwise."),
    },
    "examples": [
        {
            "item_id": "jacket-3",
            "title": "Rain jacket",
            "category": "Jackets",
            "tags": ["Outdoor"],
            "price": 79.9,
        }
    ],
}

SCHEMAS: Final[dict[str, Schema]] = {"feedback": FEEDBACK_SCHEMA, "item": ITEM_SCHEMA}
