"""Leases of Pub/Sub against the real thing: kept while the work goes on, not for ever."""

from __future__ import annotations

import time

import pytest

from tests.pipeline.connectors.services import PubsubService, opened, polled, quiet

pytestmark = pytest.mark.java
leases = pytest.importorskip(
    "pipeline.connectors.pubsub_leases", reason="the gcp extra is missing: make test-all"
)


def test_what_is_worked_on_longer_than_a_lease_comes_to_nobody_else(
    pubsub: PubsubService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "LEASE_SECONDS", 10)
    monkeypatch.setattr(leases, "_EXTEND_SECONDS", 2.0)
    monkeypatch.setattr("pipeline.connectors.pubsub.LEASE_SECONDS", 10)
    channel = pubsub.channel()
    channel.publish([b"slow"])
    source = opened(channel.uri)
    (slow,) = polled(source, 1)
    assert quiet(source, 15)
    source.commit([slow.receipt])
    source.close()


def test_what_is_held_too_long_comes_again(pubsub: PubsubService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "LEASE_SECONDS", 10)
    monkeypatch.setattr(leases, "_EXTEND_SECONDS", 1.0)
    monkeypatch.setattr(leases, "MAX_LEASE_SECONDS", 2.0)
    monkeypatch.setattr("pipeline.connectors.pubsub.LEASE_SECONDS", 10)
    channel = pubsub.channel()
    channel.publish([b"forgotten"])
    parked, other = opened(channel.uri), opened(channel.uri)
    (first,) = polled(parked, 1)
    deadline = time.monotonic() + 90
    while not (again := [*other.poll(1, 0.5), *parked.poll(1, 0.5)]):
        assert time.monotonic() < deadline, "it is held for ever"
    assert again[0].position == first.position
    other.commit([again[0].receipt])
    parked.close()
    other.close()
