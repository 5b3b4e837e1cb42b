"""Shards of a job on a cluster become tables: each row once, with trends, alerts, counts and metrics."""

from __future__ import annotations

import json
import pickle
import time
from dataclasses import replace
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from models.encoder.scorer import TextScorer
from models.encoder.store import publish_model
from models.errors import OutputError
from models.pointer import write_pointer
from models.records import MICROS_PER_DAY, TopK
from models.table_columns import table_from_records
from models.tables import AlertRow, ScoredRow
from models.times import to_micros, wall_clock
from models.trends import TrendKey, TrendSum, merge_trends, trend_parts, trend_rows
from pipeline.cluster.health import Pulled, judge
from pipeline.config import JobConfig
from pipeline.flink import folding as module
from pipeline.flink.books import KeepBooks, close_books, read_books, write_books
from pipeline.flink.folding import Folding, forget_books
from pipeline.flink.index import learn_from_log
from pipeline.flink.metrics import metrics_of
from pipeline.flink.plan import FlinkPlan
from pipeline.flink.published import Published
from pipeline.flink.status import JobStatus
from pipeline.flink.steward import CONFIG, Steward
from pipeline.flink.submit import FlinkJob
from pipeline.live.metrics import rendered
from pipeline.tables.files import sort_rows
from pipeline.tables.output_folder import stream_path
from pipeline.tables.reader import read_accounting
from pipeline.tables.shards import leave_shard
from tests.flink.test_cluster import FACTS
from tests.models.encoder.tiny import write_tiny
from tests.models.table_records import NOON, dead_letter, scored, top_k
from tests.pipeline.live.feedback_log import shop_log, table, write_log

RUN = "run-1"


@pytest.fixture
def output(tmp_path: Path) -> Path:
    (tmp_path / "job").mkdir()
    return tmp_path / "out"


def folding(output: Path) -> Folding:
    return Folding(output.parent / "job", output, RUN, MICROS_PER_DAY)


def leave(output: Path, name: str, *records: object) -> None:
    rows = table_from_records(name, list(records), RUN, wall_clock())
    leave_shard(output, RUN, name, sort_rows(name, rows), 0)


def days(count: int, a_day: int) -> list[ScoredRow]:
    """Feedback on one item for some days; on the last ten times as much."""
    counts = [a_day] * (count - 1) + [10 * a_day]
    return [
        scored(f"e{day}-{number}", event_time=NOON + day * MICROS_PER_DAY)
        for day, events in enumerate(counts)
        for number in range(events)
    ]


def test_what_a_bundle_leaves_again_stands_once_whoever_folds_it(output: Path) -> None:
    first, second = [scored("e1"), scored("e2")], [scored("e2"), scored("e3")]
    leave(output, "scored_feedback", *first)
    leave(output, "dead_letters", dead_letter("f:1"))
    one = folding(output)
    one.fold()
    leave(output, "scored_feedback", *second)
    leave(output, "dead_letters", replace(dead_letter("f:1"), time=NOON + 5), dead_letter("f:2"))
    one.fold()
    leave(output, "scored_feedback", *second, scored("e4"))
    folding(output).fold()  # another process
    assert [row["event_id"] for row in table(output, "scored_feedback")] == ["e1", "e2", "e3", "e4"]
    assert sorted(row["source_position"] for row in table(output, "dead_letters")) == ["f:1", "f:2"]
    (trend,) = [row for row in table(output, "trends") if row["subject_kind"] == "item"]
    assert trend["count"] == 4


def test_an_edit_is_no_repeat(output: Path) -> None:
    leave(output, "scored_feedback", scored("e1"), replace(scored("e1"), source_position="f:9"))
    folding(output).fold()
    assert len(table(output, "scored_feedback")) == 2


def test_trends_and_alerts_are_those_of_the_rows(output: Path) -> None:
    rows = days(6, 20)
    expected: dict[TrendKey, TrendSum] = {}
    for row in rows:
        merge_trends(expected, trend_parts(row, MICROS_PER_DAY))
    folds = folding(output)
    for start in range(0, len(rows), 50):
        leave(output, "scored_feedback", *rows[start : start + 50])
        folds.fold(caught_up=False)
    leave(
        output, "scored_feedback", replace(rows[-1], event_id="after", event_time=NOON + 7 * MICROS_PER_DAY)
    )
    folds.fold()
    folds.fold()
    told = {
        (to_micros(row["window_start"]), row["subject_kind"], row["subject"]): row["count"]
        for row in table(output, "trends")
    }
    for sums in trend_rows(expected, MICROS_PER_DAY):
        assert told[sums.window_start, sums.subject_kind, sums.subject] == sums.count
    alerts = [(row["kind"], row["subject_kind"]) for row in table(output, "alerts")]
    assert alerts == [("surge", "stream")], "once, though the tables were folded twice since"


def test_what_is_summed_before_a_disk_is_full_is_not_summed_again(
    output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave(output, "scored_feedback", scored("e1"))
    alert = AlertRow("index_refused", "job", "index", NOON, "{}")

    def full(*arguments: object, **named: object) -> None:
        raise OutputError("the disk is full")

    with monkeypatch.context() as broken:
        broken.setattr(module, "take_snapshot", full)
        with pytest.raises(OutputError):
            folding(output).fold([alert])
    folding(output).fold()
    (trend,) = [row for row in table(output, "trends") if row["subject_kind"] == "item"]
    assert trend["count"] == 1
    assert [row["kind"] for row in table(output, "alerts")] == ["index_refused"]
    assert not list(stream_path(output, RUN).glob("*/*.shard"))


def test_the_books_of_a_job_are_one_sum_and_close_once(output: Path) -> None:
    job = output.parent / "job"
    with beam.Pipeline("FnApiRunner", PipelineOptions([])) as pipeline:
        one = pipeline | "One" >> beam.Create([("input", 3), ("accepted.scored", 1), ("input", 4)])
        other = pipeline | "Other" >> beam.Create([("duplicate", 6)])
        (one, other) | KeepBooks(job)
    assert read_books(job) == {"input": 7, "accepted.scored": 1, "duplicate": 6}
    folding(output).fold()
    for _ in range(2):
        books = close_books(job, output, RUN)
    assert books.unaccounted == 0
    folding(output).fold()
    assert read_accounting(str(output)).counts == books.counts
    rows = [row for row in table(output, "quality") if row["check"] == "accounting.input"]
    windowed = [row["value"] for row in rows if row["window_start"] is not None]
    assert sum(windowed) == 7 and len(rows) == len(windowed) + 1
    forget_books(job)
    assert not read_books(job)


def job_in(folder: Path, output: Path, **given: object) -> JobConfig:
    (folder / "in").mkdir(exist_ok=True)
    write_log(folder / "in" / "log.jsonl", shop_log())
    return JobConfig(inputs=(str(folder / "in"),), output=str(output), **given)  # type: ignore[arg-type]


def test_a_refused_index_and_a_refused_model_are_told_once(
    tmp_path: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.flink.published._AGAIN_SECONDS", 0.0)
    write_tiny(tmp_path / "tiny")
    artefact = TextScorer.load(tmp_path / "tiny", threads=1).artefact
    models = tmp_path / "models"
    publish_model(artefact.path, models)
    config = job_in(tmp_path, output, model="none")
    index = learn_from_log(config)
    published = Published(replace(config, model=str(models)))
    assert not published.look()
    write_pointer(output / "index", "broken")
    (models / "broken").mkdir()
    write_pointer(models, "broken")
    told = published.look()
    assert {(row.kind, row.subject_kind, row.subject) for row in told} == {
        ("index_refused", "job", "index"),
        ("model_refused", "job", "broken"),
    }
    assert {json.loads(row.evidence)["serving"] for row in told} == {index.name, artefact.version}
    assert not published.look()
    write_pointer(output / "index", index.name)
    write_pointer(models, artefact.version)
    assert not published.look()
    assert (published.index, published.model) == (index.name, artefact.version)


def test_the_metrics_of_a_job_go_by_the_names_of_a_run_here(tmp_path: Path, output: Path) -> None:
    job, config = tmp_path / "job", job_in(tmp_path, output, model="none")
    (job / CONFIG).write_bytes(pickle.dumps((RUN, config)))
    index = learn_from_log(config)
    write_books(job, {"input": 2, "accepted.scored": 1, "accepted.unscored": 1})
    steward = Steward(job)
    steward.folding = folding(output)
    steward.published = Published(config)
    now = wall_clock()
    leave(output, "scored_feedback", scored("e2", polarity=None, event_time=now - 1_000_000))
    made: TopK = replace(top_k("ann", 3), event_time=now)
    leave(output, "recommendations", made)
    steward.folding.fold()
    facts = replace(FACTS, unread=7, pulled=(Pulled("kafka://h:1/t", 12, time.time()),))
    status = JobStatus(FlinkJob(FlinkPlan(), RUN, "id", "out", (), 0.0), facts, judge(facts), 1, "")
    text = rendered(metrics_of(steward, job, status))
    for line in (
        'livelist_records_total{account="input"} 2',
        "livelist_texts_scored_total 1",
        "livelist_texts_unscored 1",
        "livelist_lists_total 1",
        'livelist_event_freshness_seconds_count{feedback="behaviour"} 1',
        f'livelist_index_info{{version="{index.name}"}} 1',
        'livelist_job_health{verdict="ok"} 1.0',
        "livelist_state_bytes 1000000",
        'livelist_source_lag_messages{source="0"} 12',
        "livelist_log_lag_bytes 7",
    ):
        assert line in text.splitlines(), text
    assert "apron" not in text and "e2" not in text


@pytest.mark.parametrize(
    ("moved", "waiting", "verdict"), [(900.0, 3, "stalled"), (990.0, 3, "ok"), (900.0, 0, "ok")]
)
def test_a_pulled_source_that_hangs_while_messages_wait_is_told(
    moved: float, waiting: int, verdict: str
) -> None:
    facts = replace(FACTS, pulled=(Pulled("kafka://h:1/feedback", waiting, moved),))
    health = judge(facts)
    assert health.verdict == verdict
    assert (
        verdict == "ok"
        or "3 messages of kafka://h:1/feedback wait, and none was read for 100 s" in health.why
    )
