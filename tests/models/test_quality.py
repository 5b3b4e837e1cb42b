"""Checks of windows add exactly, in any order."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from models.quality import QualitySum, index_rows, merge_quality, quality_part, quality_rows
from models.records import MICROS_PER_DAY, TextScore
from models.tables import ScoredRow

DAY = MICROS_PER_DAY


def row(
    day: int, kind: str = "review", rating: float | None = None, confidence: float | None = None
) -> ScoredRow:
    score = (
        None
        if confidence is None
        else TextScore((0, 0, 1), 1, 1, confidence, language="en" if confidence > 0.3 else "und")
    )
    return ScoredRow("e", "ann", kind, "coat", day * DAY, rating, score, 0.5, False, "f:1")


rows = st.lists(
    st.builds(
        row,
        st.integers(0, 3),
        st.sampled_from(["review", "view"]),
        st.none() | st.just(4.0),
        st.none() | st.sampled_from([0.1, 0.9]),
    )
)


def summed(parts: list[ScoredRow]) -> dict[int, QualitySum]:
    total: dict[int, QualitySum] = {}
    merge_quality(total, [(part.event_time, quality_part(part)) for part in parts])
    return total


@given(rows, st.integers(0, 10), st.randoms(use_true_random=False))
def test_sums_do_not_depend_on_order_or_partition(
    parts: list[ScoredRow], cut: int, shuffled: random.Random
) -> None:
    expected = summed(parts)
    shuffled.shuffle(parts)
    left = summed(parts[:cut])
    merge_quality(left, summed(parts[cut:]).items())
    assert left == expected


def test_shares_are_told_per_window_with_their_thresholds() -> None:
    told = quality_rows(
        summed([row(1, confidence=0.1), row(1, rating=5.0, confidence=0.9), row(2, "view")]), DAY
    )
    assert [(one.check, one.value, one.window_start) for one in told] == [
        ("data.events", 2.0, DAY),
        ("data.unrated_share", 0.5, DAY),
        ("data.low_confidence_share", 0.5, DAY),
        ("data.unknown_language_share", 0.5, DAY),
        ("data.conflict_share", 0.0, DAY),
        ("data.events", 1.0, 2 * DAY),
    ]
    assert told[4].threshold == 0.2


def test_an_index_tells_what_it_learned_from_and_how_well_it_predicts() -> None:
    meta = {"items": 3, "users": 2, "interactions": 9, "fusion": {"figures": {"hit_rate": 0.4}}}
    assert [(one.check, one.value) for one in index_rows(meta)] == [
        ("index.items", 3.0),
        ("index.users", 2.0),
        ("index.interactions", 9.0),
        ("index.fit.hit_rate", 0.4),
    ]
