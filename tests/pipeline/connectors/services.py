"""What the contract suites do with a service beside the connector under test. Clients are imported late."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from pipeline.connectors.base import PullSource, Received
from pipeline.connectors.registry import make_source

if TYPE_CHECKING:
    from tests.servers.kafka import KafkaServer
    from tests.servers.pubsub import PubsubServer

_names = itertools.count(1)


class Channel(Protocol):
    """A fresh topic and who reads it."""

    uri: str
    absent: str  # a URI that differs from it by a letter

    def publish(self, payloads: Sequence[bytes]) -> None: ...

    def restart(self) -> None:
        """The service goes and comes back; what it keeps on no disk is gone."""


class KafkaService:
    """Topics of one broker."""

    def __init__(self, server: KafkaServer) -> None:
        self.server = server

    def channel(self, partitions: int = 2) -> KafkaChannel:
        return KafkaChannel(self.server, partitions)


class KafkaChannel:
    """A topic with a consumer group."""

    def __init__(self, server: KafkaServer, partitions: int) -> None:
        from confluent_kafka import Producer

        self.server = server
        self.topic = f"feedback-{next(_names)}"
        server.create_topic(self.topic, partitions)
        self.uri = f"kafka://{server.address}/{self.topic}?group=livelist"
        self.absent = f"kafka://{server.address}/{self.topic}x?group=livelist"
        self._producer = Producer({"bootstrap.servers": server.address, "log_level": 0})

    def publish(self, payloads: Sequence[bytes]) -> None:
        for number, payload in enumerate(payloads):
            self._producer.produce(self.topic, payload, key=str(number % 7))
        assert self._producer.flush(30) == 0

    def restart(self) -> None:
        self.server.stop()
        self.server.start()


class PubsubService:
    """Topics of one Pub/Sub."""

    project = "livelist-tests"

    def __init__(self, server: PubsubServer) -> None:
        self.server = server

    def channel(self) -> PubsubChannel:
        return PubsubChannel(self.server, self.project)


class PubsubChannel:
    """A topic with a subscription."""

    def __init__(self, server: PubsubServer, project: str) -> None:
        self.server = server
        self._project = project
        self._name = f"feedback-{next(_names)}"
        self.uri = f"pubsub://{project}/{self._name}-sub"
        self.absent = f"pubsub://{project}/{self._name}-subx"
        self._create()

    def publish(self, payloads: Sequence[bytes]) -> None:
        from google.cloud import pubsub_v1

        with pubsub_v1.PublisherClient() as publisher:
            path = publisher.topic_path(self._project, self._name)
            for sent in [publisher.publish(path, payload) for payload in payloads]:
                sent.result(30)

    def restart(self) -> None:
        self.server.kill()
        self.server.start()
        self._create()

    def subscribe(self, name: str) -> str:
        """Another subscription to the topic; returns what it is called."""
        from tests.servers.pubsub import create_subscription

        create_subscription(self._project, self._name, f"{self._name}-{name}")
        return f"{self._name}-{name}"

    def _create(self) -> None:
        from tests.servers.pubsub import create_subscription

        create_subscription(self._project, self._name, f"{self._name}-sub")


def opened(uri: str, **resume: Any) -> PullSource:
    """The source behind a URI, connected."""
    source = make_source(uri)
    source.open(**resume)
    return source


def polled(source: PullSource, count: int, seconds: float = 30.0) -> list[Received]:
    """Polls until so many came; fails when they do not come in time."""
    received: list[Received] = []
    deadline = time.monotonic() + seconds
    while len(received) < count:
        assert time.monotonic() < deadline, f"{len(received)} of {count} messages came in {seconds:g} s"
        received += source.poll(count - len(received), 0.5)
    return received


def quiet(source: PullSource, seconds: float = 3.0) -> bool:
    """Whether nothing comes for so long."""
    return not source.poll(1, seconds)


def delete(channel: Channel) -> None:
    """What is read is gone: the topic, or the subscription."""
    if isinstance(channel, KafkaChannel):
        channel.server.delete_topic(channel.topic)
        return
    from google.cloud import pubsub_v1

    project, name = channel.uri.removeprefix("pubsub://").split("/")
    with pubsub_v1.SubscriberClient() as client:
        client.delete_subscription(subscription=client.subscription_path(project, name))
