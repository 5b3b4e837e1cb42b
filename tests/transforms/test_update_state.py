"""Endless joins: a score and its event come by different ways, in any order."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import pytest
from apache_beam.pvalue import TaggedOutput
from apache_beam.transforms.userstate import RuntimeTimer

from models.pane import copy_of
from models.records import FINAL, LATE_SCORE, SCORE_FOLLOWS, FeedbackEvent, ScoredFeedback, TextScore
from models.state import StateConfig, UserState
from models.views import ViewPolicy
from transforms.update_state import _JoinState


class Kept:
    """One value of a state, between bundles."""

    def __init__(self) -> None:
        self.value: bytes | None = None

    def read(self) -> bytes | None:
        return self.value

    def write(self, value: bytes) -> None:
        self.value = value


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
