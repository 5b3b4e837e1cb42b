"""The bench's figures: the maximum, what limits it, and a plot that any browser shows."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from pipeline.bench.freshness import Freshness, in_words, quantiles
from pipeline.bench.live import Step, limit_of, sustained_maximum
from pipeline.bench.plot import plot_freshness


def step(rate: float, throughput: float, backlog: float, cpu: float = 0.5) -> Step:
    ages = tuple(n / 100 for n in range(100))
    return Step(rate, 0.0, 10.0, throughput, backlog, cpu, 1e8, 0.0, Freshness(ages, ages[:5]))


def test_the_maximum_is_the_highest_rate_kept_or_what_the_broken_one_took_in() -> None:
    assert sustained_maximum([step(100, 100, 3), step(200, 199, 10), step(400, 240, 1_600)]) == 240
    assert sustained_maximum([step(100, 100, 3), step(200, 90, 1_100)]) == 100


def test_the_limit_is_named_by_what_the_process_used() -> None:
    assert "one thread that runs bundles" in limit_of([step(400, 240, 1_600, cpu=1.0)], 2)
    assert "the 2 cores" in limit_of([step(400, 240, 1_600, cpu=1.9)], 2)
    assert "other work" in limit_of([step(400, 240, 1_600, cpu=0.3)], 2)
    assert "not reached" in limit_of([step(100, 100, 0)], 2)


def test_quantiles_of_few_and_none() -> None:
    assert quantiles([1.0]) == (1.0, 1.0, 1.0)
    assert quantiles([]) == ()
    assert in_words((0.1, 0.25, 0.5)) == "p50=0.10 p95=0.25 p99=0.50"


def test_the_plot_is_an_svg_with_a_line_a_quantile() -> None:
    drawn = ET.fromstring(plot_freshness([step(100, 100, 0), step(200, 200, 0)], "from event to list"))
    lines = drawn.findall("{http://www.w3.org/2000/svg}polyline")
    assert len(lines) == 4
    assert all(len((line.get("points") or "").split()) == 2 for line in lines)
