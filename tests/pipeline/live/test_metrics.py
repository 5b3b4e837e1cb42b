"""Metrics: the text format, what is in it, and no user, item or text."""

from __future__ import annotations

import json
import logging
import re
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import pyarrow as pa
import pytest

from models.encoder.artefact import DEFAULT_MODEL_PATH, read_manifest
from models.errors import UsageError
from models.records import MICROS_PER_SECOND
from models.times import wall_clock
from pipeline.connectors.retrying import RefusedRowsError
from pipeline.inputs.growing_files import Place, bytes_between, bytes_unread
from pipeline.live.json_logs import JsonFormatter
from pipeline.live.metrics import Metric, metrics_of, rendered, served_metrics
from pipeline.live.run import LiveRun
from tests.pipeline.live.feedback_log import shop_log, write_log
from tests.pipeline.live.runs import await_that, live_run
from tests.pipeline.live.test_faults import Redelivering

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


class _Held(Redelivering):
    """Holds a message that was published a minute ago, and never one more."""

    def oldest_held(self) -> int | None:
        return wall_clock() - 60 * MICROS_PER_SECOND


class _Refusing:
    """A sink that refuses the lists of one user."""

    def open(self) -> None:
        pass

    def write(self, table: str, rows: pa.Table) -> None:
        if table == "recommendations" and "user03" in rows["user_id"].to_pylist():
            raise RefusedRowsError("not this one")

    def close(self) -> None:
        pass


def test_a_run_tells_its_model_its_lag_what_it_holds_and_what_a_sink_refused(tmp_path: Path) -> None:
    runs: list[LiveRun] = []
    source = _Held([json.dumps(event).encode() for event in shop_log()], 1)
    with live_run(
        "kafka://localhost:1/topic?group=g",
        tmp_path / "out",
        lambda _: source,
        runs.append,
        lambda _: _Refusing(),
        sinks=("postgresql://localhost/db",),
        model=None,
    ) as (state, _):
        await_that(lambda: state.books()["input"] == 143 and runs[0].feeders[0].counts.refused)
        text = rendered(metrics_of(runs[0]))
    manifest = read_manifest(DEFAULT_MODEL_PATH)
    named = f'name="{manifest["name"]}",version="{manifest["version"]}"'
    assert f"livelist_model_info{{{named}}} 1" in text
    assert "livelist_log_lag_bytes 0" in text
    assert re.search(r'livelist_sink_rows_refused_total{sink="0"} [1-9]', text)
    (held,) = re.findall(r'livelist_source_oldest_held_seconds{source="0"} ([\d.]+)', text)
    assert 60 <= float(held) < 75
    assert not [line for line in text.splitlines() if line[0] != "#" and not _SAMPLE.match(line)]


def test_the_lag_of_followed_files_is_what_no_bundle_has_read(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_bytes(b"x" * 50)
    found = log.stat()
    place = Place("log.jsonl", found.st_dev, found.st_ino, offset=20)
    assert bytes_unread({str(log): place, str(tmp_path / "gone"): place}) == 30
    assert bytes_between({}, {str(log): place}) == 20
    assert bytes_between({str(log): place._replace(offset=15)}, {str(log): place}) == 5
    assert bytes_between({str(log): place._replace(inode=1, offset=15)}, {str(log): place}) == 20


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
