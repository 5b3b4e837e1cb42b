"""One Kafka broker (KRaft) from its Maven jars, on loopback: `python -m tests.servers.kafka TOPIC`."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

from tests.servers.processes import (
    CACHE,
    Process,
    ServerMissing,
    free_port,
    running,
    serve_until_interrupted,
    wait_until,
)

_POM: Final = Path(__file__).with_name("kafka-pom.xml")
_JARS: Final = CACHE / "kafka-4.1.0"
_CLUSTER_ID: Final = "4L6g3nShT-eMCtK--X86sw"
#: One small broker starts sooner on the first compiler alone.
_JAVA: Final = ("java", "-Xmx320m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", f"{_JARS}/*")

#: Properties of a broker that asks its clients for a password, and those of a client that knows it.
ASKS_PASSWORD: Final = {
    "inter.broker.listener.name": "PLAINTEXT",
    "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:SASL_PLAINTEXT",
    "sasl.enabled.mechanisms": "PLAIN",
    "sasl.mechanism.inter.broker.protocol": "PLAIN",
    "listener.name.plaintext.plain.sasl.jaas.config": (
        "org.apache.kafka.common.security.plain.PlainLoginModule required "
        'username="admin" password="right1234" user_admin="right1234";'
    ),
}
PASSWORD: Final = {
    "security.protocol": "SASL_PLAINTEXT",
    "sasl.mechanism": "PLAIN",
    "sasl.username": "admin",
    "sasl.password": "right1234",
}


class KafkaServer:
    """A broker whose data survive `stop` and `kill`; `start` brings it back on the same port."""

    def __init__(
        self,
        folder: Path,
        properties: Mapping[str, str] | None = None,
        client: Mapping[str, str] | None = None,
    ) -> None:
        """`client` are properties that its clients need, where it asks who they are."""
        fetch_jars()
        self._client = client or {}
        self._folder = folder
        self._properties = folder / "server.properties"
        self.address = f"127.0.0.1:{free_port()}"
        self._process: Process | None = None
        self._format(properties or {})

    def start(self) -> None:
        """Returns when it answers."""
        self._process = Process([*_JAVA, "kafka.Kafka", str(self._properties)], self._folder / "broker.log")
        wait_until(self._answers, 240, "the Kafka broker", self._process)

    def stop(self) -> None:
        """As an operator stops it."""
        if self._process is not None:
            self._process.stop()

    def kill(self) -> None:
        """As a power cut stops it."""
        if self._process is not None:
            self._process.kill()

    def create_topic(self, name: str, partitions: int = 1, config: Mapping[str, str] | None = None) -> None:
        """Returns when the topic has leaders."""
        admin = self._admin()
        admin.create_topics([NewTopic(name, partitions, 1, config=dict(config or {}))])[name].result(20)
        wait_until(lambda: name in admin.list_topics(timeout=5).topics, 20, f"the topic {name}")

    def add_partitions(self, name: str, total: int) -> None:
        """Returns when the topic has so many."""
        admin = self._admin()
        admin.create_partitions([NewPartitions(name, total)])[name].result(20)
        wait_until(
            lambda: len(admin.list_topics(name, timeout=5).topics[name].partitions) == total,
            20,
            f"the partitions of {name}",
        )

    def delete_topic(self, name: str) -> None:
        """Returns when it is gone."""
        admin = self._admin()
        admin.delete_topics([name])[name].result(20)
        wait_until(lambda: name not in admin.list_topics(timeout=5).topics, 20, f"the end of {name}")

    def _admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self.address, "log_level": 0, **self._client})

    def _answers(self) -> bool:
        try:
            return bool(self._admin().list_topics(timeout=1).brokers)
        except Exception:
            return False

    def _format(self, properties: Mapping[str, str]) -> None:
        controller = f"127.0.0.1:{free_port()}"
        settings = {
            "process.roles": "broker,controller",
            "log.retention.check.interval.ms": "5000",
            "node.id": "1",
            "controller.quorum.voters": f"1@{controller}",
            "controller.listener.names": "CONTROLLER",
            "listeners": f"PLAINTEXT://{self.address},CONTROLLER://{controller}",
            "advertised.listeners": f"PLAINTEXT://{self.address}",
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
            "log.dirs": str(self._folder / "data"),
            "offsets.topic.num.partitions": "1",
            "offsets.topic.replication.factor": "1",
            "transaction.state.log.num.partitions": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "group.initial.rebalance.delay.ms": "0",
            "auto.create.topics.enable": "false",
            **properties,
        }
        self._properties.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        tool = ["kafka.tools.StorageTool", "format", "-t", _CLUSTER_ID, "-c", str(self._properties)]
        done = subprocess.run([*_JAVA, *tool], capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"the broker's storage: {done.stdout[-500:]}{done.stderr[-500:]}")


def why_not() -> str:
    """What this machine lacks to run a broker; empty where it can."""
    if not shutil.which("java"):
        return "Java is missing (apt-get install default-jre-headless)"
    if not _JARS.exists() and not shutil.which("mvn"):
        return "Maven is missing (apt-get install maven)"
    return ""


def fetch_jars() -> Path:
    """The folder of the broker's jars, fetched with Maven at the first call. Raises ServerMissing."""
    if _JARS.exists():
        return _JARS
    if reason := why_not():
        raise ServerMissing(reason)
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as partial:
        jars = Path(partial, "jars")
        goal = ["dependency:copy-dependencies", f"-DoutputDirectory={jars}"]
        copy = ["mvn", "-q", "-B", "-f", str(_POM), *goal]
        done = subprocess.run(copy, capture_output=True, text=True, timeout=600, check=False)
        if done.returncode:
            raise ServerMissing(f"Maven could not fetch Kafka: {(done.stdout + done.stderr)[-400:]}")
        if not _JARS.exists():  # another process may have been quicker
            jars.rename(_JARS)
    return _JARS


@contextmanager
def kafka_server(
    properties: Mapping[str, str] | None = None, client: Mapping[str, str] | None = None
) -> Iterator[KafkaServer]:
    """A broker that answers, and is gone afterwards."""
    with running(lambda folder: KafkaServer(folder, properties, client), "kafka") as server:
        yield server


def main() -> None:
    """Runs until interrupted; the first line says where. Arguments: topics to create, NAME[:PARTITIONS]."""
    with kafka_server() as server:
        for topic in sys.argv[1:]:
            name, _, partitions = topic.partition(":")
            server.create_topic(name, int(partitions or 1))
        serve_until_interrupted(server.address)


if __name__ == "__main__":
    main()
