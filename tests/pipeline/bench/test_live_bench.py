"""The bench's figures: the maximum, what limits it, and a plot that any browser shows."""

from __future__ import annotations

import dataclasses
import xml.etree.ElementTree as ET
from typing import Any

from pipeline.bench.freshness import in_words, quantiles
from pipeline.bench.live import Step, limit_of, sustained_maximum
from pipeline.bench.plot import plot_freshness

_KEPT_UP = Step(
    rate=100,
    throughput=100,
    behind=0,
    words_behind=0,
    words_rate=10,
    cpu=1.2,
    machine=1.5,
    resident=1e8,
    bundles_busy=0.5,
    encoder_busy=0.2,
    behaviour=(0.1, 0.2, 0.3),
    words=(0.2, 0.4, 0.8),
)


def step(rate: float, **others: Any) -> Step:
    return dataclasses.replace(_KEPT_UP, rate=rate, **others)


def test_the_maximum_is_the_highest_rate_that_was_kept_up_with_in_events_and_in_words() -> None:
    assert sustained_maximum([step(100), step(200, behind=399), step(400, behind=1_600)]) == 200
    assert sustained_maximum([step(100), step(200, words_rate=20, words_behind=50)]) == 100
    assert sustained_maximum([step(100, behind=1_600)]) == 0
    later = [step(400), step(800, behind=3_200), step(400, behind=1_600), step(333), step(167)]
    assert sustained_maximum(later) == 333, "what was kept up with at first alone is no maximum"


def test_the_limit_is_the_stage_that_fell_behind_at_the_lowest_rate() -> None:
    slow_bundles = step(400, behind=1_600, bundles_busy=0.97)
    assert "one thread that parses" in limit_of([step(200), slow_bundles], 2)
    assert "the encoder" not in limit_of([step(200), slow_bundles], 2)
    slow_encoder = step(300, words_behind=90, words_rate=30, encoder_busy=0.99)
    told = limit_of([slow_bundles, step(200), slow_encoder], 2)
    assert told.startswith("at 300 a second the encoder, beside it (99% busy, 30 texts a second)")
    assert "used 1.2 of 2 processors, all else 0.3" in told
    assert "not reached" in limit_of([step(100)], 2)


def test_quantiles_of_few_and_none() -> None:
    assert quantiles([1.0]) == (1.0, 1.0, 1.0)
    assert quantiles([]) == ()
    assert in_words((0.1, 0.25, 0.5)) == "p50=0.10 p95=0.25 p99=0.50"


def test_the_plot_is_an_svg_with_a_line_a_quantile() -> None:
    drawn = ET.fromstring(plot_freshness([step(100), step(200)], "from event to list"))
    lines = drawn.findall("{http://www.w3.org/2000/svg}polyline")
    assert len(lines) == 4
    assert all(len((line.get("points") or "").split()) == 2 for line in lines)
