"""How fresh lists are: every accepted event is measured once, when its list is there."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.encoder.serving import Served
from models.tables import ScoredRow
from pipeline.bench.slow_encoder import SlowScorer
from pipeline.config import JobConfig
from pipeline.live import run as live
from pipeline.live.freshness import BOUNDS, AgeHistogram, EventFreshness, quantile, quantiles_between
from pipeline.live.state import LiveState
from tests.pipeline.live.runs import append, await_that, live_run

_NOW = 1_800_000_000.0


def row(seconds_ago: float) -> ScoredRow:
    time_of = round((_NOW - seconds_ago) * 1e6)
    return ScoredRow("e", "u", "view", "i", time_of, None, None, None, False, "log:1")


@given(st.lists(st.floats(0.0101, 100.0), min_size=1, max_size=60))
def test_a_quantile_of_the_histogram_is_within_a_bucket_of_the_true_one(ages: list[float]) -> None:
    histogram = AgeHistogram()
    for age in ages:
        histogram.observe(age)
    for place in (0.5, 0.95, 0.99):
        true = sorted(ages)[math.ceil(place * len(ages)) - 1]
        assert true / 1.21 <= quantile(histogram.cumulative(), place) <= true * 1.21


def test_ages_beyond_the_last_bound_are_no_number_that_flatters() -> None:
    histogram = AgeHistogram()
    histogram.observe(BOUNDS[-1] * 2)
    assert quantile(histogram.cumulative(), 0.5) == math.inf
    assert math.isnan(quantile([], 0.5))
    assert quantiles_between([0.0, 0.0], [0.0, 0.0]) == ()


def test_what_came_in_before_the_first_lists_is_measured_when_they_are_there() -> None:
    fresh = EventFreshness()
    fresh.served([row(1.0), row(2.0)], _NOW - 0.1, _NOW, unlisted=True)
    assert fresh.behaviour.cumulative()[-1] == 0
    fresh.served([row(0.0)], _NOW + 2.9, _NOW + 3.0, unlisted=False)
    assert fresh.behaviour.cumulative()[-1] == 3
    assert fresh.behaviour.seconds == pytest.approx(4.0 + 5.0 + 3.0)


def _view(number: int, item: str) -> dict[str, object]:
    when = time.time()
    return {"event_id": f"e{number}", "user_id": "u", "kind": "view", "item_id": item, "event_time": when}


def _measured(state: LiveState, events: int) -> bool:
    return state.freshness.behaviour.cumulative()[-1] == events


def test_every_accepted_event_is_measured_once_those_without_a_new_list_too(tmp_path: Path) -> None:
    events, output = tmp_path / "events", tmp_path / "out"
    events.mkdir()
    append(events / "log.jsonl", *(_view(number, f"i{number % 3}") for number in range(30)))
    with live_run(events, output, reindex_every_seconds=0) as (state, reports):
        for number in range(30, 40):  # a bundle each; the lists of most of them show nothing new
            await_that(partial(_measured, state, number))
            append(events / "log.jsonl", _view(number, "i0"))
        await_that(partial(_measured, state, 40))
        held_back = state.books()["note.suppressed_unchanged"]
    accepted = sum(pq.read_metadata(path).num_rows for path in (output / "scored_feedback").glob("*.parquet"))
    assert accepted == 40
    assert held_back >= 5
    assert reports[0].freshness is not None


class _Counting(SlowScorer):
    texts = 0

    def score(self, texts: Sequence[str]) -> Served:
        served = super().score(texts)
        self.texts += len(texts)
        return served


def test_with_an_encoder_that_takes_seconds_a_batch_behaviour_stays_fresh(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events, output = tmp_path / "events", tmp_path / "out"
    events.mkdir()
    held = 4.0
    scorer = _Counting(live._scorer(JobConfig(inputs=("-",), output="-")), held)
    monkeypatch.setattr(live, "_scorer", lambda config: scorer)
    append(events / "log.jsonl", *(_view(number, f"i{number % 3}") for number in range(30)))
    with live_run(events, output, reindex_every_seconds=0, model=None) as (state, _):
        behaviour, words = state.freshness.behaviour, state.freshness.words
        await_that(lambda: behaviour.cumulative()[-1] == 30)
        before = behaviour.cumulative()
        began, number = time.monotonic(), 30
        while time.monotonic() < began + 2 * held:  # texts all the time
            said = {"kind": "review", "text": f"The seam of number {number} came apart after a day."}
            append(
                events / "log.jsonl", json.dumps(_view(number, "i1") | said) + "\n", _view(number + 1, "i2")
            )
            number += 2
            time.sleep(0.2)
        expected = 30 + (number - 30) // 2
        await_that(lambda: behaviour.cumulative()[-1] == expected)
        await_that(lambda: words.cumulative()[-1] > 0)
        median, _, _ = quantiles_between(before, behaviour.cumulative())
        scored = quantile(words.cumulative(), 0.5)
    assert median < held / 2  # a list in line behind the encoder would be older
    assert scored > held / 1.21  # a quantile of the histogram is within a bucket of the true one
    assert scorer.texts == (number - 30) // 2  # the drain waits for them all
