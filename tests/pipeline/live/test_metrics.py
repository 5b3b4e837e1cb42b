"""Metrics: the text format, what is in it, and no user, item or text."""

from __future__ import annotations

import json
import logging
import re
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from models.errors import UsageError
from pipeline.live.json_logs import JsonFormatter
from pipeline.live.metrics import Metric, metrics_of, rendered, served_metrics
from pipeline.live.run import LiveRun
from tests.pipeline.live.feedback_log import shop_log, write_log
from tests.pipeline.live.runs import await_that, live_run

_SAMPLE = re.compile(r'^[a-z_]+(\{[a-z]+="[^"]*"(,[a-z]+="[^"]*")*\})? [-+0-9.naife]+$')


def test_a_run_tells_records_lists_freshness_and_versions_but_nobody(tmp_path: Path) -> None:
    events = tmp_path / "events"
    runs: list[LiveRun] = []
    events.mkdir()
    write_log(events / "log.jsonl", shop_log())
    with live_run(events, tmp_path / "out", watch=runs.append, reindex_every_seconds=60) as (state, _):
        await_that(lambda: state.lists >= 14 and state.freshness.behaviour.cumulative()[-1])
        run = runs[0]
        with served_metrics(0, lambda: rendered(metrics_of(run))) as url:
            text = _get(url)
            with pytest.raises(urllib.error.HTTPError, match="404"):
                _get(url.replace("metrics", "else"))
            port = urlsplit(url).port
            assert port
            with pytest.raises(UsageError, match=f"--metrics_port {port}: cannot listen"):
                served_metrics(port, str).__enter__()
    assert 'livelist_records_total{account="input"} 143' in text
    assert "livelist_lists_total 14" in text
    assert 'livelist_freshness_seconds{quantile="0.99"}' in text
    assert "livelist_users 14" in text
    counted = re.findall(r'event_freshness_seconds_count{feedback="(\w+)"} (\d+)', text)
    measured = state.freshness.behaviour.cumulative()[-1]
    assert counted == [("behaviour", str(measured)), ("words", "0")]
    samples = [line for line in text.splitlines() if not line.startswith("#")]
    assert not [line for line in samples if not _SAMPLE.match(line)]
    assert "user0" not in text
    assert "item0" not in text


def _get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as answer:
        body: str = answer.read().decode()
        return body


def test_metrics_listen_where_they_are_asked_to_and_say_so() -> None:
    with served_metrics(0, lambda: "all", "0.0.0.0") as url:
        assert url.startswith("http://0.0.0.0:")
        assert _get(url.replace("0.0.0.0", "127.0.0.2")) == "all"
    with pytest.raises(UsageError, match=r"cannot listen on 192\.0\.2\.1:0"):
        served_metrics(0, str, "192.0.2.1").__enter__()


def test_labels_are_escaped() -> None:
    odd = Metric("m", "gauge", "about", [({"name": 'a"b\\c\nd'}, 1.0)])
    assert rendered(iter([odd])).splitlines()[2] == 'm{name="a\\"b\\\\c\\nd"} 1.0'


def test_a_log_line_is_one_json_object() -> None:
    record = logging.LogRecord("pipeline.live", logging.ERROR, __file__, 1, "the %s\nfailed", ("sink",), None)
    told = json.loads(JsonFormatter().format(record))
    assert (told["level"], told["logger"], told["message"]) == ("ERROR", "pipeline.live", "the sink\nfailed")
    assert told["time"].endswith("+00:00")
