"""Lateness in an endless run: by the newest event so far, which nobody's clock can put in the future."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq

from models.records import MICROS_PER_SECOND
from models.tables import ScoredRow
from pipeline.live.state import TRENDS_LATE, Done, LiveState
from pipeline.live.trends import LiveTrends
from tests.pipeline.live.feedback_log import START, Event
from tests.pipeline.live.runs import append, await_that, live_run

_HOUR = 3_600


def event(name: str, hours: float, kind: str = "view", user: str = "u") -> Event:
    when = START + hours * _HOUR
    return {"event_id": name, "user_id": user, "kind": kind, "item_id": f"item{name}", "event_time": when}


def _read(state: LiveState) -> int:
    return state.books()["input"]


def _late(output: Path) -> list[str]:
    paths = sorted((output / "quarantine").glob("*.parquet"))
    rows = [row for path in paths for row in pq.read_table(path, partitioning=None).to_pylist()]
    assert {row["error_code"] for row in rows} <= {"late"}
    return sorted(row["payload"].split('"event_id": "')[1].split('"')[0] for row in rows)


def test_what_is_older_than_allowed_before_the_newest_so_far_is_quarantined(tmp_path: Path) -> None:
    events, output = tmp_path / "events", tmp_path / "out"
    events.mkdir()
    log = events / "log.jsonl"
    # A log of years ago is in time as long as it is in order; `b` is out of order, but in time.
    append(log, event("a", 0), event("c", 3), event("b", 2.5), event("late1", 1))
    with live_run(events, output, allowed_lateness_seconds=_HOUR) as (state, reports):
        await_that(lambda: _read(state) == 4)
    assert reports[0].accounting.counts["quarantined.late"] == 1
    assert _late(output) == ["late1"]


def test_a_restart_judges_by_what_stood_before_it_and_an_erasure_is_never_late(tmp_path: Path) -> None:
    events, output = tmp_path / "events", tmp_path / "out"
    events.mkdir()
    log = events / "log.jsonl"
    append(log, event("a", 0), event("c", 3, user="other"))
    with live_run(events, output, allowed_lateness_seconds=_HOUR) as (state, _):
        await_that(lambda: _read(state) == 2)
    append(log, event("late2", 1.5), event("x", 0.5, "erase"), event("d", 2.5))
    with live_run(events, output, allowed_lateness_seconds=_HOUR) as (state, reports):
        await_that(lambda: _read(state) == 5)
    counts = reports[0].accounting.counts
    assert (counts["quarantined.late"], counts["accepted.control"], counts["input"]) == (1, 1, 5)
    assert _late(output) == ["late2"]


def _now(hours: float) -> float:
    return (time.time() - START) / _HOUR + hours


def test_an_event_of_the_future_makes_nobody_else_late_before_and_after_a_restart(tmp_path: Path) -> None:
    events, output = tmp_path / "events", tmp_path / "out"
    events.mkdir()
    log = events / "log.jsonl"
    append(log, event("a", _now(-0.5)), event("ahead", _now(20)), event("b", _now(-0.4)))
    with live_run(events, output, allowed_lateness_seconds=_HOUR) as (state, reports):
        await_that(lambda: _read(state) == 3)
    assert reports[0].accounting.counts["accepted.without_text"] == 3
    append(log, event("c", _now(-0.3)), event("late1", _now(-1.5)))
    with live_run(events, output, allowed_lateness_seconds=_HOUR) as (state, reports):
        await_that(lambda: _read(state) == 5)
    assert reports[0].accounting.counts["accepted.without_text"] == 4
    assert _late(output) == ["late1"]


def test_trends_go_on_after_an_event_of_the_future() -> None:
    state, hour = LiveState(), _HOUR * MICROS_PER_SECOND
    state.resume(Done(0, {}, Counter(), {}, 0, 0), hour)
    for hours in (_now(20), _now(0)):
        state.accepted(scored_row(hours))
        state.begin_bundle({})
        done = state.picture()
        state.forget_trends(LiveTrends(Path("none"), hour, {}).oldest_open(done))
    assert TRENDS_LATE not in state.books()
    assert done.newest <= time.time() * MICROS_PER_SECOND


def scored_row(hours: float) -> ScoredRow:
    when = round((START + hours * _HOUR) * MICROS_PER_SECOND)
    return ScoredRow("e", "u", "view", "i", when, None, None, None, False, "log:1")
