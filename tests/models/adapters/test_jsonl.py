"""One JSON line becomes one event, or a reason why not; nothing in it can break the parser."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.adapters.jsonl import MAX_DEPTH, feedback_to_json, item_to_json, parse_feedback, parse_item
from models.errors import BadRecord
from models.records import FeedbackEvent, Item
from tests.models.adapters.records import events, items, json_values

BASE = {"event_id": "e1", "user_id": "u1", "kind": "click", "event_time": 1769860800, "item_id": "i1"}


def line(**changes: object) -> bytes:
    return json.dumps({**BASE, **changes}).encode()


def parse(payload: bytes) -> FeedbackEvent:
    return parse_feedback(payload, "events.jsonl:0000000007")


def code_of(payload: bytes) -> str:
    with pytest.raises(BadRecord) as caught:
        parse(payload)
    return caught.value.error_code


@given(events)
def test_an_event_survives_the_wire(event: FeedbackEvent) -> None:
    assert parse_feedback(feedback_to_json(event), event.source_position) == event


@given(items)
def test_an_item_survives_the_wire(item: Item) -> None:
    assert parse_item(item_to_json(item)) == item


@given(st.binary() | json_values.map(lambda value: json.dumps(value).encode()))
def test_no_bytes_raise_anything_but_bad_record(payload: bytes) -> None:
    for read in (parse, parse_item):
        try:
            read(payload)
        except BadRecord as error:
            assert error.reason


@given(st.dictionaries(st.sampled_from([*BASE, "rating", "text", "revision", "attributes"]), json_values))
def test_no_member_raises_anything_but_bad_record(changes: dict[str, object]) -> None:
    try:
        event = parse(line(**changes))
    except BadRecord as error:
        assert error.reason
    else:
        assert parse_feedback(feedback_to_json(event), event.source_position) == event


def test_unknown_members_become_sorted_attributes() -> None:
    event = parse(line(zoom=1.5, device="ios", nested={"b": [1], "a": None}, absent=None))
    assert event.attributes == (("device", '"ios"'), ("nested", '{"a":null,"b":[1]}'), ("zoom", "1.5"))


def test_an_event_without_id_has_its_position_as_id() -> None:
    assert parse(line(event_id=None)).event_id == "events.jsonl:0000000007"


def test_whole_numbers_may_be_ids() -> None:
    event = parse(line(user_id=7, item_id=12345678901234567890))
    assert (event.user_id, event.item_id) == ("7", "12345678901234567890")


def test_a_byte_order_mark_is_no_fault() -> None:
    assert parse(b"\xef\xbb\xbf" + line()).user_id == "u1"


def test_one_id_with_two_contents_gives_two_events_that_both_parse() -> None:
    first, second = parse(line(text="good")), parse(line(text="bad"))
    assert first.event_id == second.event_id
    assert first != second


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (b"", "invalid_json"),
        (b"not json", "invalid_json"),
        (b'{"user_id": "u1"', "invalid_json"),
        (b"{} {}", "invalid_json"),
        (b'{"a": "\x01"}', "invalid_json"),
        (b'{"user_id": "\xff\xfe"}', "invalid_utf8"),
        ("{}".encode("utf-16"), "invalid_utf8"),
        (b"[1, 2]", "not_an_object"),
        (b'"text"', "not_an_object"),
        (b"null", "not_an_object"),
        (b"[" * 100_000, "too_deep"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "too_deep"),
        (b'{"a":' * (MAX_DEPTH + 2) + b"1" + b"}" * (MAX_DEPTH + 2), "too_deep"),
        (b'{"rating": NaN}', "invalid_number"),
        (b'{"rating": -Infinity}', "invalid_number"),
        (line(rating=1).replace(b'"rating": 1', b'"rating": 1e999'), "invalid_number"),
        (line(other=1).replace(b'"other": 1', b'"other": [1e999]'), "invalid_number"),
        (line(rating=10**400), "invalid_number"),
        (b'{"rating": ' + b"9" * 10_000 + b"}", "invalid_number"),
        (line(user_id=None), "missing_field"),
        (line(kind=None), "missing_field"),
        (line(event_time=None), "missing_field"),
        (line(kind="bought"), "unknown_kind"),
        (line(kind=["click"]), "wrong_type"),
        (line(kind=1), "wrong_type"),
        (line(rating="5"), "wrong_type"),
        (line(rating=True), "wrong_type"),
        (line(value=[1]), "wrong_type"),
        (line(text=5), "wrong_type"),
        (line(revision=1.5), "wrong_type"),
        (line(revision=-1), "wrong_type"),
        (line(revision=True), "wrong_type"),
        (line(revision=2**63), "wrong_type"),
        (line(user_id=True), "wrong_type"),
        (line(user_id=["u1"]), "wrong_type"),
        (line(attributes=[1]), "wrong_type"),
        (line(event_time={}), "wrong_type"),
        (line(event_time="soon"), "invalid_time"),
        (line(user_id=""), "invalid_id"),
        (line(item_id="  "), "invalid_id"),
        (line(event_id="x" * 10_240), "invalid_id"),
        (line(user_id=10**600), "invalid_id"),
        (line(user_id="\ud800"), "invalid_id"),
    ],
)
def test_what_is_no_event_has_a_code(payload: bytes, code: str) -> None:
    assert code_of(payload) == code


def test_nesting_up_to_the_limit_is_kept() -> None:
    deep: object = 1
    for _ in range(MAX_DEPTH - 2):
        deep = [deep]
    assert parse(line(deep=deep)).attributes[0][1].startswith("[" * (MAX_DEPTH - 2))


def test_year_9999_parses() -> None:
    assert parse(line(event_time="9999-12-31T23:59:59Z")).event_time == 253_402_300_799_000_000


def test_reasons_do_not_show_ids() -> None:
    with pytest.raises(BadRecord) as caught:
        parse(line(user_id="secret" * 1000))
    assert "secret" not in caught.value.reason


def test_an_item_of_the_wrong_shape_is_refused() -> None:
    for payload, code in (
        (b'{"title": "no id"}', "missing_field"),
        (b'{"item_id": "i", "available": 1}', "wrong_type"),
        (b'{"item_id": "i", "tags": "red"}', "wrong_type"),
        (b'{"item_id": "i", "tags": [1]}', "wrong_type"),
        (b'{"item_id": "i", "price": 1e999}', "invalid_number"),
    ):
        with pytest.raises(BadRecord) as caught:
            parse_item(payload)
        assert caught.value.error_code == code


def test_markup_in_a_catalogue_is_cleaned() -> None:
    item = parse_item(b'{"item_id": "i", "title": "<b>Rain</b> &amp; wind", "other": 1}')
    assert item == Item("i", title="Rain & wind")
