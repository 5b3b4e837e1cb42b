"""Jobs that pull from a broker: acknowledged by checkpoints, nothing lost, a sink of the workers agrees."""

from __future__ import annotations

import os
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.cluster.processes import free_port
from pipeline.cluster.settings import ClusterSettings
from pipeline.flink.submit import savepoint
from pipeline.tables.reader import read_accounting
from tests.flink.harness import (
    Scenario,
    assert_equals_oracle,
    busy_task_manager,
    cluster,
    hard_log,
    kill,
    need_flink,
)
from tests.flink.two_speeds import assert_two_speeds
from tests.flink.waiting import await_that
from tests.oracle import current_lists
from tests.pipeline.connectors.services import Channel, KafkaChannel, KafkaService, PubsubService
from tests.pipeline.live.feedback_log import shop_log
from tests.servers.postgres import PostgresServer

pytestmark = [pytest.mark.flink]
#: Beyond 60 the sink of the workers gives up, and the job restarts until it is back.
_DOWN_SECONDS = float(os.environ.get("LIVELIST_SINK_DOWN_SECONDS", "10"))


@pytest.fixture(scope="module")
def pubsub() -> Iterator[PubsubService]:
    server = pytest.importorskip("tests.servers.pubsub", reason="google-cloud-pubsub is missing")
    if reason := server.why_not():
        pytest.skip(reason)
    with server.pubsub_server() as started:
        yield PubsubService(started)


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    server = pytest.importorskip("tests.servers.postgres")
    pytest.importorskip("psycopg", reason="psycopg is missing")
    if reason := server.why_not():
        pytest.skip(reason)
    with server.postgres_server() as running:
        yield running


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, pubsub: PubsubService) -> Iterator[ClusterSettings]:
    """Its workers know the Pub/Sub server by the environment."""
    need_flink()
    with cluster(tmp_path_factory.mktemp("cluster")) as running:
        yield running


def kill_while_it_reads(scenario: Scenario) -> None:
    """First lists, a checkpoint, then a dead task manager in the middle of new messages."""
    scenario.write(0.3)
    scenario.start()
    scenario.await_rows()
    scenario.await_checkpoint()
    before = scenario.rows("recommendations")
    scenario.write(0.5)
    kill(scenario.settings, busy_task_manager(scenario.settings))
    scenario.write(0.7)
    scenario.await_checkpoint()
    scenario.await_rows(before)


def pulled(settings: ClusterSettings, folder: Path, name: str, channel: Channel, *sinks: str) -> Scenario:
    # What is no event has no position in a file to be told by.
    events = [event for event in hard_log(5) if "user_id" in event and event["event_id"] != "no-user"]
    return Scenario(settings, folder / name, name, events, {"parallelism": 2}, channel, sinks)


def test_kafka_to_postgresql_loses_nothing_to_a_kill_and_a_savepoint(
    settings: ClusterSettings, kafka: KafkaService, postgres: PostgresServer, tmp_path: Path
) -> None:
    channel = kafka.channel(partitions=3)
    scenario = pulled(settings, tmp_path, "kafka", channel, postgres.uri)
    kill_while_it_reads(scenario)
    path = savepoint(settings, scenario.name)
    sent, waiting = sizes(channel)
    scenario.write(1.0)
    scenario.start(path, parallelism=1)
    scenario.finish()
    assert_equals_oracle(scenario)
    assert in_postgres(postgres.uri) == in_tables(scenario)
    assert waiting < sent, "what a checkpoint held was committed before the savepoint"
    assert sizes(channel)[1] == 0, "what is checkpointed is committed"


def sizes(channel: KafkaChannel, group: str = "livelist") -> tuple[int, int]:
    """Messages of the topic, and those of them that the group has not committed."""
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer({"bootstrap.servers": channel.server.address, "group.id": group})
    try:
        partitions = consumer.list_topics(channel.topic, 10).topics[channel.topic].partitions
        places = consumer.committed([TopicPartition(channel.topic, part) for part in partitions], 10)
        ends = [consumer.get_watermark_offsets(place, timeout=10)[1] for place in places]
        done = sum(max(0, place.offset) for place in places)
        return sum(ends), sum(ends) - done
    finally:
        consumer.close()


def in_postgres(uri: str) -> set[tuple[str, int, str, float]]:
    """The current lists that the workers wrote."""
    import psycopg

    with psycopg.connect(uri) as connection:
        rows = connection.execute("SELECT user_id, rank, item_id, score FROM livelist.recommendations_latest")
        return {(user, rank, item, round(score, 9)) for user, rank, item, score in rows}


def in_tables(scenario: Scenario) -> set[tuple[str, int, str, float]]:
    """The same of the folder."""
    return {
        (user, rank, item, round(score, 9)) for user, rank, item, score, _ in current_lists(scenario.output)
    }


def metrics(port: int) -> list[str]:
    """The lines that the job's steward serves."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        text: str = answer.read().decode()
        return text.splitlines()


def test_a_broker_that_restarts_under_a_job_loses_and_doubles_nothing(
    settings: ClusterSettings, kafka: KafkaService, tmp_path: Path
) -> None:
    channel, port = kafka.channel(partitions=2), free_port()
    scenario = pulled(settings, tmp_path, "broker", channel)
    scenario.plan["metrics_port"] = port
    scenario.write(0.3)
    scenario.start()
    scenario.await_rows()
    scenario.await_checkpoint()
    before = scenario.rows("recommendations")
    channel.restart()
    scenario.write(0.7)
    scenario.await_rows(before)
    await_that(lambda: 'livelist_job_health{verdict="ok"} 1.0' in metrics(port), 120)
    read = f'livelist_records_total{{account="input"}} {scenario.written}'
    await_that(lambda: read in metrics(port), 120)
    channel.restart()
    scenario.write(1.0)
    scenario.finish()
    assert_equals_oracle(scenario)
    assert sizes(channel)[1] == 0


def test_postgresql_that_is_away_gets_every_list_and_the_words_are_read_by_a_group_of_their_own(
    settings: ClusterSettings, kafka: KafkaService, postgres: PostgresServer, tmp_path: Path
) -> None:
    channel = kafka.channel(partitions=2)
    scenario = pulled(settings, tmp_path, "away", channel, postgres.uri)
    scenario.options = {"model": None}
    scenario.write(0.3)
    scenario.start()
    scenario.await_rows()
    scenario.await_checkpoint()
    postgres.kill()
    scenario.write(0.6)
    time.sleep(_DOWN_SECONDS)
    postgres.start()
    scenario.write(1.0)
    scenario.await_accounted()
    scenario.finish()
    scenario.read_as_the_job()
    assert_equals_oracle(scenario)
    assert in_postgres(postgres.uri) == in_tables(scenario)
    books = read_accounting(str(scenario.output))
    # What was taken back before its words were read stays without a score.
    assert books.counts["accepted.scored"] > 50
    assert books.counts.get("accepted.unscored", 0) <= books.counts["accepted.control"]
    assert sizes(channel)[1] == 0 and sizes(channel, "livelist-texts")[1] == 0


def test_pubsub_gives_again_what_no_checkpoint_held(
    settings: ClusterSettings, pubsub: PubsubService, tmp_path: Path
) -> None:
    scenario = pulled(settings, tmp_path, "pubsub", pubsub.channel())
    kill_while_it_reads(scenario)
    scenario.write(1.0)
    scenario.await_accounted()  # what a dead worker held comes again when its lease is over
    scenario.finish()
    assert_equals_oracle(scenario)


def test_words_read_by_a_subscription_of_their_own_hold_up_no_list(
    settings: ClusterSettings, pubsub: PubsubService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel = pubsub.channel()
    channel.uri += f"?texts={channel.subscribe('texts')}"
    scenario = Scenario(settings, tmp_path / "job", "words", shop_log(), {"parallelism": 1}, channel)
    assert_two_speeds(scenario, monkeypatch)
