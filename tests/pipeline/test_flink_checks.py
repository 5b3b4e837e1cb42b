"""A job on Flink whose service is absent or not theirs is refused when it is submitted: without a cluster."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from models.errors import UsageError
from pipeline.cli.main import main
from tests.flink.test_cluster import settings_in
from tests.pipeline.connectors.services import Channel, PubsubChannel, opened, quiet
from tests.servers.processes import free_port

#: No answer takes longer than this, however busy the machine.
_BOUND = 120.0
Refused = Callable[..., tuple[int, str]]


@pytest.fixture
def refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Refused:
    """Submits a job that cannot start; gives the exit code and the last line."""
    settings_in(tmp_path / "cluster").root.mkdir()
    settings_in(tmp_path / "cluster").save()

    def told(source: str, *more: str) -> tuple[int, str]:
        flags = ["--cluster", str(tmp_path / "cluster"), "--model", "none", "--output", str(tmp_path / "out")]
        began = time.monotonic()
        code = main(["flink", "submit", *flags, "--input", source, *more])
        assert time.monotonic() - began < _BOUND
        return code, capsys.readouterr().err.splitlines()[-1]

    return told


@pytest.mark.java
def test_what_is_read_has_to_be_there(channel: Channel, refused: Refused) -> None:
    code, line = refused(channel.absent)
    assert code == 3
    assert "did you mean feedback-" in line


@pytest.mark.java
def test_looking_takes_nothing_from_what_is_read(channel: Channel, refused: Refused) -> None:
    channel.publish([b"one", b"two"])
    code, line = refused(channel.uri)
    assert code == UsageError.exit_code and "nobody keeps the cluster" in line, "the next thing asked for"
    source = opened(channel.uri)
    received: list[bytes] = []
    while len(received) < 2:
        received += [each.payload for each in source.poll(10, 20.0)]
    assert sorted(received) == [b"one", b"two"] and quiet(source)
    source.close()


@pytest.mark.java
def test_the_second_subscription_for_words_has_to_be_there(
    request: pytest.FixtureRequest, refused: Refused
) -> None:
    channel = request.getfixturevalue("pubsub").channel()
    code, line = refused(f"{channel.uri}?texts=feedback-no-words")
    assert code == 3
    assert "feedback-no-words" in line


@pytest.mark.java
def test_a_topic_that_is_written_has_to_be_there(channel: Channel, refused: Refused) -> None:
    nowhere = "pubsub://livelist-tests/topics/no-such-topic"
    if not isinstance(channel, PubsubChannel):
        nowhere = channel.uri.rpartition("/")[0] + "/no-such-topic"
    code, line = refused(channel.uri, "--output", nowhere)
    assert code == 4
    assert "no-such-topic" in line and "create it" in line


@pytest.mark.cloud
@pytest.mark.parametrize("uri", ["kafka://127.0.0.1:{}/t?group=g", "pubsub://livelist-tests/sub-1"])
def test_a_service_that_does_not_answer_is_told_and_passed_over_when_that_is_asked_for(
    uri: str, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("confluent_kafka", reason="the kafka extra is missing")
    pytest.importorskip("google.cloud.pubsub_v1", reason="the gcp extra is missing")
    port = free_port()
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", f"127.0.0.1:{port}")
    code, line = refused(uri.format(port))
    assert code == 3
    assert str(port) in line and "start it" in line
    code, line = refused(uri.format(port), "--no_check")
    assert code == UsageError.exit_code
    assert "nobody keeps the cluster" in line


@pytest.mark.postgres
def test_a_database_that_is_written_has_to_be_there_and_let_us_in(
    postgres: str, tmp_path: Path, refused: Refused
) -> None:
    (tmp_path / "in").mkdir()
    server, _, _ = postgres.rpartition("/")
    code, line = refused(str(tmp_path / "in"), "--output", f"{server}/no_such_database")
    assert code == 4
    assert "no_such_database" in line
    code, line = refused(str(tmp_path / "in"), "--output", f"postgresql://127.0.0.1:{free_port()}/livelist")
    assert code == 4
    assert "127.0.0.1" in line


@pytest.mark.java
def test_a_password_that_kafka_refuses_is_told_and_not_shown(tmp_path: Path, refused: Refused) -> None:
    pytest.importorskip("confluent_kafka", reason="the kafka extra is missing: make test-all")
    from tests.pipeline.live.test_bad_services import write_properties
    from tests.servers.kafka import ASKS_PASSWORD, PASSWORD, kafka_server, why_not

    if reason := why_not():
        pytest.skip(reason)
    config = tmp_path / "client.properties"
    with kafka_server(ASKS_PASSWORD, PASSWORD) as server:
        server.create_topic("feedback")
        write_properties(config, PASSWORD | {"sasl.password": "wrong1234"})
        code, line = refused(f"kafka://{server.address}/feedback?group=g&config={config}")
    assert code == 5
    assert "refused access" in line
    assert "wrong1234" not in line
