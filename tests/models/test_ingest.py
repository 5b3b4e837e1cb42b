"""Every raw record becomes an event or a row; no row holds what must not be stored."""

from __future__ import annotations

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.adapters import FORMATS, adapter_of
from models.adapters.base import raw_record
from models.cleaning import CleaningConfig
from models.errors import ERROR_CODES
from models.ingest import clean_or_reject, parse_item_or_reject, parse_or_reject
from models.records import DeadLetter, FeedbackEvent
from models.rejects import MAX_PAYLOAD_CHARS
from models.text import pseudonym
from tests.models.adapters.records import events

NOW = 1_769_860_800_000_000
KEYED = CleaningConfig(user_id_key=b"0123456789abcdef")
JSONL = adapter_of("jsonl")


def ingest(
    payload: bytes, config: CleaningConfig | None = None, fault: str = ""
) -> FeedbackEvent | DeadLetter:
    config = config or CleaningConfig()
    read = parse_or_reject(JSONL, (payload, "f:0000000003", b"", fault), config, NOW)
    return clean_or_reject(read, config, NOW) if isinstance(read, FeedbackEvent) else read


def reject(payload: bytes, config: CleaningConfig | None = None, fault: str = "") -> DeadLetter:
    row = ingest(payload, config, fault)
    assert isinstance(row, DeadLetter)
    return row


def line(**members: object) -> bytes:
    return json.dumps({"user_id": "alice", "kind": "click", "event_time": 1769860800, **members}).encode()


@given(st.sampled_from(FORMATS), st.binary(), st.sampled_from([b"", b"user_id,kind,event_time", b"\xff"]))
def test_any_bytes_become_an_event_or_a_row(form: str, payload: bytes, header: bytes) -> None:
    for config in (CleaningConfig(), KEYED):
        row = parse_or_reject(adapter_of(form), (payload, "f:1", header, ""), config, NOW)
        assert isinstance(row, FeedbackEvent) or (row.error_code in ERROR_CODES and row.reason)
    item = parse_item_or_reject(adapter_of(form), (payload, "f:1", header, ""), NOW)
    assert not isinstance(item, DeadLetter) or item.error_code in ERROR_CODES


@given(events)
def test_any_event_is_cleaned_or_becomes_a_row(event: FeedbackEvent) -> None:
    row = clean_or_reject(event, KEYED, NOW)
    assert isinstance(row, FeedbackEvent) or row.error_code in ERROR_CODES
    assert not isinstance(row, DeadLetter) or len(row.payload) < MAX_PAYLOAD_CHARS + 200


def test_a_row_says_where_what_and_why() -> None:
    row = reject(line(kind="bought"))
    assert (row.stage, row.error_code) == ("parse_feedback", "unknown_kind")
    assert (row.source_position, row.time) == ("f:0000000003", NOW)
    assert row.reason.startswith("kind: got 'bought'; expected one of impression, view, click")
    assert reject(line(kind="veiw")).reason == "kind: got 'veiw'; did you mean view?"
    assert json.loads(row.payload)["kind"] == "bought"


def test_bytes_that_cannot_be_parsed_leave_hash_length_and_a_redacted_start() -> None:
    payload = b'{"text": "mail jo@example.com", \xff ' + b"x" * 5000
    row = reject(payload)
    assert row.payload.startswith(f"bytes={len(payload)} sha256={hashlib.sha256(payload).hexdigest()} start=")
    assert "jo@example.com" not in row.payload
    assert "[email]" in row.payload
    assert len(row.payload.split("start=")[1]) <= 200


def test_redaction_comes_before_the_cut() -> None:
    payload = b"not json " + b"x " * 90 + b"jo.the.reviewer@example.com"
    assert "jo.the" not in reject(payload).payload
    for before in range(1970, 2000):
        text = "x" * before + " jo.the.reviewer@example.com " + "x" * 2000
        assert "reviewer" not in reject(line(item_id="i", rating=9, text=text)).payload


def test_with_a_key_no_row_holds_a_raw_user_id() -> None:
    assert "alice" not in reject(b'{"user_id": "alice", \xff', KEYED).payload
    assert "alice" not in reject(b'{"user_id": "alice"', KEYED).payload
    for row in (reject(line(kind="bought"), KEYED), reject(line(item_id="i", rating=9), KEYED)):
        assert json.loads(row.payload)["user_id"] == pseudonym("alice", b"0123456789abcdef")
    fault = parse_or_reject(JSONL, (b"alice", "f:1", b"bytes=5 sha256=0", "too_long: long"), KEYED, NOW)
    assert isinstance(fault, DeadLetter)
    assert fault.payload == "bytes=5 sha256=0"


def test_amazon_rows_hold_no_reviewers_name() -> None:
    payload = (
        b'{"reviewerID": "A1", "reviewerName": "Jo Smith", "overall": "x", "unixReviewTime": 1393545600}'
    )
    row = parse_or_reject(adapter_of("amazon"), raw_record(payload), CleaningConfig(), NOW)
    assert isinstance(row, DeadLetter)
    assert "Smith" not in row.payload


def test_quarantined_text_is_redacted() -> None:
    row = reject(line(kind="review", item_id="i", rating=9, text="call +44 20 7946 0958 or jo@example.com"))
    assert (row.stage, row.error_code) == ("clean_feedback", "rating_out_of_scale")
    assert json.loads(row.payload)["text"] == "call [phone] or [email]"


def test_a_reason_is_redacted_too() -> None:
    assert "jo@example.com" not in reject(line(kind="jo@example.com")).reason


def test_a_long_payload_is_cut_and_named_by_its_hash() -> None:
    row = reject(line(kind="bought", text="x" * 50_000))
    assert len(row.payload) < MAX_PAYLOAD_CHARS + 200
    assert "sha256=" in row.payload


def test_a_fault_of_the_reader_keeps_its_code() -> None:
    row = reject(b"start", fault="truncated_input: the gzip data ends early")
    assert (row.error_code, row.reason) == ("truncated_input", "the gzip data ends early")


@pytest.mark.parametrize(
    ("policy", "code"), [("dead_letters", "missing_field"), ("quarantine", "missing_time")]
)
def test_a_missing_time_goes_where_the_policy_says(policy: str, code: str) -> None:
    config = CleaningConfig(missing_time=policy)  # type: ignore[arg-type]
    assert reject(line(event_time=None), config).error_code == code


def test_year_9999_is_understood_and_not_trusted() -> None:
    row = reject(line(item_id="i", event_time="9999-12-31T23:59:59Z"))
    assert (row.stage, row.error_code) == ("clean_feedback", "time_in_future")
