"""Endless joins: a score and its event come by different ways, in any order."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import pytest
from apache_beam.pvalue import TaggedOutput
from apache_beam.transforms.userstate import RuntimeTimer
from apache_beam.utils.timestamp import Timestamp

from models.pane import copy_of
from models.ranking.index import IndexConfig, build_index, publish_index
from models.records import (
    FINAL,
    LATE_SCORE,
    SCORE_FOLLOWS,
    FeedbackEvent,
    Item,
    ScoredFeedback,
    TextScore,
)
from models.state import StateConfig, UserState
from models.views import ViewPolicy
from transforms import update_state
from transforms.update_state import UserRefresh, _JoinState


class Kept:
    """One value of a state, between bundles."""

    def __init__(self) -> None:
        self.value: bytes | None = None

    def read(self) -> bytes | None:
        return self.value

    def write(self, value: bytes) -> None:
        self.value = value

    def clear(self) -> None:
        self.value = None


class SetTimer(RuntimeTimer):
    """When it is to fire."""

    def __init__(self) -> None:
        self.at: Timestamp | None = None

    def set(self, timestamp: object, dynamic_timer_tag: str = "") -> None:
        assert isinstance(timestamp, Timestamp)
        self.at = timestamp

    def clear(self, dynamic_timer_tag: str = "") -> None:
        self.at = None


class NoTimer(RuntimeTimer):
    """Nothing expires here."""

    def set(self, timestamp: object, dynamic_timer_tag: str = "") -> None:
        pass

    def clear(self, dynamic_timer_tag: str = "") -> None:
        pass


def event(number: int, words: bool) -> FeedbackEvent:
    text = f"soft and warm, number {number}" if words else None
    return FeedbackEvent(
        f"e{number}", "ann", "review" if words else "view", number * 1_000_000, "coat", text=text
    )


SCORE = TextScore((0.1, 0.1, 0.8), 0.7, 0.9, 0.8, language="en", model_version="m1")
COPIES = {
    "words": ScoredFeedback(event(1, True), None, SCORE_FOLLOWS),
    "score": ScoredFeedback(event(1, True), SCORE, LATE_SCORE),
    "score again": ScoredFeedback(event(1, True), SCORE, LATE_SCORE),
    "view": ScoredFeedback(event(2, False), None, FINAL),
}


@pytest.mark.parametrize("order", list(permutations(COPIES)))
def test_a_score_waits_for_its_event_in_whatever_order_they_come(order: tuple[str, ...]) -> None:
    stored, early = Kept(), Kept()
    accepted = []
    for name in order:
        join = _JoinState(StateConfig(), ViewPolicy(), None)
        join.start_bundle()
        pane = ("ann", (0, [copy_of(COPIES[name], 5).encode()]))
        for told in join.process(pane, stored, early, NoTimer()):
            if isinstance(told, TaggedOutput) and told.tag == "accepted":
                accepted += [(copy.event_id, copy.phase) for copy in told.value[1]]
    state = UserState.decode(stored.value or b"")
    scores = {slot[1]: kept.score is not None for slot, kept in state.events.items()}
    assert scores == {"e1": True, "e2": False}
    assert sorted(accepted) == [("e1", LATE_SCORE), ("e1", SCORE_FOLLOWS), ("e2", FINAL)]


REVISED = replace(event(1, True), revision=1, text="the zipper broke after a day")
EDITED = {
    "words": COPIES["words"],
    "score": COPIES["score"],
    "edited": ScoredFeedback(REVISED, None, SCORE_FOLLOWS),
    "score of the edited": ScoredFeedback(REVISED, replace(SCORE, polarity=-0.9), LATE_SCORE),
}


@pytest.mark.parametrize("order", list(permutations(EDITED)))
def test_the_score_of_an_edit_waits_while_what_was_said_before_stands(order: tuple[str, ...]) -> None:
    stored, early = Kept(), Kept()
    for name in order:
        join = _JoinState(StateConfig(), ViewPolicy(), None)
        join.start_bundle()
        list(join.process(("ann", (0, [copy_of(EDITED[name], 5).encode()])), stored, early, NoTimer()))
    (standing,) = UserState.decode(stored.value or b"").events.values()
    expected = copy_of(EDITED["score of the edited"], 5).event
    assert (standing.revision, standing.score) == (1, expected.score)


class WaitingUser:
    """One who acted before the index below `root` knew an item."""

    def __init__(self, root: Path) -> None:
        self.stored, self.unlisted = Kept(), Kept()
        self.look, self.drain = SetTimer(), SetTimer()
        self.join = _JoinState(StateConfig(), ViewPolicy(), None, str(root))
        self.join.start_bundle()
        self.pane("view")

    def pane(self, name: str) -> list[UserRefresh]:
        pane = ("ann", (0, [copy_of(COPIES[name], 5).encode()]))
        told = self.join.process(pane, self.stored, Kept(), NoTimer(), self.unlisted, self.look, self.drain)
        return [one for one in told if isinstance(one, UserRefresh)]

    def looks(self) -> list[UserRefresh]:
        return list(self.join.list_late("ann", self.stored, self.unlisted, self.look))


def publish_item(root: Path) -> None:
    build_index([], [Item("coat")], [], IndexConfig(), 0, root / "build")
    publish_index(root, root / "build")


def test_who_can_have_no_list_yet_is_refreshed_when_the_index_knows_an_item(tmp_path: Path) -> None:
    user = WaitingUser(tmp_path)
    rests = []
    for _ in range(9):
        assert user.look.at is not None
        before = time.time()
        assert user.looks() == []
        rests.append(round(float(user.look.at) - before))
    assert rests == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    version = UserState.decode(user.stored.value or b"").version
    publish_item(tmp_path)
    (refresh,) = user.looks()
    assert refresh.user_id == "ann" and refresh.triggers == ("e2",)
    assert refresh.state.version > version
    assert user.unlisted.value is None and user.looks() == []


def test_who_acts_when_the_index_knows_an_item_waits_for_nothing(tmp_path: Path) -> None:
    publish_item(tmp_path)
    user = WaitingUser(tmp_path)
    assert user.look.at is None and user.unlisted.value is None


def drained(user: WaitingUser) -> list[UserRefresh]:
    """What comes when everything was read: all timers of event time fire, the earliest first."""
    user.join.expire(user.stored, Kept(), user.unlisted)
    return list(user.join.list_last("ann", user.stored, user.unlisted))


def test_an_index_that_never_knows_an_item_holds_up_a_drain_for_a_while_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(update_state, "_LAST_SECONDS", 0.5)
    first, second = WaitingUser(tmp_path), WaitingUser(tmp_path)
    began = time.monotonic()
    assert drained(first) == drained(second) == []
    assert 0.5 <= time.monotonic() - began < 0.9, "all users of a process together"
    publish_item(tmp_path)
    assert first.looks() == [], "nobody waits any longer"


def test_a_drain_lists_who_waits_when_the_index_knows_an_item_at_last(tmp_path: Path) -> None:
    user = WaitingUser(tmp_path)
    learning = threading.Timer(0.5, publish_item, [tmp_path])
    learning.start()
    (refresh,) = drained(user)
    learning.join()
    assert [slot[1] for slot in refresh.state.events] == ["e2"]
