"""One run of the job for all tests of the page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.job import RunReport
from tests.pipeline.live.feedback_log import START, Event, run, shop_log, write_log
from tests.pipeline.ui.pages import Page, served

HTML = "<img src=x onerror=alert(1)>/../\"'&"


def _feedback() -> list[Event]:
    of_html: list[Event] = [
        {"kind": "purchase", "item_id": "item01"},
        {"kind": "review", "item_id": HTML, "text": "soft, warm and beautifully made", "rating": 5},
    ]
    named = [
        event | {"event_id": f"{HTML}{place}", "user_id": HTML, "event_time": START + place}
        for place, event in enumerate(of_html)
    ]
    erasure = {"event_id": "gone", "user_id": "user02", "kind": "erase", "event_time": START + 100_000}
    return [*shop_log(), *named, erasure, {"user_id": "user03", "kind": "sneeze"}]


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> RunReport:
    """A run with a history, an erased user, HTML in ids, and a dead letter."""
    folder = tmp_path_factory.mktemp("page")
    source = write_log(folder / "events.jsonl", _feedback())
    catalogue = [{"item_id": "item01", "title": "Warm coat"}, {"item_id": HTML, "title": "Linen skirt"}]
    items = write_log(folder / "items.jsonl", catalogue)
    return run(folder / "out", source, items=(items,), emit_history=True, history_window_seconds=14_400)


@pytest.fixture(scope="session")
def output(report: RunReport) -> Path:
    """The tables of that run."""
    return Path(report.output)


@pytest.fixture(scope="session")
def page(output: Path) -> Iterator[Page]:
    """The page over that run."""
    with served(output) as page:
        yield page
