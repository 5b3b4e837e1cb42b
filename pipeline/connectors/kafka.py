"""KafkaSource: a topic pulled with a consumer group, or by assigned partitions; offsets committed by us."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_END,
    OFFSET_STORED,
    TIMESTAMP_NOT_AVAILABLE,
    Consumer,
    KafkaException,
    Message,
    TopicPartition,
)

from models.errors import InputError, LivelistError
from models.records import Micros
from pipeline.connectors.addresses import KafkaTopic
from pipeline.connectors.base import Received
from pipeline.connectors.kafka_client import (
    ANSWER_SECONDS,
    Outage,
    bad_property,
    check_message_error,
    check_topic,
    client_config,
)
from pipeline.connectors.offsets import Progress, partition_key

_LOGGER: Final = logging.getLogger(__name__)
#: What librdkafka fetches ahead, in all.
_FETCHED_KBYTES: Final = 32 << 10
_ASK_SECONDS: Final = 1.0
#: A reader of all partitions looks for new ones this often.
_FIND_SECONDS: Final = 30.0


class KafkaSource:
    """A `PullSource` over one topic.

    Without `partitions` it joins the group, which spreads the partitions over its members; with
    them it reads those and no others, and the group only keeps the offsets. With `all_partitions` those
    are all that the topic has; partitions that it is given later are found, and read from their beginning.
    A commit moves a partition's offset up to the first message that is not committed yet, so that the
    order of commits does not matter; at most those behind it come again after a crash.
    """

    def __init__(
        self, topic: KafkaTopic, partitions: Sequence[int] | None = None, all_partitions: bool = False
    ) -> None:
        self._topic = topic
        self._given = None if partitions is None else tuple(partitions)
        self._all = all_partitions
        self._looked = 0.0  # for new partitions
        self._outage = Outage(topic.servers)
        self._resume: dict[int, int] = {}
        self._progress: dict[int, Progress] = {}
        self._consumer: Consumer | None = None

    def open(self, resume_from: Mapping[str, int] | None = None) -> None:
        """Connects. Keys of `resume_from` are positions without their offset: `kafka:TOPIC/PARTITION`."""
        consumer = _consumer(self._topic, self._outage)
        try:
            present = check_topic(consumer, self._topic, self._outage)
            self._resume = _by_partition(self._topic, resume_from or {})
            if self._all:
                _check_present(self._topic, list(self._resume), present)
                self._looked = time.monotonic()
                consumer.assign(self._starts(consumer, present))
            elif self._given is None:
                consumer.subscribe(
                    [self._topic.topic],
                    on_assign=self._on_assign,
                    on_revoke=self._on_revoke,
                    on_lost=self._on_revoke,
                )
            else:
                _check_present(self._topic, self._given, present)
                consumer.assign(self._starts(consumer, self._given))
        except BaseException:
            consumer.close()
            raise
        self._consumer = consumer

    def poll(self, max_messages: int, timeout_seconds: float) -> Sequence[Received]:
        """What has come. Raises InputError or DeploymentError where the topic or the access is gone."""
        consumer = self._open_consumer()
        if self._all and time.monotonic() - self._looked >= _FIND_SECONDS:
            self._take_up_new(consumer)
        first = consumer.poll(timeout_seconds)
        if first is None:
            return []
        rest = consumer.consume(max_messages - 1, 0) if max_messages > 1 else []
        return [received for message in (first, *rest) for received in self._received(message)]

    def commit(self, receipts: Sequence[str]) -> None:
        """Moves the group's offsets; those of partitions that others read now are left alone."""
        moved: dict[int, int] = {}
        for receipt in receipts:
            partition, _, offset = receipt.partition(":")
            progress = self._progress.get(int(partition))
            if progress is not None and progress.done(int(offset)):
                moved[int(partition)] = progress.committable
        if moved:
            self._commit(moved)

    def backlog(self) -> int | None:
        """Messages behind the last one that was polled, over the partitions that are read here."""
        consumer = self._open_consumer()
        try:
            return sum(self._lag(consumer, partition) for partition in consumer.assignment())
        except KafkaException:
            return None

    def oldest_held(self) -> Micros | None:
        """None: what is not committed stays in the topic, and the backlog counts it."""
        return None

    def close(self) -> None:
        """Leaves the group, having committed for good what was committed."""
        if self._consumer is None:
            return
        ends = {partition: progress.committable for partition, progress in self._progress.items()}
        # What it asks for here is answered before it leaves.
        self._commit({partition: end for partition, end in ends.items() if end >= 0})
        self._consumer.close()
        self._consumer = None
        self._progress = {}

    def _open_consumer(self) -> Consumer:
        if self._consumer is None:
            raise RuntimeError("open() comes first")
        return self._consumer

    def _received(self, message: Message) -> Iterable[Received]:
        if (error := message.error()) is not None:
            check_message_error(self._topic, error)
            return
        self._outage.over()
        partition, offset = message.partition(), message.offset()
        self._progress.setdefault(partition, Progress()).delivered(offset)
        kind, millis = message.timestamp()
        yield Received(
            message.value() or b"",
            f"{partition_key(self._topic.topic, partition)}:{offset:010d}",
            0 if kind == TIMESTAMP_NOT_AVAILABLE else millis * 1000,
            f"{partition}:{offset}",
        )

    def _commit(self, offsets: Mapping[int, int]) -> None:
        if not offsets or not self._topic.group:
            return
        places = [TopicPartition(self._topic.topic, partition, end) for partition, end in offsets.items()]
        try:
            self._open_consumer().commit(offsets=places, asynchronous=True)
        except KafkaException as error:
            # They stay uncommitted: at the next start what is behind them comes again.
            reason = error.args[0].str()
            _LOGGER.warning("Kafka did not take the offsets of %s: %s", self._topic.topic, reason)

    def _take_up_new(self, consumer: Consumer) -> None:
        """Reads besides what partitions the topic was given since; a broker that is away is asked later."""
        self._looked, name = time.monotonic(), self._topic.topic
        try:
            described = consumer.list_topics(name, timeout=_ASK_SECONDS).topics[name]
        except (KafkaException, KeyError):
            return
        if new := sorted(set(described.partitions) - set(self._progress)):
            _LOGGER.warning("the Kafka topic %s has new partitions, read from now on: %s", name, new)
            consumer.incremental_assign(self._starts(consumer, new, new=True))

    def _starts(
        self, consumer: Consumer, partitions: Iterable[int], new: bool = False
    ) -> list[TopicPartition]:
        """Where each partition begins: what a checkpoint says, once; else what the group has committed.

        One that is `new` begins at its beginning, whatever `start` says.
        """
        places = []
        for partition in partitions:
            offset = self._resume.pop(partition, OFFSET_STORED)
            if offset != OFFSET_STORED:
                offset = _within(consumer, self._topic, partition, offset)
            elif new:
                offset = OFFSET_BEGINNING
            elif not self._topic.group:
                offset = OFFSET_END if self._topic.start == "latest" else OFFSET_BEGINNING
            places.append(TopicPartition(self._topic.topic, partition, offset))
            self._progress[partition] = Progress()
        return places

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        consumer.incremental_assign(self._starts(consumer, [place.partition for place in partitions]))

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        for place in partitions:
            self._progress.pop(place.partition, None)
        consumer.incremental_unassign(partitions)

    def _lag(self, consumer: Consumer, place: TopicPartition) -> int:
        low, high = consumer.get_watermark_offsets(place, cached=True)
        if high < 0:
            low, high = consumer.get_watermark_offsets(place, timeout=_ASK_SECONDS)
        progress = self._progress.get(place.partition)
        read = progress.next if progress is not None and progress.next >= 0 else _committed(consumer, place)
        return max(0, high - max(low, read))


def partitions_of(topic: KafkaTopic) -> list[int]:
    """The partitions that a topic has now. Raises InputError or DeploymentError."""
    outage = Outage(topic.servers)
    consumer = _consumer(topic, outage)
    try:
        return check_topic(consumer, topic, outage)
    finally:
        consumer.close()


def unread_messages(topic: KafkaTopic, read: Mapping[str, int]) -> int | None:
    """Messages behind the offsets that were read, by partition key; None where the broker does not answer.

    One a partition is left out: it may be the mark of a transaction, which no reader is given.
    """
    outage = Outage(topic.servers)
    try:
        consumer = _consumer(topic, outage)
        try:
            return sum(_unread(consumer, topic, part, read) for part in check_topic(consumer, topic, outage))
        finally:
            consumer.close()
    except (KafkaException, LivelistError):
        return None


def _unread(consumer: Consumer, topic: KafkaTopic, partition: int, read: Mapping[str, int]) -> int:
    place = TopicPartition(topic.topic, partition)
    low, high = consumer.get_watermark_offsets(place, timeout=_ASK_SECONDS)
    offset = read.get(partition_key(topic.topic, partition))
    return max(0, high - max(low, _committed(consumer, place) if offset is None else offset) - 1)


def _consumer(topic: KafkaTopic, outage: Outage) -> Consumer:
    ours = {
        "group.id": topic.group or "livelist",  # librdkafka wants one even where it commits nothing
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": topic.start,
        "partition.assignment.strategy": "cooperative-sticky",
        "queued.max.messages.kbytes": _FETCHED_KBYTES,
        "fetch.queue.backoff.ms": 20,
        "allow.auto.create.topics": False,
        "isolation.level": "read_committed",
    }
    try:
        return Consumer(client_config(topic, outage, ours))
    except (KafkaException, ValueError, TypeError) as error:
        raise bad_property(error) from None


def _by_partition(topic: KafkaTopic, resume_from: Mapping[str, int]) -> dict[int, int]:
    prefix = partition_key(topic.topic, 0)[:-1]
    return {
        int(key.removeprefix(prefix)): offset
        for key, offset in resume_from.items()
        if key.startswith(prefix) and key.removeprefix(prefix).isdigit()
    }


def _check_present(topic: KafkaTopic, wanted: Sequence[int], present: Sequence[int]) -> None:
    missing = sorted(set(wanted) - set(present))
    if missing:
        raise InputError(
            f"the topic {topic.topic} at Kafka {topic.servers} has partitions 0 to {max(present)}, "
            f"not {missing}; was it made anew with fewer?"
        )


def _within(consumer: Consumer, topic: KafkaTopic, partition: int, offset: int) -> int:
    """`offset`, or the nearest that the broker still has; what is lost by that is said aloud."""
    place = TopicPartition(topic.topic, partition)
    try:
        low, high = consumer.get_watermark_offsets(place, timeout=ANSWER_SECONDS)
    except KafkaException:
        return offset
    if offset < low:
        _LOGGER.error(
            "%s: %d messages from offset %d on were deleted by the broker before they were read; "
            "lengthen the topic's retention.ms", partition_key(topic.topic, partition), low - offset, offset,
        )  # fmt: skip
        return int(low)
    if offset > high:
        _LOGGER.error(
            "%s ends at offset %d, and %d was read before: it was made anew; reading it from its beginning",
            partition_key(topic.topic, partition), high, offset,
        )  # fmt: skip
        return int(low)
    return offset


def _committed(consumer: Consumer, place: TopicPartition) -> int:
    (found,) = consumer.committed([TopicPartition(place.topic, place.partition)], timeout=_ASK_SECONDS)
    return max(0, int(found.offset))
