from __future__ import annotations

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.records import MICROS_PER_DAY
from models.tables import ScoredRow, TrendRow
from models.trends import (
    AlertConfig,
    TrendKey,
    TrendSum,
    detect_alerts,
    merge_trends,
    trend_parts,
    trend_rows,
)
from tests.models.table_records import NOON, scored

DAY = MICROS_PER_DAY
TODAY = NOON - NOON % DAY

rows = st.builds(
    lambda day, item, polarity, conflict: scored(
        "e", polarity=polarity, event_time=TODAY + day * DAY + 5, item_id=item, conflict=conflict
    ),
    st.integers(-2, 2),
    st.sampled_from(("apron", "boots", None)),
    st.none() | st.floats(-1, 1),
    st.booleans(),
)


def summed(found: list[ScoredRow], window: int) -> dict[TrendKey, TrendSum]:
    sums: dict[TrendKey, TrendSum] = {}
    for row in found:
        merge_trends(sums, trend_parts(row, window))
    return sums


@given(st.lists(rows, max_size=20), st.randoms(use_true_random=False), st.integers(1, 4))
def test_sums_depend_neither_on_order_nor_on_partition(
    found: list[ScoredRow], shuffler: random.Random, count: int
) -> None:
    shuffled = shuffler.sample(found, len(found))
    parts = [summed(shuffled[place::count], DAY) for place in range(count)]
    total: dict[TrendKey, TrendSum] = {}
    for part in shuffler.sample(parts, count):
        merge_trends(total, part.items())
    assert total == summed(found, DAY)
    assert trend_rows(total, DAY) == trend_rows(summed(found, DAY), DAY)


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=30))
def test_the_mean_is_the_mean_of_the_texts_within_a_step(polarities: list[float]) -> None:
    (row,) = (
        row
        for row in trend_rows(summed([scored("e", polarity=p) for p in polarities], DAY), DAY)
        if row.subject_kind == "item"
    )
    assert row.mean_polarity == pytest.approx(sum(polarities) / len(polarities), abs=1e-4)
    assert row.polarity_deviation is not None
    assert 0 <= row.polarity_deviation <= 1


def test_an_event_counts_for_its_item_and_for_each_topic_of_its_words() -> None:
    keys = [key for key, _ in trend_parts(scored("e1"), DAY)]
    assert keys == [TrendKey(TODAY, "item", "apron"), TrendKey(TODAY, "topic", "quality")]


def test_windows_hold_their_start_and_not_their_end() -> None:
    starts = [
        trend_parts(scored("e", event_time=at), DAY)[0][0].window_start
        for at in (TODAY, TODAY + DAY - 1, TODAY + DAY)
    ]
    assert starts == [TODAY, TODAY, TODAY + DAY]


def test_an_event_without_words_counts_without_tone() -> None:
    (row,) = trend_rows(summed([scored("e", polarity=None)], DAY), DAY)
    assert (row.count, row.texts, row.mean_polarity, row.polarity_deviation) == (1, 0, None, None)


def day(
    number: int, mean: float = 0.5, count: int = 50, subject: str = "apron", conflicts: int = 0
) -> TrendRow:
    start = TODAY + number * DAY
    return TrendRow(start, start + DAY, "item", subject, count, count, mean, 0.3, count, conflicts)


def kinds(found: list[TrendRow], config: AlertConfig | None = None) -> list[tuple[str, str, str]]:
    return [(alert.kind, alert.subject_kind, alert.subject) for alert in detect_alerts(found, config)]


def test_steady_traffic_and_tone_raise_no_alert() -> None:
    assert kinds([day(n, subject=s) for n in range(10) for s in ("apron", "boots")]) == []


def test_a_fall_in_tone_raises_an_alert_with_its_evidence() -> None:
    (alert,) = detect_alerts([*(day(n) for n in range(5)), day(5, mean=-0.4)])
    assert (alert.kind, alert.subject, alert.time) == ("polarity_drop", "apron", TODAY + 6 * DAY)
    evidence = json.loads(alert.evidence)
    assert evidence["mean_polarity"] == -0.4
    assert evidence["earlier_mean_polarity"] == 0.5
    assert evidence["z"] < -3


def test_a_fall_seen_in_few_texts_raises_none() -> None:
    assert kinds([*(day(n) for n in range(5)), day(5, mean=-0.4, count=4)]) == []


def test_a_rise_in_tone_raises_none() -> None:
    assert kinds([*(day(n) for n in range(5)), day(5, mean=0.95)]) == []


def test_one_item_that_surges_alone_is_named() -> None:
    history = [day(n, subject=s, count=200) for n in range(5) for s in ("apron", "boots", "coat", "dress")]
    last = [day(5, subject=s, count=200) for s in ("boots", "coat", "dress")]
    assert kinds([*history, *last, day(5, subject="apron", count=700)]) == [("surge", "item", "apron")]


def test_traffic_that_grows_everywhere_is_one_surge_of_the_stream() -> None:
    history = [day(n, subject=s) for n in range(5) for s in ("apron", "boots")]
    assert kinds([*history, day(5, count=300), day(5, count=300, subject="boots")]) == [
        ("surge", "stream", "all")
    ]


def test_the_first_windows_are_no_surge() -> None:
    assert kinds([day(0, count=500), day(1, count=5_000)]) == []


def test_stars_and_words_that_often_disagree_raise_an_alert() -> None:
    assert kinds([day(0, count=100, conflicts=45)]) == [("conflict_rate", "stream", "all")]
    assert kinds([day(0, count=100, conflicts=21)]) == []


@given(st.permutations([*(day(n) for n in range(5)), day(5, mean=-0.4), day(5, subject="boots", count=900)]))
def test_alerts_do_not_depend_on_the_order_of_rows(found: list[TrendRow]) -> None:
    assert detect_alerts(found) == detect_alerts(
        sorted(found, key=lambda row: (row.window_start, row.subject))
    )
