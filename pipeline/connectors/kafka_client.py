"""What source and sink share of Kafka: librdkafka's properties, and its errors in plain words."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException

from models.errors import DeploymentError, InputError, LivelistError, UsageError
from pipeline.connectors.addresses import KafkaTopic

#: A question to the brokers is given up after so long.
ANSWER_SECONDS: Final = 10.0
_LOGGER: Final = logging.getLogger(__name__)

_REFUSED: Final = frozenset(
    {
        KafkaError._AUTHENTICATION,
        KafkaError._SSL,
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.UNSUPPORTED_SASL_MECHANISM,
    }
)
_ABSENT: Final = frozenset({KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC})
_OUTAGES: Final = frozenset({KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT, KafkaError._RESOLVE})


class Outage:
    """What librdkafka says of its connections, told once when they break and once when they are back."""

    def __init__(self, servers: str) -> None:
        self._servers = servers
        self._down = False
        self.refused: KafkaError | None = None  # the credentials
        self.last: KafkaError | None = None

    def note(self, error: KafkaError) -> None:
        """librdkafka's `error_cb`."""
        self.last = error
        if error.code() in _REFUSED:
            self.refused = error
        if error.code() == KafkaError._ALL_BROKERS_DOWN and not self._down:
            self._down = True
            _LOGGER.warning("no Kafka broker answers at %s; trying again until one does", self._servers)

    def over(self) -> None:
        """Something came through."""
        self.refused = None
        if self._down:
            self._down = False
            _LOGGER.warning("Kafka at %s answers again", self._servers)


def client_config(topic: KafkaTopic, outage: Outage, ours: Mapping[str, object]) -> dict[str, Any]:
    """librdkafka's properties: ours, then those of the file, then those of the URI. Raises UsageError."""
    quiet = logging.getLogger(f"{__name__}.librdkafka")
    quiet.setLevel(logging.CRITICAL)  # it repeats each failed connection; `Outage` tells it once
    return {
        "bootstrap.servers": topic.servers,
        "client.id": "livelist",
        "error_cb": outage.note,
        "logger": quiet,
        "log.connection.close": False,
        "reconnect.backoff.max.ms": 1000,
        "topic.metadata.refresh.interval.ms": 30_000,
        **ours,
        **_properties_of(topic.config_file),
        **topic.properties,
    }


def _properties_of(path: str) -> dict[str, str]:
    if not path:
        return {}
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"config={path}: cannot read it: {reason}") from None
    properties = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if not equals:
            raise UsageError(f"config={path}, line {number}: expected KEY=VALUE")  # it may hold a secret
        properties[name.strip()] = value.strip()
    return properties


def bad_property(error: Exception) -> UsageError:
    """A property that librdkafka refused."""
    reason = error.args[0].str() if isinstance(error, KafkaException) else str(error)
    return UsageError(f"Kafka property: {reason}")


def check_topic(client: Any, topic: KafkaTopic, outage: Outage) -> list[int]:
    """The partitions of the topic. Raises InputError or DeploymentError in bounded time."""
    try:
        found = client.list_topics(topic.topic, timeout=ANSWER_SECONDS)
    except KafkaException as error:
        client.poll(0)  # the callback tells why
        raise unreachable(topic, outage, error.args[0]) from None
    outage.over()
    described = found.topics.get(topic.topic)
    fault = described.error if described is not None else None
    if fault is not None and fault.code() in _REFUSED:
        raise refused(topic, fault)
    if described is None or fault is not None or not described.partitions:
        raise InputError(_absent(client, topic))
    return sorted(described.partitions)


def _absent(client: Any, topic: KafkaTopic) -> str:
    try:
        found = client.list_topics(timeout=ANSWER_SECONDS).topics
        names = [name for name in found if not name.startswith("__")]
    except KafkaException:
        names = []
    near = difflib.get_close_matches(topic.topic, names, 1, 0.7)
    hint = f"did you mean {near[0]}? else " if near else ""
    return (
        f"Kafka at {topic.servers} has no topic {topic.topic}; {hint}create it: "
        f"kafka-topics.sh --bootstrap-server {topic.servers} --create --topic {topic.topic}"
    )


def unreachable(topic: KafkaTopic, outage: Outage, error: KafkaError) -> LivelistError:
    """Why no broker answered."""
    if outage.refused is not None:
        return refused(topic, outage.refused)
    if error.code() in _REFUSED:
        return refused(topic, error)
    last = f" ({outage.last.str()})" if outage.last is not None and outage.last.code() in _OUTAGES else ""
    return InputError(
        f"no Kafka broker answered at {topic.servers} within {ANSWER_SECONDS:g} s{last}; start it, or "
        "correct the address; where it wants TLS or a password, add config=FILE"
    )


def refused(topic: KafkaTopic, error: KafkaError) -> DeploymentError:
    """The broker did not accept who we are, or what we may do; or we not who it is."""
    if error.code() == KafkaError._SSL:
        return DeploymentError(
            f"no TLS with Kafka at {topic.servers}: {error.str()}; put security.protocol=SSL (or SASL_SSL) "
            "and ssl.ca.location, the file of the authority that signed the broker's certificate, into a "
            "file, and add config=FILE"
        )
    return DeploymentError(
        f"Kafka at {topic.servers} refused access to {topic.topic}: {error.str()}; put security.protocol, "
        "sasl.mechanism, sasl.username and sasl.password of a user who may read it into a file, and add "
        "config=FILE"
    )


def check_message_error(topic: KafkaTopic, error: KafkaError) -> None:
    """Raises for what will not go away by itself; logs the rest."""
    if error.code() in _REFUSED:
        raise refused(topic, error)
    if error.code() in _ABSENT:
        raise InputError(f"the topic {topic.topic} is no longer at Kafka {topic.servers}; was it deleted?")
    if error.fatal():
        raise InputError(f"Kafka at {topic.servers}: {error.str()}")
    _LOGGER.info("Kafka at %s: %s", topic.servers, error.str())
