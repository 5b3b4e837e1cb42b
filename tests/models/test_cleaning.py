"""Each policy does what its name says, on the event alone."""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.cleaning import MICROS_1990, CleaningConfig, clean_event
from models.errors import ERROR_CODES, BadRecord
from models.records import ITEM_KINDS, MICROS_PER_DAY, FeedbackEvent
from tests.models.adapters.records import events

NOW = 1_769_860_800_000_000
EVENT = FeedbackEvent("e1", "u1", "review", NOW, "i1", 4.0, "Nice coat")
DEFAULT = CleaningConfig()


def event(**changes: object) -> FeedbackEvent:
    return dataclasses.replace(EVENT, **changes)  # type: ignore[arg-type]


def code_of(unfit: FeedbackEvent, config: CleaningConfig = DEFAULT) -> str:
    with pytest.raises(BadRecord) as caught:
        clean_event(unfit, config, NOW)
    return caught.value.error_code


def test_a_sound_event_passes_untouched() -> None:
    assert clean_event(EVENT, DEFAULT, NOW) is EVENT


@given(events)
def test_cleaning_twice_changes_nothing(given_event: FeedbackEvent) -> None:
    try:
        once = clean_event(given_event, DEFAULT, NOW)
    except BadRecord as error:
        assert error.error_code in ERROR_CODES
    else:
        assert clean_event(once, DEFAULT, NOW) == once


def test_text_is_cleaned_redacted_and_cut() -> None:
    raw = "<p>Write to jo@example.com</p>\n\n &amp; call 555-123-4567"
    assert clean_event(event(text=raw), DEFAULT, NOW).text == "Write to [email] & call [phone]"
    assert clean_event(event(text="x" * 9000), DEFAULT, NOW).text == "x" * 2000 + " " + "x" * 1999
    assert clean_event(event(text="a@bc.de"), CleaningConfig(max_text_chars=7), NOW).text == "[email]"


def test_redaction_comes_before_the_cut() -> None:
    for before in range(1_950, 2_050):
        text = clean_event(event(text="x" * before + " jo.the@tts.com " + "x" * 2_000), DEFAULT, NOW).text
        assert not set("jth") & set(text or "")


@pytest.mark.parametrize(
    "text",
    ["👍🏽 toll", "שלום עולם", "'; DROP TABLE users; --", "我喜欢这件衣服", 'say "hi" \\ {"a": 1}'],
)
def test_emoji_right_to_left_text_and_sql_stay(text: str) -> None:
    assert clean_event(event(text=text), DEFAULT, NOW).text == text


def test_a_text_of_nothing_but_markup_is_no_text() -> None:
    assert clean_event(event(text="<br/> \x00"), DEFAULT, NOW).text is None


def test_attributes_are_redacted_and_stay_json() -> None:
    attributes = (
        ("card", "4111111111111111"),
        ("list", "[13800138000]"),
        ("mail", '"jo@example.com"'),
        ("page", "3"),
    )
    cleaned = clean_event(event(attributes=attributes), DEFAULT, NOW).attributes
    assert [json.loads(value) for _, value in cleaned] == ["[card]", "[[phone]]", "[email]", 3]


@pytest.mark.parametrize(
    ("unfit", "code"),
    [
        (event(event_time=MICROS_1990 - 1), "time_before_1990"),
        (event(event_time=-1), "time_before_1990"),
        (event(event_time=NOW + MICROS_PER_DAY + 1), "time_in_future"),
        (event(event_time=253_402_300_799_000_000), "time_in_future"),
        (event(rating=0.5), "rating_out_of_scale"),
        (event(rating=5.01), "rating_out_of_scale"),
        (event(item_id=None), "missing_field"),
        (event(kind="query", item_id=None, text=None, rating=None), "missing_field"),
        (event(kind="query", item_id=None, text="<br>", rating=None), "missing_field"),
        (event(kind="retract", item_id=None), "missing_field"),
    ],
)
def test_what_is_incomplete_or_not_trusted_has_a_code(unfit: FeedbackEvent, code: str) -> None:
    assert code_of(unfit) == code


def test_the_limits_themselves_are_allowed() -> None:
    for changes in (
        {"event_time": MICROS_1990},
        {"event_time": NOW + MICROS_PER_DAY},
        {"rating": 1.0},
        {"rating": 5.0},
        {"rating": None},
        {"text": None},
    ):
        assert clean_event(event(**changes), DEFAULT, NOW) == event(**changes)


@pytest.mark.parametrize("kind", ITEM_KINDS)
def test_every_item_kind_needs_an_item(kind: str) -> None:
    assert code_of(event(kind=kind, item_id=None)) == "missing_field"
    assert (
        code_of(event(kind=kind, item_id=None), CleaningConfig(missing_item="quarantine")) == "missing_item"
    )


def test_profile_and_erase_need_no_item() -> None:
    for kind in ("profile", "erase"):
        assert clean_event(event(kind=kind, item_id=None), DEFAULT, NOW).kind == kind


def test_the_rating_scale_may_be_declared() -> None:
    config = CleaningConfig(rating_scale=(0.5, 10))
    assert clean_event(event(rating=0.5), config, NOW).rating == 0.5
    assert code_of(event(rating=11.0), config) == "rating_out_of_scale"


def test_missing_text_may_be_dropped_for_kinds_with_words() -> None:
    config = CleaningConfig(missing_text="drop")
    assert code_of(event(text=None), config) == "missing_text"
    assert code_of(event(kind="comment", text=" "), config) == "missing_text"
    assert clean_event(event(kind="click", text=None), config, NOW).text is None


def test_missing_ratings_may_be_dropped_for_rated_kinds() -> None:
    config = CleaningConfig(missing_rating="drop")
    assert code_of(event(rating=None), config) == "missing_rating"
    assert clean_event(event(kind="click", rating=None), config, NOW).rating is None


def test_users_become_pseudonyms_with_a_key_and_the_key_is_not_shown() -> None:
    config = CleaningConfig(user_id_key=b"a key of some length")
    expected = hmac.new(b"a key of some length", b"u1", hashlib.sha256).hexdigest()
    assert clean_event(EVENT, config, NOW).user_id == expected
    assert "some length" not in repr(config)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rating_scale": (5, 1)}, "low < high, got 5:1"),
        ({"rating_scale": (1, float("inf"))}, "got 1:inf"),
        ({"max_text_chars": 0}, "at least 1, got 0"),
        ({"missing_rating": "zero"}, "none, drop, mean, median, mode, interpolate, from_text; got 'zero'"),
        ({"missing_text": "quarantine"}, "keep, drop"),
        ({"missing_item": "drop"}, "dead_letters, quarantine"),
        ({"missing_time": "now"}, "dead_letters, quarantine"),
        ({"normalize_ratings": "max"}, "none, mean, zscore"),
        ({"future_tolerance": -1}, "not be negative"),
        ({"user_id_key": b""}, "must not be empty"),
    ],
)
def test_a_senseless_policy_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CleaningConfig(**options)  # type: ignore[arg-type]


@given(st.integers(), st.floats(allow_nan=False), st.none() | st.text())
def test_no_event_raises_anything_but_bad_record(time: int, rating: float, text: str | None) -> None:
    try:
        clean_event(event(event_time=time, rating=rating, text=text), DEFAULT, NOW)
    except BadRecord as error:
        assert error.error_code in ERROR_CODES
