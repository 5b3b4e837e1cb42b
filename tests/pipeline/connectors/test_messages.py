"""What a message says before it is parsed."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.adapters.base import check_fault
from models.errors import BadRecord
from models.times import parse_time
from pipeline.connectors.messages import event_time_of, record_of


@pytest.mark.parametrize(
    "time", ["2026-01-31T12:00:00Z", "2026-01-31T12:00:00.25+02:00", 1_769_860_800, 1.5e9]
)
def test_the_event_time_is_found_as_the_parser_reads_it(time: object) -> None:
    payload = json.dumps({"user_id": "u", "event_time": time, "kind": "view"}).encode()
    assert event_time_of(payload) == parse_time(time)


@given(st.binary(max_size=200))
def test_bytes_that_mean_nothing_have_no_event_time(payload: bytes) -> None:
    assert event_time_of(payload) is None


@pytest.mark.parametrize(
    "payload", [b'{"event_time": "soon"}', b'{"event_time": null}', b'{"event_time": ', b""]
)
def test_times_that_do_not_read_are_none(payload: bytes) -> None:
    assert event_time_of(payload) is None


def test_a_message_that_is_too_long_becomes_a_record_with_its_fault() -> None:
    whole = record_of(b"x" * 10, "kafka:t/0:0000000001", 10)
    assert whole == (b"x" * 10, "kafka:t/0:0000000001", b"", "")
    payload, position, described, fault = record_of(b"x" * 11, "p", 10)
    assert (payload[:3], position) == (b"xxx", "p")
    assert described.startswith(b"bytes=11 sha256=")
    with pytest.raises(BadRecord, match="at most 10 bytes a record, got 11") as refused:
        check_fault((payload, position, described, fault))
    assert refused.value.error_code == "too_long"
