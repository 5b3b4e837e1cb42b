"""The run at a glance: held to the tables and to what the job reported."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from models.records import MICROS_PER_DAY, MICROS_PER_SECOND, Micros
from models.table_columns import table_from_records
from models.tables import TABLES, AlertRow, QualityRow, TrendRow
from pipeline.job import RunReport
from pipeline.tables.files import sort_rows
from pipeline.tables.shards import leave_shard
from pipeline.tables.snapshots import take_snapshot
from tests.models.table_records import NOON, top_k
from tests.pipeline.live.feedback_log import table
from tests.pipeline.tables.runs import RECORDS, publish_records, write_all_shards
from tests.pipeline.ui.pages import Page, served

RUN_ID = "20231114T221320Z-abcdef"


def test_the_books_are_those_that_the_job_reported(page: Page, report: RunReport) -> None:
    books = page.get("/api/overview").json["accounting"]
    assert books["line"] == report.accounting.as_line()
    assert (books["read"], books["unaccounted"]) == (report.accounting.input, 0)
    assert sum(part["records"] for part in books["parts"]) == books["read"]
    assert not books["so_far"]


def test_rows_rejects_and_lists_are_those_of_the_tables(page: Page, output: Path) -> None:
    found = page.get("/api/overview").json
    assert {name: of["rows"] for name, of in found["rows"].items()} == {
        name: len(table(output, name)) for name in TABLES
    }
    rejected = [*table(output, "dead_letters"), *table(output, "quarantine")]
    counted = {one["error_code"]: one["records"] for one in found["rejects"]}
    assert counted == Counter(row["error_code"] for row in rejected)
    assert all(one["meaning"] and one["remedy"] for one in found["rejects"])
    lists = table(output, "recommendations")
    assert found["lists"]["hindsight"] == sum(row["hindsight"] for row in lists)
    assert found["lists"]["tombstones"] == 1
    current = [row for row in lists if not row["hindsight"] and not row["tombstone"]]
    assert found["lists"]["lists"] == sum(found["lists"]["bars"]) == len(current)


def test_the_tone_of_a_topic_is_the_mean_of_its_texts(page: Page, output: Path) -> None:
    tones: dict[str, list[float]] = {}
    for row in table(output, "scored_feedback"):
        for topic in row["topics"] or ():
            tones.setdefault(topic["name"], []).append(row["polarity"])
    found = page.get("/api/overview").json["topics"]
    assert {one["topic"]: one["texts"] for one in found} == {name: len(of) for name, of in tones.items()}
    for one in found:
        assert abs(one["mean_polarity"] - np.mean(tones[one["topic"]])) < 1e-3
        assert [window["start"] for window in one["windows"]] == sorted(
            window["start"] for window in one["windows"]
        )


def test_years_of_windows_are_joined_and_none_is_left_out(tmp_path: Path) -> None:
    rows = [
        TrendRow(
            NOON + day * MICROS_PER_DAY,
            NOON + (day + 1) * MICROS_PER_DAY,
            "topic",
            name,
            2,
            2,
            tone,
            0.1,
            0,
            0,
        )
        for day in range(1000)
        for name, tone in (("fit", 0.5), ("price", -1 + day / 500))
        if name == "price" or day > 900
    ]
    publish_records(tmp_path, {**RECORDS, "trends": rows}, "run-1")
    with served(tmp_path) as page:
        price, fit = page.get("/api/overview").json["topics"]
    assert (price["topic"], price["texts"], fit["texts"]) == ("price", 2000, 198)
    for topic in (price, fit):
        assert sum(window["texts"] for window in topic["windows"]) == topic["texts"]
        assert len(topic["windows"]) <= 62
    tones = [window["mean_polarity"] for window in price["windows"]]
    assert tones == sorted(tones) and tones[0] < -0.9 and tones[-1] > 0.9


def test_a_bounded_run_has_no_freshness(page: Page) -> None:
    found = page.get("/api/overview").json
    assert found["freshness"] is None
    assert not found["endless"]


def test_alerts_come_with_their_evidence_the_newest_first(tmp_path: Path) -> None:
    alerts = [AlertRow("surge", "topic", name, NOON + place, '{"z": 4.5}') for place, name in enumerate("ab")]
    publish_records(tmp_path, {**RECORDS, "alerts": alerts}, "run-1")
    with served(tmp_path) as page:
        found = page.get("/api/overview").json["alerts"]
    assert [alert["subject"] for alert in found["newest"]] == ["b", "a"]
    assert found["total"] == 2
    assert found["newest"][0]["evidence"] == {"z": 4.5}


def snapshot(output: Path, bundle: int, books: dict[str, float], ages: list[float]) -> None:
    """What an endless run publishes: lists that were written `ages` seconds after their feedback."""
    written: Micros = NOON + 1000 * MICROS_PER_SECOND
    for place, age in enumerate(ages):
        user = f"user{bundle}-{place}"
        # The event time of a made list is NOON and its version.
        made = top_k(user, 1000 * MICROS_PER_SECOND - int(age * MICROS_PER_SECOND))
        rows = table_from_records("recommendations", [made], RUN_ID, written)
        leave_shard(output, RUN_ID, "recommendations", rows, bundle, ())
    window = (NOON + bundle, NOON + bundle + 1)
    counts = [QualityRow(f"accounting.{name}", count, *window) for name, count in books.items()]
    rows = sort_rows("quality", table_from_records("quality", counts, RUN_ID, written))
    leave_shard(output, RUN_ID, "quality", rows, bundle, ())
    assert take_snapshot(output, RUN_ID, bundle=bundle) is not None


def test_the_books_of_an_endless_run_are_told_while_it_goes_on(tmp_path: Path) -> None:
    snapshot(tmp_path, 1, {"input": 5.0, "accepted.without_text": 5.0, "unaccounted": 0.0}, [1.0])
    with served(tmp_path) as page:
        assert page.get("/api/overview").json["accounting"]["read"] == 5
        snapshot(tmp_path, 2, {"input": 3.0, "duplicate": 3.0, "unaccounted": 0.0}, [1.0])
        found = page.get("/api/overview").json
    assert found["endless"]
    assert (found["accounting"]["read"], found["accounting"]["so_far"]) == (8, True)
    assert found["accounting"]["unaccounted"] == 0


def test_freshness_is_from_the_newest_feedback_to_the_written_list(tmp_path: Path) -> None:
    ages = [0.1 * place for place in range(1, 101)]
    snapshot(tmp_path, 1, {"input": 1.0}, ages)
    with served(tmp_path) as page:
        found = page.get("/api/overview").json["freshness"]
        age = page.of_user("user1-0", "list").json["freshness"]
    assert found["lists"] == 100
    assert abs(found["p50"] - np.quantile(ages, 0.5)) < 1e-3
    assert abs(found["p99"] - np.quantile(ages, 0.99)) < 1e-3
    assert abs(age["event_to_written_seconds"] - 0.1) < 1e-3


def test_an_empty_folder_is_shown_as_one_that_waits_for_tables(tmp_path: Path) -> None:
    with served(tmp_path) as page:
        assert page.get("/healthz").json["tables"] is False
        assert page.get("/api/users").json == {"users": [], "matching": 0, "total": 0}
        assert page.get("/api/users?order=random").json["users"] == []
        answer = page.of_user("ann", "list")
        assert (answer.status, answer.json["error"]) == (503, "no_tables")
        found = page.get("/api/overview").json
        assert found["accounting"] is None and found["topics"] == [] and found["lists"]["lists"] == 0


def test_other_folders_are_no_tables(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "recommendations_latest").mkdir()
    with served(tmp_path) as page:
        assert page.get("/healthz").json["tables"] is False
        assert page.get("/api/overview").status == 200


def test_of_a_run_that_is_not_published_nothing_is_seen(tmp_path: Path) -> None:
    publish_records(tmp_path, RECORDS, "run-1")
    with served(tmp_path) as page:
        before = [page.get(path).body for path in ("/api/users", "/api/overview")]
        write_all_shards(tmp_path, {"recommendations": [top_k("dora", 10)]}, "run-2")
        assert (tmp_path / ".staging-run-2").is_dir()
        assert [page.get(path).body for path in ("/api/users", "/api/overview")] == before


def test_a_damaged_file_is_said_to_be_one(tmp_path: Path) -> None:
    publish_records(tmp_path, RECORDS, "run-1")
    (tmp_path / "recommendations_latest" / "part-00000.parquet").write_bytes(b"PAR1 no more")
    with served(tmp_path) as page:
        answer = page.of_user("ann", "list")
        assert (answer.status, answer.json["error"]) == (500, "unreadable_tables")
        assert "Parquet" in answer.json["message"]
        assert page.get("/api/overview").json["error"] == "unreadable_tables"
