"""Times come to integer microseconds exactly, or are refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import BadRecord
from models.times import MAX_EPOCH_SECONDS, format_time, parse_time

NOON = 1_769_860_800_000_000  # 2026-01-31T12:00:00Z
moments = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30))
#: Epochs in milliseconds or microseconds are told from seconds only after 1980.
recent = st.integers(400_000_000, MAX_EPOCH_SECONDS - 1)


@given(moments)
def test_rfc_3339_reads_back_as_written(moment: datetime) -> None:
    micros = (moment - datetime(1970, 1, 1)) // timedelta(microseconds=1)
    assert parse_time(moment.isoformat()) == micros
    assert parse_time(moment.isoformat() + "Z") == micros
    assert parse_time(format_time(micros)) == micros


@given(moments, st.integers(-14 * 60, 14 * 60))
def test_a_zone_moves_the_moment(moment: datetime, minutes: int) -> None:
    local = moment.replace(tzinfo=UTC).astimezone(timezone(timedelta(minutes=minutes)))
    assert parse_time(local.isoformat()) == parse_time(moment.isoformat())


@given(recent, st.integers(0, 999_999))
def test_whole_epochs_convert_without_rounding_in_every_unit(seconds: int, micros: int) -> None:
    whole = seconds * 1_000_000 + micros
    assert parse_time(whole) == parse_time(str(whole)) == whole
    assert parse_time(whole // 1000) == whole // 1000 * 1000
    assert parse_time(seconds) == seconds * 1_000_000
    assert parse_time(f"{seconds}.{micros:06d}") == whole


@given(recent.filter(lambda seconds: seconds < 2**33), st.integers(0, 999_999))
def test_a_double_of_seconds_keeps_its_microseconds(seconds: int, micros: int) -> None:
    assert parse_time(float(f"{seconds}.{micros:06d}")) == seconds * 1_000_000 + micros


@pytest.mark.parametrize(
    ("value", "micros"),
    [
        ("2026-01-31T12:00:00Z", NOON),
        ("2026-01-31t12:00:00z", NOON),
        ("2026-01-31 12:00", NOON),
        ("2026-01-31T13:30:00+01:30", NOON),
        (" 2026-01-31T12:00:00.123456789Z ", NOON + 123_456),
        ("2026-01-31", NOON - 43_200_000_000),
        ("2016-12-31T23:59:60Z", 1_483_228_800_000_000),
        (0, 0),
        (-1, -1_000_000),
        ("1769860800", NOON),
        (1_769_860_800_000, NOON),
        ("9999-12-31T23:59:59.999999Z", MAX_EPOCH_SECONDS * 1_000_000 - 1),
    ],
)
def test_every_documented_form_is_read(value: object, micros: int) -> None:
    assert parse_time(value) == micros


@pytest.mark.parametrize("value", ["", "soon", "2026-13-01", "2026-02-30", "12:00", "2026-01-31T25:00:00Z"])
def test_other_texts_are_no_time(value: str) -> None:
    with pytest.raises(BadRecord, match="expected 2026-01-31T12:00:00Z or epoch seconds") as caught:
        parse_time(value)
    assert caught.value.error_code == "invalid_time"


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (True, "wrong_type"),
        (None, "wrong_type"),
        ([1], "wrong_type"),
        (float("nan"), "invalid_number"),
        (float("-inf"), "invalid_number"),
        (10**18, "invalid_time"),
        (1e300, "invalid_time"),
        ("9999-12-31T23:59:60Z", "invalid_time"),
        ("0001-01-01T00:00:00+14:00", "invalid_time"),
    ],
)
def test_what_is_no_time_has_a_code(value: object, code: str) -> None:
    with pytest.raises(BadRecord) as caught:
        parse_time(value)
    assert caught.value.error_code == code
