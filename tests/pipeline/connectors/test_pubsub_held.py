"""What a subscriber of Pub/Sub holds: the age of the oldest, by when it was published."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.connectors.addresses import PubsubSubscription

leases = pytest.importorskip(
    "pipeline.connectors.pubsub_leases", reason="the gcp extra is missing: make test-all"
)


def test_the_oldest_that_is_held_is_the_first_published_that_is_not_committed() -> None:
    held: Any = leases.Leases(None, PubsubSubscription("project", "subscription"))
    assert held.oldest() is None
    for number, published in ((1, 300), (2, 100), (3, 200)):
        held.hold(str(number), 10, published)
    assert held.oldest() == 100
    held.commit(["2"])
    assert held.oldest() == 200
    held.commit(["1", "3", "unknown"])
    assert held.oldest() is None
