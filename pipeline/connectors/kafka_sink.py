"""KafkaSink: lists to a topic keyed by user, fit for compaction; other tables to topics beside it."""

from __future__ import annotations

import time
from typing import Any, Final

import pyarrow as pa
from confluent_kafka import KafkaError, KafkaException, Producer

from models.errors import LivelistError, OutputError
from pipeline.connectors.addresses import KafkaTopic
from pipeline.connectors.kafka_client import Outage, bad_property, check_topic, client_config
from pipeline.connectors.list_messages import Delivered, RowMessage, messages_of
from pipeline.connectors.retrying import RefusedRowsError, try_again

#: Errors that no second attempt cures.
_TOO_LONG: Final = frozenset({KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_RECORD})
_IN_FLIGHT: Final = 10_000


class _NotDelivered(Exception):
    """Some messages did not arrive; sending them again may help."""


class KafkaSink:
    """A `TableSink`. Each message is acknowledged by all in-sync replicas, and is on the log once.

    A message that is tried again by a later call may stand there twice: its version tells.
    """

    def __init__(self, topic: KafkaTopic) -> None:
        self._topic = topic
        self._where = f"Kafka {topic.servers}/{topic.topic}"
        self._outage = Outage(topic.servers)
        self._delivered = Delivered()
        self._producer: Any = None

    def open(self) -> None:
        """Connects, and checks that the topics are there."""
        wait = int(self._topic.timeout_seconds * 500)
        ours = {
            "enable.idempotence": True,
            "compression.type": "zstd",
            "linger.ms": 5,
            "delivery.timeout.ms": max(wait, 2000),
            "request.timeout.ms": min(max(wait // 2, 1000), 30_000),
            "queue.buffering.max.messages": 2 * _IN_FLIGHT,
        }
        try:
            producer = Producer(client_config(self._topic, self._outage, ours))
        except (KafkaException, ValueError, TypeError) as error:
            raise bad_property(error) from None
        try:
            for table in self._topic.tables:
                check_topic(producer, self._of(table), self._outage)
        except LivelistError as error:
            raise OutputError(str(error)) from None
        self._producer = producer

    def write(self, table: str, rows: pa.Table) -> None:
        """Returns when the brokers have acknowledged every row."""
        if table not in self._topic.tables:
            return
        left = [message for message in messages_of(table, rows) if self._delivered.is_news(message)]
        try_again(
            lambda: self._send(self._of(table).topic, left),
            (_NotDelivered,),
            self._topic.timeout_seconds,
            f"{self._where}: {table} cannot be sent",
        )

    def close(self) -> None:
        """Nothing is on its way: `write` waits."""
        self._producer = None

    def _of(self, table: str) -> KafkaTopic:
        name = self._topic.topic if table == "recommendations" else f"{self._topic.topic}.{table}"
        return KafkaTopic(self._topic.servers, name)

    def _send(self, topic: str, left: list[RowMessage]) -> None:
        """Sends and takes out of `left` what arrived."""
        attempt = _Attempt(left)
        for start in range(0, len(left), _IN_FLIGHT):
            for place in range(start, min(start + _IN_FLIGHT, len(left))):
                self._produce(topic, attempt, place)
            self._await(attempt)
        for message in attempt.arrived:
            self._delivered.note(message)
        left[:] = attempt.missing()
        if attempt.refused is not None:
            raise RefusedRowsError(f"{self._where}: {attempt.refused.str()}; raise its max.message.bytes")
        if left:
            reason = attempt.error.str() if attempt.error is not None else "no answer"
            raise _NotDelivered(f"{len(left)} messages did not arrive: {reason}")
        self._outage.over()

    def _produce(self, topic: str, attempt: _Attempt, place: int) -> None:
        message = attempt.messages[place]
        headers = [("tombstone", b"true")] if message.tombstone else []
        if message.version is not None:
            headers.append(("state_version", str(message.version).encode()))
        try:
            self._producer.produce(
                topic,
                None if message.tombstone else message.payload,
                message.key.encode("utf-8", "replace"),
                headers=headers,
                on_delivery=lambda error, _: attempt.told(place, error),
            )
        except KafkaException as error:
            attempt.told(place, error.args[0])

    def _await(self, attempt: _Attempt) -> None:
        deadline = time.monotonic() + self._topic.timeout_seconds
        while self._producer.flush(1.0) and time.monotonic() < deadline:
            pass


class _Attempt:
    """What became of each message."""

    def __init__(self, messages: list[RowMessage]) -> None:
        self.messages = list(messages)
        self.arrived: list[RowMessage] = []
        self.error: KafkaError | None = None
        self.refused: KafkaError | None = None
        self._there: set[int] = set()

    def told(self, place: int, error: KafkaError | None) -> None:
        if error is None:
            self._there.add(place)
            self.arrived.append(self.messages[place])
        elif error.code() in _TOO_LONG:
            self.refused = error
        else:
            self.error = error

    def missing(self) -> list[RowMessage]:
        return [message for place, message in enumerate(self.messages) if place not in self._there]
