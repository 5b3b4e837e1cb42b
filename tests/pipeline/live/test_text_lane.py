"""The text lane where it falls behind or ends: the lag is told, and so is the end."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest

from models.encoder.artefact import Artefact
from models.encoder.serving import Served
from models.errors import LivelistError
from pipeline.config import JobConfig
from pipeline.live import run as live
from pipeline.live import text_lane
from pipeline.live.metrics import metrics_of
from pipeline.live.run import LiveRun
from tests.pipeline.live.feedback_log import burst, shop_log, table, write_log
from tests.pipeline.live.runs import append, await_that, has_read, live_run

#: Stands in every text of these tests, and may stand in no log line.
MARKER = "quizzaciously"


class Failing:
    """The real scorer, which raises errors that quote the texts until it is let go."""

    def __init__(self) -> None:
        self._scorer = live._scorer(JobConfig(inputs=("-",), output="-"))
        self.let_go = threading.Event()
        self.failed = 0

    @property
    def artefact(self) -> Artefact:
        return self._scorer.artefact

    def score(self, texts: Sequence[str]) -> Served:
        if not self.let_go.is_set():
            self.failed += 1
            raise ValueError(f"cannot read {texts[0]!r}")
        return self._scorer.score(texts)


@pytest.fixture
def events(tmp_path: Path) -> Path:
    """A folder with the shop's log, with the marker in every text."""
    folder = tmp_path / "events"
    folder.mkdir()
    marked = [
        event | {"text": f"{event['text']} {MARKER}"} if "text" in event else event for event in shop_log()
    ]
    write_log(folder / "log.jsonl", marked)
    return folder


def sample(run: LiveRun, name: str) -> float:
    return next(metric.samples[0][1] for metric in metrics_of(run) if metric.name == name)


def lag(run: LiveRun) -> float:
    return sample(run, "livelist_text_lag_bytes")


def test_the_lag_grows_with_the_log_while_texts_fail_and_no_text_is_logged_at_any_level(
    events: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    log, failing, runs = events / "log.jsonl", Failing(), list[LiveRun]()
    monkeypatch.setattr(live, "_scorer", lambda config: failing)
    monkeypatch.setattr(text_lane, "_RETRY_SECONDS", 0.2)
    caplog.set_level(logging.DEBUG)
    with live_run(events, tmp_path / "out", watch=runs.append, model=None) as (state, _):
        await_that(partial(has_read, state, 143))
        first = log.stat().st_size
        assert lag(runs[0]) == first
        append(log, *burst(1, 30))
        await_that(partial(has_read, state, 143 + 40))
        assert lag(runs[0]) == log.stat().st_size > first
        await_that(lambda: failing.failed > 1)
        assert sample(runs[0], "livelist_log_lag_bytes") == 0
        failing.let_go.set()
        await_that(lambda: lag(runs[0]) == 0)
    told = [record.getMessage() for record in caplog.records]
    assert [line for line in told if "texts are not scored, and wait: ValueError in score" in line]
    assert MARKER not in caplog.text
    assert not [line for line in told if MARKER in line]


def test_a_lane_that_ends_is_an_alert_and_the_drain_fails_with_the_books_closed(
    events: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(lane: text_lane.TextLane, record: object) -> None:
        raise RuntimeError(f"what is {record!r}?")

    output, runs = tmp_path / "out", list[LiveRun]()
    monkeypatch.setattr(text_lane.TextLane, "_event_with_words", broken)
    caplog.set_level(logging.DEBUG)
    with (
        pytest.raises(LivelistError, match=r"texts got no scores since the text lane stopped") as raised,
        live_run(events, output, watch=runs.append, model=None) as (state, _),
    ):
        await_that(partial(has_read, state, 143))
        await_that(lambda: runs[0].lane is not None and runs[0].lane.error)
        assert sample(runs[0], "livelist_text_lane_up") == 0
        assert lag(runs[0]) == (events / "log.jsonl").stat().st_size
    assert raised.value.exit_code == 1
    (alert,) = table(output, "alerts")
    assert (alert["kind"], alert["subject"]) == ("text_lane_stopped", "texts")
    assert json.loads(alert["evidence"])["why"].startswith("RuntimeError in broken")
    assert MARKER not in caplog.text
    monkeypatch.undo()
    with live_run(events, output, model=None) as (_, reports):
        pass
    assert reports[0].accounting.counts["accepted.unscored"] == 0
