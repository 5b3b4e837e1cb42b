"""URIs of sources and sinks: what they mean, what is refused, and that no secret is ever shown."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import DeploymentError, LivelistError, UsageError
from pipeline.connectors import uris
from pipeline.connectors.addresses import (
    SINK_TABLES,
    BigQueryDataset,
    DeltaFolder,
    KafkaTopic,
    PostgresDatabase,
    PubsubSubscription,
    PubsubTopic,
)
from pipeline.connectors.uris import (
    is_connector,
    parse_sink,
    parse_source,
    redacted,
    refuse_texts_of,
    require,
)


@pytest.mark.parametrize(
    ("uri", "address"),
    [
        ("pubsub://my-project/feedback-sub", PubsubSubscription("my-project", "feedback-sub")),
        (
            "pubsub://my-project/subscriptions/feedback-sub?max_outstanding=7",
            PubsubSubscription("my-project", "feedback-sub", max_outstanding=7),
        ),
        (
            "pubsub://my-project/feedback-sub?texts=words-sub",
            PubsubSubscription("my-project", "feedback-sub", texts="words-sub"),
        ),
        ("kafka://h:9092/feedback?group=g", KafkaTopic("h:9092", "feedback", "g")),
        (
            "kafka://a:1,[::1]:2/t?group=g&start=latest&config=/etc/k.properties",
            KafkaTopic("a:1,[::1]:2", "t", "g", "latest", "/etc/k.properties"),
        ),
    ],
)
def test_a_source_is_read_from_its_uri(uri: str, address: object) -> None:
    assert parse_source(uri) == address


def test_a_subscription_for_words_tells_its_messages_as_the_other_does() -> None:
    address = parse_source("pubsub://my-project/feedback-sub?texts=words-sub&max_outstanding=9")
    assert isinstance(address, PubsubSubscription)
    words = address.for_texts()
    assert (words.path, words.known_path) == (
        "projects/my-project/subscriptions/words-sub",
        address.path,
    )
    assert words.max_outstanding == 9 and not words.texts


def test_a_subscription_for_words_is_refused_where_nobody_would_read_it() -> None:
    with pytest.raises(UsageError, match="texts=words-sub is for Flink; on one machine"):
        refuse_texts_of(
            ["kafka://h:1/t?group=g", "pubsub://my-project/s-sub?texts=words-sub"], "on one machine"
        )


def test_properties_with_a_dot_are_the_kafka_clients_own() -> None:
    address = parse_source("kafka://h:1/t?group=g&security.protocol=SSL&fetch.wait.max.ms=5")
    assert isinstance(address, KafkaTopic)
    assert address.properties == {"security.protocol": "SSL", "fetch.wait.max.ms": "5"}


@pytest.mark.parametrize(
    ("uri", "address"),
    [
        ("pubsub://my-project/topics/lists", PubsubTopic("my-project", "lists")),
        (
            "kafka://h:1/lists?tables=recommendations,alerts",
            KafkaTopic("h:1", "lists", tables=("recommendations", "alerts")),
        ),
        (
            "postgresql://u:p@h:5/db?schema=shop&sslmode=require",
            PostgresDatabase("postgresql://u:p@h:5/db?sslmode=require", "shop"),
        ),
        ("pubsub://my-project/topics/lists?ordered=true", PubsubTopic("my-project", "lists", ordered=True)),
        ("postgres://h/db", PostgresDatabase("postgresql://h/db")),
        ("delta:///data/out/", DeltaFolder("/data/out")),
        ("delta://out", DeltaFolder("out")),
        ("delta+s3://bucket/lists", DeltaFolder("s3://bucket/lists")),
        ("bigquery://my-project/shop?location=EU", BigQueryDataset("my-project", "shop", "EU")),
    ],
)
def test_a_sink_is_read_from_its_uri(uri: str, address: object) -> None:
    assert parse_sink(uri) == address


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("pubsbu://my-project/feedback", "did you mean pubsub://"),
        ("kafak://h:1/t?group=g", "did you mean kafka://"),
        ("postgresql://h/db", "not for --input"),
        ("pubsub://my-project", "expected pubsub://PROJECT/SUBSCRIPTION"),
        ("pubsub://tiny/feedback", "'tiny' is no project id"),
        ("pubsub://my-project/topics/feedback", "make a subscription"),
        ("pubsub://my-project/feedback?max_outstnading=5", "did you mean max_outstanding?"),
        ("pubsub://my-project/feedback?max_outstanding=-1", "a number above 0, got '-1'"),
        ("pubsub://my-project/feedback?texts=feedback", "'feedback' is read already"),
        ("pubsub://my-project/feedback?texts=a", "'a' is no name of a subscription"),
        ("kafka://h:1/t", "add ?group=NAME"),
        ("kafka://h/t?group=g", "'h' is no HOST:PORT"),
        ("kafka://h:99999/t?group=g", "no HOST:PORT"),
        ("kafka://h:1/a b?group=g", "no name of a topic"),
        ("kafka://h:1/t?grop=g", "did you mean group?"),
        ("kafka://h:1/t?group=g&start=middle", "expected earliest or latest, got 'middle'"),
        ("kafka://user:secret@h:1/t?group=g", "do not belong on a command line"),
        ("kafka://h:1/t?group=g&tables=alerts", "tables= is for a sink"),
        ("kafka://h:1/t?group=g&timeout_seconds=5", "timeout_seconds= is for a sink"),
    ],
)
def test_a_wrong_source_is_refused_with_what_to_write_instead(uri: str, told: str) -> None:
    with pytest.raises(UsageError, match=re.escape(told)) as refused:
        parse_source(uri)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("postgersql://h/db", "did you mean postgresql://"),
        ("detla://out", "did you mean delta://"),
        ("kafka://h:1/t?tables=recomendations", "did you mean recommendations?"),
        ("kafka://h:1/t?group=g", "group= is for a source"),
        ("kafka://h:1/t?start=latest", "start= is for a source"),
        ("postgresql://h/db?tables=recommendations_latest", "is none that is written"),
        ("postgresql://h/", "expected postgresql://"),
        ("postgresql://h/db?schema=Shop;drop", "no name of a schema"),
        ("pubsub://my-project/lists", "expected pubsub://PROJECT/topics/TOPIC"),
        ("bigquery://my-project/a-b", "no name of a dataset"),
        ("delta://", "expected delta://FOLDER"),
    ],
)
def test_a_wrong_sink_is_refused_with_what_to_write_instead(uri: str, told: str) -> None:
    with pytest.raises(UsageError, match=re.escape(told)):
        parse_sink(uri)


def test_database_sinks_take_every_table_and_streams_the_lists() -> None:
    assert parse_sink("delta://out").tables == SINK_TABLES
    assert parse_sink("kafka://h:1/t").tables == ("recommendations",)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("events/", False),
        ("-", False),
        ("s3://bucket/events", False),
        ("gs://bucket/events", False),
        ("kafka://h:1/t", True),
        ("pubsbu://p/s", True),
        ("delta+s3://b/p", True),
    ],
)
def test_files_and_services_are_told_apart(text: str, expected: bool) -> None:
    assert is_connector(text) is expected


_SECRETS = st.from_regex(r"[a-z]{4}[XYZ]{4}[0-9]{4}", fullmatch=True)


@given(_SECRETS)
def test_no_password_is_ever_shown(secret: str) -> None:
    given_uris = [
        f"postgresql://user:{secret}@host:5432/db?sslmode=require",
        f"postgresql://host/db?user=u&password={secret}",
        f"postgresql://host/db?sslpassword={secret}",
        f"kafka://h:1/t?group=g&sasl.password={secret}&ssl.key.password={secret}",
        f"postgersql://user:{secret}@host/db",
        f"kafka://user:{secret}@h:1/t",
        f"postgresql://user:{secret}@host/db?schema=UPPER",
        f"pubsub://user:{secret}@my-project/topics/x",
    ]
    for uri in given_uris:
        assert secret not in redacted(uri)
        for parse in (parse_source, parse_sink):
            try:
                assert secret not in repr(parse(uri))
            except LivelistError as refused:
                assert secret not in str(refused)


def test_a_missing_package_is_told_with_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(uris._EXTRAS, "kafka", ("kafka", "no_such_package.client"))
    with pytest.raises(DeploymentError, match=re.escape("pip install 'livelist[kafka]'")):
        require("kafka")
