"""An endless run over a real broker that is restarted meanwhile: nothing is lost, nothing counts twice."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.ranking.index import read_pointer
from tests.oracle import assert_books_close, current_lists, expected_lists
from tests.pipeline.feedback_log import Event, run, shop_log, write_log
from tests.pipeline.live_runs import K, await_that, live_run

pytestmark = pytest.mark.java
TOPIC = "feedback"


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    kafka = pytest.importorskip("tests.servers.kafka", reason="confluent-kafka is missing")
    if reason := kafka.why_not():
        pytest.skip(reason)
    server = kafka.KafkaServer(tmp_path_factory.mktemp("broker"))
    server.start()
    server.create_topic(TOPIC, partitions=2)
    yield server
    server.kill()


def send(address: str, events: list[Event]) -> None:
    from confluent_kafka import Producer

    producer = Producer({"bootstrap.servers": address, "enable.idempotence": True})
    for event in events:
        producer.produce(TOPIC, json.dumps(event).encode(), key=event["user_id"])
    assert producer.flush(60) == 0


def test_a_broker_that_restarts_loses_no_list(broker, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    output, log = tmp_path / "out", tmp_path / "oracle.jsonl"
    events = shop_log()
    random.Random(4).shuffle(events)
    run(output, write_log(log, events), model="none")
    index = read_pointer(output)
    assert index is not None
    uri = f"kafka://{broker.address}/{TOPIC}?group=test"
    half = len(events) // 2
    with live_run(uri, output, reindex_every_seconds=0) as (state, _):
        send(broker.address, events[:half])
        await_that(lambda: state.books()["input"] == half, 120)
        broker.kill()
        broker.start()
        send(broker.address, events[half:])
        await_that(lambda: state.books()["input"] == len(events), 120)
    assert current_lists(output) == expected_lists(index, [log], K)
    assert_books_close(output, len(events))
    with live_run(uri, output, reindex_every_seconds=0) as (state, reports):
        await_that(state.caught_up.is_set)
    assert reports[0].accounting.input == len(events), "a restart read again what was committed"
