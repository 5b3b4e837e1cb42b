"""What an endless run keeps in its process: versions that only advance, vectors that are bounded."""

from __future__ import annotations

import pytest

from models.state import UserState
from models.times import wall_clock
from transforms import live_store as module
from transforms.live_store import LiveStore


def test_versions_are_beyond_all_that_a_lost_attempt_may_have_given_out() -> None:
    ahead = wall_clock() + 3_600_000_000
    store, state = LiveStore(floor=ahead), UserState()
    assert store.next_version(state) > ahead
    assert store.next_version(state) == state.version


def test_a_clock_that_runs_back_only_advances_the_counter(monkeypatch: pytest.MonkeyPatch) -> None:
    store, state = LiveStore(), UserState()
    first = store.next_version(state)
    monkeypatch.setattr(module, "wall_clock", lambda: first - 3_600_000_000)
    assert store.next_version(state) == first + 1
    monkeypatch.setattr(module, "wall_clock", lambda: first + 500)
    assert store.next_version(state) == first + 500


def test_the_oldest_vectors_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_VECTORS", 2)
    store = LiveStore()
    for text in (1, 2, 1, 3):
        store.keep_vector(text, "m1", b"vector")
    assert list(store.vectors) == [1, 3]
