"""Comparisons with a canary: they add in any order, and are told of each pair of versions."""

from __future__ import annotations

import random

from models.canary import CanarySum, in_words
from models.encoder.serving import CanaryComparison

PARTS = [
    CanarySum(10, {("a", "c"): CanaryComparison("a", "c", 4, 3, 0.5, 2.0, 1.0, 1)}),
    CanarySum(30, {("a", "c"): CanaryComparison("a", "c", 6, 6, 0.25, 2.0, 1.0, 0)}),
    CanarySum(10, {("b", "c"): CanaryComparison("b", "c", 5, 5, 0.0)}),
    CanarySum(50),
]


def summed(parts: list[CanarySum]) -> CanarySum:
    total = CanarySum()
    for part in parts:
        total.add(part)
    return total


def test_sums_do_not_depend_on_the_order_of_batches_and_swaps() -> None:
    expected = summed(PARTS).rows()
    for seed in range(5):
        assert summed(random.Random(seed).sample(PARTS, len(PARTS))).rows() == expected
    values = {row.check: row.value for row in expected}
    assert values["canary.a.c.share"] == 0.1
    assert values["canary.a.c.agreement"] == 0.9
    assert values["canary.a.c.mean_abs_polarity_delta"] == 0.075
    assert values["canary.a.c.latency_ratio"] == 0.5
    assert values["canary.a.c.failures"] == 1
    assert values["canary.b.c.share"] == 0.05
    assert "canary.b.c.latency_ratio" not in values


def test_a_line_a_pair_says_how_far_they_differ() -> None:
    lines = in_words((row.check, row.value) for row in summed(PARTS).rows())
    assert lines == [
        "canary c read 10 texts (10.0%) besides a: 90.0% on the same side of 0, polarity 0.075 apart on "
        "average, 0.50 times as long, 1 without a score",
        "canary c read 5 texts (5.0%) besides b: 100.0% on the same side of 0, polarity 0.000 apart on "
        "average",
    ]


def test_without_a_canary_there_is_nothing_to_tell() -> None:
    assert CanarySum(7).rows() == []
    assert in_words([("accounting.input", 3.0)]) == []
