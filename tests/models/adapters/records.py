"""Strategies for records as they may come over the wire."""

from __future__ import annotations

import json

from hypothesis import strategies as st

from models.adapters.fields import MAX_INT64
from models.records import KINDS, FeedbackEvent, Item

words = st.text(st.characters(exclude_categories=["Cs"]))
ids = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=512).filter(
    lambda text: not text.isspace()
)
numbers = st.floats(allow_nan=False, allow_infinity=False)
times = st.integers(-62_135_596_800_000_000, 253_402_300_799_999_999)
json_values = st.recursive(
    st.booleans() | numbers | words | st.integers(-(2**63), 2**63),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=5,
)


def as_attribute(value: object) -> str:
    """The text that an attribute's value is kept as."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)


attributes = st.dictionaries(words, json_values.map(as_attribute), max_size=3).map(
    lambda named: tuple(sorted(named.items()))
)
events = st.builds(
    FeedbackEvent,
    event_id=ids,
    user_id=ids,
    kind=st.sampled_from(KINDS),
    event_time=times,
    item_id=st.none() | ids,
    rating=st.none() | numbers,
    text=st.none() | words,
    value=st.none() | numbers,
    locale=st.none() | st.sampled_from(["en", "zh-Hans-CN"]),
    recommendation_id=st.none() | ids,
    attributes=attributes,
    revision=st.integers(0, MAX_INT64),
    target_event_id=st.none() | ids,
    source_position=st.just("events.jsonl:0000000042"),
)
titles = st.text("abcé你 <3&", max_size=20).map(lambda text: " ".join(text.split()))
items = st.builds(
    Item,
    item_id=ids,
    title=titles,
    description=titles,
    category=titles,
    tags=st.lists(titles.filter(bool), max_size=3, unique=True).map(tuple),
    price=st.none() | numbers,
    published_at=st.none() | times,
    available=st.booleans(),
)
