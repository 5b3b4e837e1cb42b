"""URIs of sources and sinks: read once, checked before anything connects.

    pubsub://PROJECT/SUBSCRIPTION[?texts=OTHER]         source
    kafka://HOST:PORT[,HOST:PORT]/TOPIC?group=G         source
    pubsub://PROJECT/topics/TOPIC                       sink
    kafka://HOST:PORT[,HOST:PORT]/TOPIC                 sink
    postgresql://[USER@]HOST[:PORT]/DATABASE            sink
    delta://FOLDER, delta+s3://BUCKET/PREFIX            sink
    bigquery://PROJECT/DATASET                          sink

Credentials come from where each client looks for them (a file, the environment); nothing here
prints one. No client is imported.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from typing import Final, NoReturn
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from models.errors import DeploymentError, UsageError
from pipeline.connectors.addresses import (
    SINK_TABLES,
    STREAM_TABLES,
    BigQueryDataset,
    DeltaFolder,
    KafkaTopic,
    PostgresDatabase,
    PubsubSubscription,
    PubsubTopic,
    SinkAddress,
    SourceAddress,
)

SOURCE_SCHEMES: Final = ("pubsub", "kafka")
SINK_SCHEMES: Final = ("pubsub", "kafka", "postgresql", "delta", "bigquery")

#: Scheme -> (livelist's extra, the module that shows that it is installed).
_EXTRAS: Final = {
    "pubsub": ("gcp", "google.cloud.pubsub_v1"),
    "kafka": ("kafka", "confluent_kafka"),
    "postgresql": ("postgres", "psycopg"),
    "delta": ("delta", "deltalake"),
    "bigquery": ("gcp", "google.cloud.bigquery"),
}
#: Other spellings, and the stores behind Delta tables.
_ALIASES: Final = {"postgres": "postgresql", "delta+s3": "delta", "delta+gs": "delta", "delta+az": "delta"}
#: Schemes that Beam's file systems read.
_FILES: Final = frozenset({"s3", "gs", "azfs", "hdfs", "http", "https", "file"})

_SECRET: Final = re.compile(r"(?i)password|passphrase|secret|token|key\.pem|jaas")
_PROJECT: Final = re.compile(r"(?:[a-z0-9.-]+:)?[a-z][a-z0-9-]{4,28}[a-z0-9]")
_PUBSUB_NAME: Final = re.compile(r"(?!goog)[A-Za-z][A-Za-z0-9._~+%-]{2,254}")
_KAFKA_NAME: Final = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,249}")
#: Parameters of a Kafka topic that is read, and of one that is written to.
_KAFKA_SOURCE: Final = ("group", "start")
_KAFKA_SINK: Final = ("tables", "timeout_seconds")
_DATASET: Final = re.compile(r"[A-Za-z0-9_]{1,1024}")
_SQL_NAME: Final = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_HOST_PORT: Final = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):(?P<port>\d{1,5})")
_NUMBER: Final = re.compile(r"\d{1,12}(?:\.\d{1,6})?")


def is_connector(text: str) -> bool:
    """Whether an --input or --output means a service of this package, misspelt ones included."""
    scheme = _scheme(text)
    return bool(scheme) and scheme not in _FILES and bool(_nearest(scheme, (*_EXTRAS, *_ALIASES)))


def parse_source(text: str) -> SourceAddress:
    """The address of a source. Raises UsageError with what was expected and the nearest name."""
    if _known_scheme(text, SOURCE_SCHEMES, "--input") == "pubsub":
        return _subscription(text)
    topic = _kafka(text, sink=False)
    if not topic.group:
        raise UsageError(
            f"{redacted(text)}: a Kafka source needs a consumer group, whose offsets say how far it has "
            "read; add ?group=NAME"
        )
    return topic


def parse_sink(text: str) -> SinkAddress:
    """The address of a sink. Raises UsageError with what was expected and the nearest name."""
    readers: dict[str, Callable[[str], SinkAddress]] = {
        "pubsub": _pubsub_topic,
        "kafka": lambda text: _kafka(text, sink=True),
        "postgresql": _postgres,
        "delta": _delta,
        "bigquery": _bigquery,
    }
    return readers[_known_scheme(text, SINK_SCHEMES, "--output")](text)


def refuse_endless_input(text: str) -> NoReturn:
    """Raises UsageError: for a source, that it is none where files are read to their end; else what it is."""
    _known_scheme(text, SOURCE_SCHEMES, "--input")
    raise UsageError(f"{redacted(text)} never ends: pass it as --input of `livelist run --streaming`")


def refuse_texts_of(uris: Iterable[str], where: str) -> None:
    """Raises UsageError for a source with `texts`, which an engine does not need."""
    for uri in uris:
        address = parse_source(uri)
        if isinstance(address, PubsubSubscription) and address.texts:
            raise UsageError(
                f"{redacted(uri)}: texts={address.texts} is for Flink; {where} a slow model holds up no list "
                "with one subscription, so leave it out"
            )


def redacted(text: str) -> str:
    """The URI with no password and no secret in it, for messages and logs."""
    scheme, _, rest = text.partition("://")
    parts = urlsplit(f"//{rest}")
    user, at, host = parts.netloc.rpartition("@")
    shown = f"{user.partition(':')[0]}{':***' if ':' in user else ''}{at}{host}"
    pairs = [
        f"{name}={'***' if _SECRET.search(name) else quote(value, safe=',:/@')}"
        for name, value in parse_qsl(parts.query, keep_blank_values=True)
    ]
    return f"{scheme}://{shown}{parts.path}{'?' if pairs else ''}{'&'.join(pairs)}"


def require(scheme: str) -> None:
    """Raises DeploymentError with the line that installs what a scheme needs, where it is missing."""
    extra, module = _EXTRAS[scheme]
    try:
        found = find_spec(module) is not None
    except ModuleNotFoundError:  # of a package above it
        found = False
    if not found:
        raise DeploymentError(f"{scheme}:// needs: pip install 'livelist[{extra}]'")


def _scheme(text: str) -> str:
    scheme, separator, _ = text.partition("://")
    return scheme.lower() if separator else ""


def _known_scheme(text: str, known: Iterable[str], flag: str) -> str:
    scheme = _scheme(text)
    plain = _ALIASES.get(scheme, scheme)
    names = tuple(known)
    if plain in names:
        return plain
    if plain in _EXTRAS:
        raise UsageError(
            f"{flag} {redacted(text)}: {scheme}:// is not for {flag}; it takes {':// and '.join(names)}://"
        )
    near = _nearest(scheme, names)
    hint = f"; did you mean {near}://?" if near else ""
    raise UsageError(
        f"{flag} {redacted(text)}: expected a path or {':// or '.join(names)}://, got {scheme}://{hint}"
    )


def _nearest(name: str, known: Iterable[str]) -> str:
    return next(iter(difflib.get_close_matches(name, sorted(known), 1, 0.7)), "")


class _Parts:
    """A URI taken apart; what nobody asks for is refused at the end."""

    def __init__(self, text: str, form: str) -> None:
        self._text = redacted(text)
        self._form = form
        self.rest = text.partition("://")[2]
        parts = urlsplit(f"//{self.rest}")
        self.place = unquote(parts.netloc)
        self.path = [unquote(part) for part in parts.path.split("/") if part]
        self.params = dict(parse_qsl(parts.query, keep_blank_values=True))
        self._asked: list[str] = []

    def refusal(self, why: str = "") -> UsageError:
        return UsageError(f"{self._text}: expected {self._form}{f'; {why}' if why else ''}")

    def check(self, pattern: re.Pattern[str], value: str, what: str) -> str:
        if not pattern.fullmatch(value):
            shown = value.rpartition("@")[2]  # what stands before may be a password
            raise self.refusal(f"{shown!r} is no {what}")
        return value

    def take(self, name: str, default: str = "") -> str:
        self._asked.append(name)
        return self.params.pop(name, default)

    def number(self, name: str, default: float) -> float:
        given = self.take(name, str(default))
        if not _NUMBER.fullmatch(given) or not float(given):
            raise self.refusal(f"{name}: expected a number above 0, got {given!r}")
        return float(given)

    def tables(self, default: tuple[str, ...]) -> tuple[str, ...]:
        names = tuple(name for name in self.take("tables").split(",") if name) or default
        for name in names:
            if name not in SINK_TABLES:
                near = _nearest(name, SINK_TABLES)
                hint = f"did you mean {near}?" if near else f"there are {', '.join(SINK_TABLES)}"
                raise self.refusal(f"tables: {name!r} is none that is written; {hint}")
        return names

    def finish(self) -> None:
        for name in self.params:
            near = _nearest(name, self._asked)
            hint = f"did you mean {near}?" if near else f"there are {', '.join(self._asked)}"
            raise self.refusal(f"there is no parameter {name!r}; {hint}")


def _subscription(text: str) -> PubsubSubscription:
    parts = _Parts(text, "pubsub://PROJECT/SUBSCRIPTION")
    if parts.path[:1] == ["topics"]:
        raise parts.refusal("a topic is not read itself: make a subscription to it, and name that")
    path = parts.path[1:] if parts.path[:1] == ["subscriptions"] else parts.path
    if len(path) != 1:
        raise parts.refusal()
    project = parts.check(_PROJECT, parts.place, "project id (6 to 30 small letters, digits and -)")
    named = "name of a subscription (3 to 255 letters, digits and -._~+%)"
    name = parts.check(_PUBSUB_NAME, path[0], named)
    if texts := parts.take("texts"):
        parts.check(_PUBSUB_NAME, texts, named)
    if texts == name:
        raise parts.refusal(f"texts: {texts!r} is read already; make another subscription to its topic")
    held = parts.number("max_outstanding", 20_000)
    size = parts.number("max_outstanding_bytes", 256 << 20)
    parts.finish()
    return PubsubSubscription(project, name, int(held), int(size), texts)


def _pubsub_topic(text: str) -> PubsubTopic:
    parts = _Parts(text, "pubsub://PROJECT/topics/TOPIC")
    if len(parts.path) != 2 or parts.path[0] != "topics":
        raise parts.refusal()
    project = parts.check(_PROJECT, parts.place, "project id (6 to 30 small letters, digits and -)")
    name = parts.check(_PUBSUB_NAME, parts.path[1], "name of a topic (3 to 255 letters, digits and -._~+%)")
    tables, timeout = parts.tables(STREAM_TABLES), parts.number("timeout_seconds", 60)
    ordered = parts.take("ordered", "false")
    if ordered not in ("true", "false"):
        raise parts.refusal(f"ordered: expected true or false, got {ordered!r}")
    parts.finish()
    return PubsubTopic(project, name, tables, timeout, ordered == "true")


def _kafka(text: str, sink: bool) -> KafkaTopic:
    parts = _Parts(text, "kafka://HOST:PORT[,HOST:PORT]/TOPIC")
    if "@" in parts.place:
        raise parts.refusal(
            "credentials do not belong on a command line: put them into a file of KEY=VALUE lines "
            "(sasl.username=...) and add config=FILE to the query"
        )
    for server in parts.place.split(","):
        found = _HOST_PORT.fullmatch(server)
        if found is None or not 0 < int(found["port"]) < 65536:
            raise parts.refusal(f"{server!r} is no HOST:PORT")
    if len(parts.path) != 1:
        raise parts.refusal()
    for name in _KAFKA_SOURCE if sink else _KAFKA_SINK:
        if name in parts.params:
            raise parts.refusal(f"{name}= is for a {'source' if sink else 'sink'}; leave it out")
    # librdkafka's own properties have a dot in their names, and it checks them itself.
    properties = {name: parts.params.pop(name) for name in list(parts.params) if "." in name}
    topic = KafkaTopic(
        servers=parts.place,
        topic=parts.check(_KAFKA_NAME, parts.path[0], "name of a topic (letters, digits, . _ -)"),
        group=parts.take("group"),
        start=parts.take("start", "earliest"),
        config_file=parts.take("config"),
        properties=properties,
        tables=parts.tables(STREAM_TABLES),
        timeout_seconds=parts.number("timeout_seconds", 60),
    )
    if topic.start not in ("earliest", "latest"):
        raise parts.refusal(f"start: expected earliest or latest, got {topic.start!r}")
    parts.finish()
    return topic


def _postgres(text: str) -> PostgresDatabase:
    parts = _Parts(text, "postgresql://[USER@]HOST[:PORT]/DATABASE")
    if len(parts.path) != 1:
        raise parts.refusal()
    schema = parts.check(_SQL_NAME, parts.take("schema", "livelist"), "name of a schema (a-z, 0-9 and _)")
    tables, timeout = parts.tables(SINK_TABLES), parts.number("timeout_seconds", 60)
    # What is left is libpq's, which checks it.
    place = parts.rest.partition("?")[0]
    query = "&".join(f"{name}={quote(value, safe='')}" for name, value in parts.params.items())
    return PostgresDatabase(f"postgresql://{place}{'?' if query else ''}{query}", schema, tables, timeout)


def _delta(text: str) -> DeltaFolder:
    parts = _Parts(text, "delta://FOLDER, delta+s3://BUCKET/PREFIX, delta+gs:// or delta+az://")
    store = _scheme(text).partition("+")[2]
    place = unquote(parts.rest.partition("?")[0]).rstrip("/")
    if not place:
        raise parts.refusal()
    tables, timeout = parts.tables(SINK_TABLES), parts.number("timeout_seconds", 60)
    parts.finish()
    return DeltaFolder(f"{store}://{place}" if store else place, tables, timeout)


def _bigquery(text: str) -> BigQueryDataset:
    parts = _Parts(text, "bigquery://PROJECT/DATASET")
    if len(parts.path) != 1:
        raise parts.refusal()
    project = parts.check(_PROJECT, parts.place, "project id (6 to 30 small letters, digits and -)")
    dataset = parts.check(_DATASET, parts.path[0], "name of a dataset (letters, digits and _)")
    location, tables = parts.take("location"), parts.tables(SINK_TABLES)
    timeout = parts.number("timeout_seconds", 120)
    parts.finish()
    return BigQueryDataset(project, dataset, location, tables, timeout)
