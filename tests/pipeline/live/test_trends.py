"""Trends of endless runs: told while windows are open, kept once, and those of a bounded run in the end."""

from __future__ import annotations

from pathlib import Path

from tests.pipeline.live.feedback_log import ITEMS, START, Event, run, table, write_log
from tests.pipeline.live.runs import append, await_that, live_run

HOUR = 3_600


def views(begin: int, count: int) -> list[Event]:
    return [
        {
            "event_id": f"v{begin + n}",
            "user_id": f"user{n % 5}",
            "kind": "view",
            "event_time": START + begin + n * 120,
            "item_id": ITEMS[n % 4],
        }
        for n in range(count)
    ]


def test_open_windows_grow_and_end_as_a_bounded_run_tells_them(tmp_path: Path) -> None:
    events, output = tmp_path / "events", tmp_path / "out"
    events.mkdir()
    log = events / "log.jsonl"
    write_log(log, views(0, 50))
    with live_run(events, output, reindex_every_seconds=60, trend_window_seconds=HOUR) as (state, _):
        await_that(lambda: (output / "trends").is_dir() and len(table(output, "trends")) > 0)
        append(log, *views(6_001, 50))
        await_that(lambda: state.books()["input"] == 100)
    with live_run(events, output, reindex_every_seconds=60, trend_window_seconds=HOUR) as (state, _):
        append(log, *views(9_002, 10))
        await_that(lambda: state.books()["input"] == 110)
    run(tmp_path / "bounded", str(log), model="none", trend_window_seconds=HOUR)
    assert table(output, "trends") == table(tmp_path / "bounded", "trends")
    assert table(output, "alerts") == table(tmp_path / "bounded", "alerts")
