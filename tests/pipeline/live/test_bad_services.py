"""Endless runs whose service is absent, not theirs, or gives what nobody can take: errors, dead letters."""

from __future__ import annotations

import json
import random
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from models.errors import InputError
from models.records import Reason
from pipeline.cli.main import main
from pipeline.connectors.feeder import SinkFeeder
from pipeline.connectors.registry import make_sink
from pipeline.inputs.reading import InputFormat
from tests.oracle import assert_books_close
from tests.pipeline.connectors.lists import current, made_list
from tests.pipeline.connectors.services import (
    Channel,
    PubsubChannel,
    delete,
    opened,
    quiet,
)
from tests.pipeline.connectors.targets import KafkaTarget, PubsubTarget, Target
from tests.pipeline.connectors.test_feeder import leave
from tests.pipeline.live.feedback_log import shop_log, table
from tests.pipeline.live.runs import await_that, has_read, live_run, pinned
from tests.servers.processes import free_port

pytestmark = pytest.mark.java
#: No answer takes longer than this, however busy the machine.
_BOUND = 120.0


def told(capsys: pytest.CaptureFixture[str], output: Path, source: str, *sinks: str) -> tuple[int, str]:
    """The exit code and the last line of a run that cannot start."""
    outputs = [part for sink in sinks for part in ("--output", sink)]
    flags = ["--model", "none", "--reindex_every_seconds", "0", "--run_for_seconds", "300"]
    began = time.monotonic()
    code = main(["run", "--streaming", "--input", source, "--output", str(output), *outputs, *flags])
    assert time.monotonic() - began < _BOUND
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("livelist: ")]
    return code, lines[-1]


def test_a_run_on_what_does_not_exist_ends_with_what_is_meant_perhaps(
    channel: Channel, learned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pinned(learned, tmp_path / "out")
    code, line = told(capsys, tmp_path / "out", channel.absent)
    assert code == 3
    assert "did you mean feedback-" in line


def test_a_run_into_a_topic_that_does_not_exist_ends_before_it_reads_anything(
    channel: Channel, learned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pinned(learned, tmp_path / "out")
    nowhere = "pubsub://livelist-tests/topics/no-such-topic"
    if not isinstance(channel, PubsubChannel):
        nowhere = channel.uri.rpartition("/")[0] + "/no-such-topic"
    channel.publish([b"{}"])
    code, line = told(capsys, tmp_path / "out", channel.uri, nowhere)
    assert code == 4
    assert "no-such-topic" in line
    assert "create it" in line


@pytest.mark.parametrize("uri", ["kafka://127.0.0.1:{}/t?group=g", "pubsub://livelist-tests/sub-1"])
def test_a_run_on_a_service_that_is_not_there_ends(
    uri: str,
    learned: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("confluent_kafka", reason="the kafka extra is missing: make test-all")
    pytest.importorskip("google.cloud.pubsub_v1", reason="the gcp extra is missing: make test-all")
    port = free_port()
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", f"127.0.0.1:{port}")
    pinned(learned, tmp_path / "out")
    code, line = told(capsys, tmp_path / "out", uri.format(port))
    assert code == 3
    assert str(port) in line
    assert "start it" in line


@pytest.mark.parametrize("content", [None, "{}", "not json"])
def test_credentials_that_are_none_are_told_with_what_to_do(
    content: str | None,
    learned: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("google.cloud.pubsub_v1", reason="the gcp extra is missing: make test-all")
    key = tmp_path / "key.json"
    if content is not None:
        key.write_text(content)
    monkeypatch.delenv("PUBSUB_EMULATOR_HOST", raising=False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(key))
    pinned(learned, tmp_path / "out")
    code, line = told(capsys, tmp_path / "out", "pubsub://livelist-tests/sub-1")
    assert code == 5
    assert "gcloud auth application-default login" in line


def test_a_password_that_kafka_refuses_is_told_and_not_shown(
    learned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("confluent_kafka", reason="the kafka extra is missing: make test-all")
    from tests.servers.kafka import ASKS_PASSWORD, PASSWORD, kafka_server, why_not

    if reason := why_not():
        pytest.skip(reason)
    pinned(learned, tmp_path / "out")
    config = tmp_path / "client.properties"
    with kafka_server(ASKS_PASSWORD, PASSWORD) as server:
        server.create_topic("feedback")
        uri = f"kafka://{server.address}/feedback?group=g&config={config}"
        write_properties(config, PASSWORD)
        opened(uri).close()
        write_properties(config, PASSWORD | {"sasl.password": "wrong1234"})
        code, line = told(capsys, tmp_path / "out", uri)
    assert code == 5
    assert "refused access" in line
    assert "wrong1234" not in line


def test_a_broker_that_speaks_tls_is_read_and_one_that_another_signed_for_is_refused(
    learned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("confluent_kafka", reason="the kafka extra is missing: make test-all")
    from tests.servers.kafka import kafka_server, why_not

    if reason := why_not():
        pytest.skip(reason)
    store, authority = signed(tmp_path / "broker")
    _, stranger = signed(tmp_path / "stranger")
    asks = {
        "inter.broker.listener.name": "PLAINTEXT",
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:SSL",
        "ssl.keystore.type": "PKCS12",
        "ssl.keystore.location": str(store),
        "ssl.keystore.password": "keystore",
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(authority),
    }
    right = {"security.protocol": "SSL", "ssl.ca.location": str(authority)}
    pinned(learned, tmp_path / "out")
    config = tmp_path / "client.properties"
    with kafka_server(asks, right) as server:
        server.create_topic("feedback")
        uri = f"kafka://{server.address}/feedback?group=g&config={config}"
        write_properties(config, right)
        opened(uri).close()
        write_properties(config, right | {"ssl.ca.location": str(stranger)})
        code, line = told(capsys, tmp_path / "out", uri)
        assert code == 5
        assert "no TLS with Kafka" in line
        assert "ssl.ca.location" in line
        write_properties(config, {"security.protocol": "PLAINTEXT"})
        code, line = told(capsys, tmp_path / "out", uri)
    assert code == 3
    assert "where it wants TLS" in line


def signed(folder: Path) -> tuple[Path, Path]:
    """A key of 127.0.0.1 with the certificate that it signed itself: the key store, and the certificate."""
    folder.mkdir()
    store, certificate = folder / "store.p12", folder / "certificate.pem"
    tool = [
        "keytool",
        "-keystore",
        str(store),
        "-storetype",
        "PKCS12",
        "-storepass",
        "keystore",
        "-alias",
        "b",
    ]
    name = ["-dname", "CN=localhost", "-ext", "san=ip:127.0.0.1", "-ext", "bc:c=ca:true"]
    made = ["-genkeypair", "-keyalg", "RSA", "-validity", "2", *name]
    for what in (made, ["-exportcert", "-rfc", "-file", str(certificate)]):
        subprocess.run([*tool, *what], check=True, capture_output=True)
    return store, certificate


def write_properties(path: Path, properties: dict[str, str]) -> None:
    path.write_text("".join(f"{name}={value}\n" for name, value in properties.items()))


def test_a_subscription_that_is_deleted_under_a_run_ends_it_with_the_reason(
    channel: Channel, learned: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    pinned(learned, output)
    channel.publish([json.dumps(event).encode() for event in shop_log()])
    with (
        pytest.raises(InputError, match=r"no longer|has no subscription"),
        live_run(channel.uri, output, reindex_every_seconds=0) as (state, _),
    ):
        await_that(lambda: has_read(state, 143), _BOUND)
        delete(channel)
        await_that(state.stop.is_set, _BOUND)


def test_a_message_over_the_limit_and_poison_are_dead_letters_that_never_come_again(
    channel: Channel, learned: Path, tmp_path: Path
) -> None:
    output, form = tmp_path / "out", replace(InputFormat(), max_record_bytes=50_000)
    pinned(learned, output)
    events = [json.dumps(event).encode() for event in shop_log()]
    poison = [b"\xff\x00", b"[]", b'{"event_id": 1', b'{"text": "' + b"x" * 60_000 + b'"}']
    channel.publish([*events, *poison])
    with live_run(channel.uri, output, reindex_every_seconds=0, form=form) as (state, _):
        await_that(lambda: has_read(state, len(events) + 4), _BOUND)
    codes = sorted(row["error_code"] for row in table(output, "dead_letters"))
    assert len(codes) == 4
    assert "too_long" in codes
    assert_books_close(output, len(events) + 4)
    left = opened(channel.uri)
    assert quiet(left)
    left.close()


@pytest.mark.parametrize("kind", ["kafka", "pubsub"])
def test_a_list_over_the_brokers_limit_is_set_aside_and_holds_up_no_other(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    service = request.getfixturevalue(kind)
    target: Target = KafkaTarget(service) if kind == "kafka" else PubsubTarget(service)
    chance = random.Random(2)  # words that do not compress
    long = Reason("liked", ("e1",), 0.5, chance.randbytes(500_000 if kind == "kafka" else 5_300_000).hex())
    huge = made_list("huge", 1, items=1)
    huge = replace(huge, items=(replace(huge.items[0], reasons=(long,)),))
    lists = [made_list("a", 1), huge, made_list("b", 1)]
    with SinkFeeder("sink", tmp_path / "out", make_sink(target.uri)) as feeder:
        leave(tmp_path / "out", 1, *lists)
        feeder.drain(60)
    assert target.current() == current([lists[0], lists[2]])
    assert feeder.counts.refused == 1
    assert len(list((tmp_path / "out" / "refused").glob("*.parquet"))) == 1
