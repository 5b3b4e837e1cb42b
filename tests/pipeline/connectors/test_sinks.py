"""One contract for every sink, held against the real services."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.errors import OutputError
from models.records import DeadLetter, TopK
from models.table_columns import table_from_records
from models.tables import AlertRow, QualityRow, ScoredRow, TrendRow
from pipeline.connectors.registry import make_sink
from tests.pipeline.connectors.lists import current, histories, made_list, table_of, tombstone
from tests.pipeline.connectors.targets import (
    DeltaStoreTarget,
    DeltaTarget,
    KafkaTarget,
    PostgresTarget,
    PubsubTarget,
    Target,
    opened_sink,
)

_users = itertools.count(1)

#: Of each table that is a history a few rows, some of them told anew.
HISTORIES: dict[str, Sequence[object]] = {
    "recommendations": [made_list("u1", 1), made_list("u1", 2), made_list("u2", 1)],
    "scored_feedback": [
        ScoredRow(f"e{n}", "u1", "view", None, n, None, None, 0.1, False, f"p:{n:010d}") for n in range(3)
    ],
    "trends": [TrendRow(0, 10, "item", f"i{n}", 5, 0, None, None, 0, 0) for n in range(3)],
    "alerts": [AlertRow("surge", "item", f"i{n}", 10, "{}") for n in range(3)],
    "quality": [QualityRow(f"accounting.{n}", float(n)) for n in range(3)],
    "dead_letters": [DeadLetter("parse", "invalid_json", "r", "pay\0load", f"p:{n}", n) for n in range(3)],
    "quarantine": [DeadLetter("clean", "late", "r", "payload", f"p:{n}", n) for n in range(3)],
}


@pytest.fixture(
    params=[
        pytest.param("postgres", marks=pytest.mark.postgres),
        pytest.param("kafka", marks=pytest.mark.java),
        pytest.param("pubsub", marks=pytest.mark.java),
        pytest.param("delta", marks=pytest.mark.postgres),
        pytest.param("delta_store", marks=pytest.mark.cloud),
    ]
)
def new_target(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Target]:
    """A maker of fresh places at each service."""
    if request.param == "delta":
        pytest.importorskip("deltalake", reason="the delta extra is missing: make test-all")
        return lambda: DeltaTarget(tmp_path / f"delta-{next(_users)}")
    if request.param == "delta_store":
        pytest.importorskip("deltalake", reason="the delta extra is missing: make test-all")
        bucket = request.getfixturevalue("bucket")
        return lambda: DeltaStoreTarget(bucket)
    service = request.getfixturevalue(request.param)
    kinds: dict[str, Callable[[Any], Target]] = {
        "postgres": PostgresTarget,
        "kafka": KafkaTarget,
        "pubsub": PubsubTarget,
    }
    return lambda: kinds[request.param](service)


@pytest.fixture
def bucket(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A bucket, whose store and keys the environment names."""
    boto3 = pytest.importorskip("boto3", reason="boto3 is missing: make test-all")
    given = {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "id",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3", region_name="us-east-1")
    client.create_bucket(Bucket="delta")
    client.close()
    return "delta"


class TestEverySink:
    def test_the_newest_list_of_each_user_stands(self, new_target: Callable[[], Target]) -> None:
        target = new_target()
        sink = opened_sink(target.uri)
        lists = [made_list("a", 5), made_list("b'c", 1, items=2), made_list("ü\t\n", 3)]
        sink.write("recommendations", table_of(lists))
        assert target.current() == current(lists)
        newer = [made_list("a", 7, items=1)]
        sink.write("recommendations", table_of(newer))
        assert target.current() == current([*lists, *newer])
        sink.close()

    def test_a_stale_version_never_overwrites_nor_resurrects(self, new_target: Callable[[], Target]) -> None:
        target = new_target()
        sink = opened_sink(target.uri)
        for step in [made_list("a", 5), made_list("a", 3, items=4), tombstone("a", 6), made_list("a", 4)]:
            sink.write("recommendations", table_of([step]))
        assert target.current() == []
        sink.write("recommendations", table_of([made_list("a", 9)]))
        assert target.current() == current([made_list("a", 9)])
        sink.close()

    def test_writing_again_by_another_connection_changes_nothing(
        self, new_target: Callable[[], Target]
    ) -> None:
        target = new_target()
        lists = [made_list("a", 5), made_list("a", 6), made_list("b", 1), tombstone("b", 2)]
        for _ in range(2):
            sink = opened_sink(target.uri)
            sink.write("recommendations", table_of(lists))
            sink.write("recommendations", table_of(lists[:1]))
            sink.close()
        assert target.current() == current(lists)
        if target.keyed:
            assert target.count("recommendations") == 4

    def test_lists_of_the_past_are_never_current(self, new_target: Callable[[], Target]) -> None:
        target = new_target()
        sink = opened_sink(target.uri)
        past: TopK = replace(made_list("a", 9), hindsight=True)
        sink.write("recommendations", table_of([made_list("a", 1), past]))
        sink.close()
        assert target.current() == current([made_list("a", 1)])

    def test_every_history_takes_its_rows_once(self, new_target: Callable[[], Target]) -> None:
        target = new_target()
        sink = opened_sink(target.uri)
        for _ in range(2):
            for table, records in HISTORIES.items():
                sink.write(table, table_from_records(table, records, "run-1"))
        sink.close()
        if target.keyed:
            assert {table: target.count(table) for table in HISTORIES} == dict.fromkeys(HISTORIES, 3)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_order_any_batches_and_any_repeats_end_with_the_highest_version(
    new_target: Callable[[], Target], data: st.DataObject
) -> None:
    target = new_target()
    lists = data.draw(histories())
    arriving = data.draw(st.permutations([*lists, *data.draw(st.lists(st.sampled_from(lists)))]))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(arriving)), max_size=3)))
    sink = opened_sink(target.uri)
    for start, end in itertools.pairwise([0, *cuts, len(arriving)]):
        sink.write("recommendations", table_of(arriving[start:end]))
    sink.close()
    assert target.current() == current(lists)


@pytest.mark.cloud
@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("postgresql://nobody@127.0.0.1:1/db", "is the server up"),
        ("kafka://127.0.0.1:1/lists", "no Kafka broker answered"),
        ("delta:///proc/no/such/place", "check the path"),
    ],
)
def test_a_sink_that_is_not_there_is_an_error_in_bounded_time(uri: str, told: str) -> None:
    for module in ("psycopg", "confluent_kafka", "deltalake"):
        pytest.importorskip(module, reason="the extras of sinks are missing: make test-all")
    with pytest.raises(OutputError, match=told):
        make_sink(uri).open()
