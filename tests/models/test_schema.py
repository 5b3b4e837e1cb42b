"""The published schemas say what the parser does."""

from __future__ import annotations

import dataclasses
import json
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.adapters.jsonl import feedback_to_json, item_to_json, parse_feedback, parse_item
from models.cleaning import CleaningConfig, clean_event
from models.errors import BadRecord
from models.records import KINDS, FeedbackEvent, Item
from models.schema import FEEDBACK_SCHEMA, ITEM_SCHEMA, SCHEMAS, Schema
from tests.models.adapters.records import events, items

jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is missing: pip install jsonschema")

NOW = 1_769_860_800_000_000
values = (
    st.sampled_from(["u1", "", "  ", "x" * 513, "5", "2026-01-31"])
    | st.sampled_from([True, None, 0, 3, -1, 2**63, 1.5, 2.0])
    | st.sampled_from([[], ["a"], [1], {}, {"a": 1}])
)
members = (
    "event_id",
    "user_id",
    "item_id",
    "rating",
    "text",
    "value",
    "revision",
    "attributes",
    "target_event_id",
)


def allows(schema: Schema, value: object) -> bool:
    return bool(jsonschema.Draft202012Validator(schema).is_valid(value))


def is_read(fields: dict[str, object]) -> bool:
    """Whether the job takes an event, its values left aside."""
    try:
        event = parse_feedback(json.dumps(fields).encode(), "f:1")
        clean_event(dataclasses.replace(event, event_time=NOW, rating=None), CleaningConfig(), NOW)
    except BadRecord:
        return False
    return True


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_a_schema_is_one_and_allows_its_examples(name: str) -> None:
    schema = SCHEMAS[name]
    jsonschema.Draft202012Validator.check_schema(schema)
    for example in cast(list[dict[str, object]], schema["examples"]):
        assert allows(schema, example)
        payload = json.dumps(example).encode()
        assert is_read(example) if name == "feedback" else parse_item(payload)


@pytest.mark.parametrize(("record", "schema"), [(FeedbackEvent, FEEDBACK_SCHEMA), (Item, ITEM_SCHEMA)])
def test_a_schema_names_every_field(record: type, schema: Schema) -> None:
    fields = {field.name for field in dataclasses.fields(record)} - {"source_position"}
    assert set(cast(dict[str, object], schema["properties"])) == fields


@given(st.sampled_from(KINDS), st.dictionaries(st.sampled_from(members), values, max_size=3))
def test_the_parser_takes_what_the_schema_allows_and_nothing_else(
    kind: str, changes: dict[str, object]
) -> None:
    fields = {"user_id": "u1", "kind": kind, "event_time": NOW // 1_000_000, "item_id": "i1", **changes}
    if kind == "query" and isinstance(text := fields.get("text"), str) and not text.strip():
        return  # words of nothing but white space are found by cleaning, not by the schema
    assert is_read(fields) == allows(FEEDBACK_SCHEMA, fields)


@given(events)
def test_what_is_written_is_allowed(event: FeedbackEvent) -> None:
    written = json.loads(
        feedback_to_json(dataclasses.replace(event, item_id="i", text="t", target_event_id="t"))
    )
    assert allows(FEEDBACK_SCHEMA, written)


@given(items)
def test_an_item_that_is_written_is_allowed(item: Item) -> None:
    assert allows(ITEM_SCHEMA, json.loads(item_to_json(item)))
