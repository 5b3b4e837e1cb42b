"""Event time by what arrived: never back, never ahead of what may still come in time, never held up."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipeline.connectors.watermark import Watermark

SECOND = 1_000_000
_EVENTS = st.lists(
    st.tuples(st.integers(0, 2), st.integers(-(10**6), 10**6), st.integers(0, 20)), min_size=1, max_size=40
)


@given(_EVENTS)
def test_it_never_goes_back_and_never_ahead_of_the_wall_clock(events: list[tuple[int, int, int]]) -> None:
    now, watermark, before = 0, Watermark(10, 30, 0), None
    for partition, event_time, step in events:
        now += step * SECOND
        watermark.observe(partition, now + event_time * SECOND, now)
        value = watermark.value(now)
        assert value is not None
        assert value <= now - 10 * SECOND
        assert before is None or value >= before
        before = value


def test_events_out_of_order_within_the_bound_are_in_time() -> None:
    watermark = Watermark(10, 30, 0)
    watermark.observe("a", 100 * SECOND, 200 * SECOND)
    watermark.observe("a", 91 * SECOND, 200 * SECOND)
    assert watermark.value(200 * SECOND) == 90 * SECOND


def test_the_slowest_partition_counts_until_it_is_idle() -> None:
    watermark = Watermark(0, 30, 0)
    watermark.observe("slow", 10 * SECOND, 1000 * SECOND)
    watermark.observe("quick", 900 * SECOND, 1000 * SECOND)
    assert watermark.value(1000 * SECOND) == 10 * SECOND
    watermark.observe("quick", 920 * SECOND, 1031 * SECOND)
    assert watermark.value(1031 * SECOND) == 920 * SECOND


def test_the_wall_clock_stands_in_where_nothing_comes() -> None:
    watermark = Watermark(10, 30, 0)
    assert watermark.value(29 * SECOND) is None
    assert watermark.value(31 * SECOND) == 21 * SECOND


def test_a_senders_clock_that_is_ahead_makes_nobody_late() -> None:
    watermark = Watermark(10, 30, 0)
    watermark.observe("a", 10**9 * SECOND, 100 * SECOND)
    assert watermark.value(100 * SECOND) == 90 * SECOND


def test_a_wall_clock_that_goes_back_does_not_take_it_along() -> None:
    watermark = Watermark(10, 30, 0)
    watermark.observe("a", 100 * SECOND, 100 * SECOND)
    assert watermark.value(100 * SECOND) == 90 * SECOND
    watermark.observe("a", 50 * SECOND, 50 * SECOND)
    assert watermark.value(50 * SECOND) == 90 * SECOND
