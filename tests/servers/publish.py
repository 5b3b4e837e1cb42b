"""Lines of standard input to a topic: `python -m tests.servers.publish URI < events.jsonl`.

URI is kafka://HOST:PORT/TOPIC or pubsub://PROJECT/topics/TOPIC.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

from models.errors import UsageError
from pipeline.connectors.addresses import KafkaTopic, PubsubTopic
from pipeline.connectors.uris import parse_sink

_SECONDS = 60.0


def publish(uri: str, lines: Iterable[bytes]) -> int:
    """Returns how many were taken. Raises UsageError for what is no topic, RuntimeError where one was not."""
    address = parse_sink(uri)
    if isinstance(address, KafkaTopic):
        return _to_kafka(address, lines)
    if isinstance(address, PubsubTopic):
        return _to_pubsub(address, lines)
    raise UsageError(f"expected kafka://HOST:PORT/TOPIC or pubsub://PROJECT/topics/TOPIC, got {uri}")


def _to_kafka(topic: KafkaTopic, lines: Iterable[bytes]) -> int:
    from confluent_kafka import KafkaError, Message, Producer

    refused: list[str] = []

    def told(error: KafkaError | None, message: Message) -> None:
        if error is not None:
            refused.append(error.str())

    producer = Producer({"bootstrap.servers": topic.servers, "queue.buffering.max.messages": 1_000_000})
    sent = 0
    for line in lines:
        producer.produce(topic.topic, line, on_delivery=told)
        sent += 1
    if left := producer.flush(_SECONDS):
        raise RuntimeError(f"{topic.servers} did not take {left} of {sent} messages in {_SECONDS:g} s")
    if refused:
        raise RuntimeError(f"{topic.servers} refused {len(refused)} of {sent} messages: {refused[0]}")
    return sent


def _to_pubsub(topic: PubsubTopic, lines: Iterable[bytes]) -> int:
    from google.cloud import pubsub_v1

    with pubsub_v1.PublisherClient() as publisher:
        path = publisher.topic_path(topic.project, topic.topic)
        sent = [publisher.publish(path, line) for line in lines]
        for taken in sent:
            taken.result(_SECONDS)
    return len(sent)


def main() -> None:
    """Says how many were sent."""
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    count = publish(sys.argv[1], (line.rstrip(b"\n") for line in sys.stdin.buffer))
    print(f"{count} messages sent")


if __name__ == "__main__":
    main()
