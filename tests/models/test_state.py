"""Laws 1 and 2 on the pure state."""

from __future__ import annotations

import dataclasses
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.records import FeedbackEvent, ScoredFeedback
from models.state import NEVER, CompactEvent, StateConfig, UserState, compact, join, retraction
from models.views import ViewPolicy, accepted_events
from tests.models.strategies import START, feedback, scored_events

copies = st.lists(feedback().map(compact), max_size=30)
sizes = st.integers(1, 12)


def state_of(events: list[CompactEvent], size: int, erased: int = NEVER) -> UserState:
    state = join(events, size)
    state.erase(erased)
    return state


@given(copies, sizes, st.randoms(use_true_random=False))
def test_any_order_and_any_repetition_gives_the_same_state(
    events: list[CompactEvent], size: int, shuffled: random.Random
) -> None:
    again = events + shuffled.sample(events, len(events) // 2)
    shuffled.shuffle(again)
    assert join(again, size).encode() == join(events, size).encode()


@given(copies, copies, copies, sizes, st.sampled_from([NEVER, START, START + 10 * 3_600_000_000]))
def test_merging_commutes_associates_and_repeats_without_effect(
    left: list[CompactEvent], middle: list[CompactEvent], right: list[CompactEvent], size: int, erased: int
) -> None:
    def merged(*parts: UserState) -> bytes:
        total = UserState()
        for part in parts:
            total.merge(part, size)
        return total.encode()

    a, b, c = state_of(left, size, erased), state_of(middle, size), state_of(right, size)
    assert merged(a, b) == merged(b, a)
    b_and_c = UserState.decode(merged(b, c))
    assert merged(a, b, c) == merged(a, b_and_c)
    assert merged(a, b, a, b) == merged(a, b)


@given(copies, sizes)
def test_cutting_early_equals_cutting_at_the_end(events: list[CompactEvent], size: int) -> None:
    step_by_step = UserState()
    for event in events:
        step_by_step.add(event)
        step_by_step.cut(size)
    assert step_by_step.encode() == join(events, size).encode()
    assert sorted(step_by_step.events) == sorted({event.slot for event in events})[-size:]


@given(scored_events(), scored_events())
def test_a_scored_copy_replaces_the_unscored_one(scored: ScoredFeedback, other: ScoredFeedback) -> None:
    unscored = dataclasses.replace(scored, score=None)
    state = join([compact(scored), compact(unscored)], 10)
    assert list(state.events.values()) == [compact(scored)]


@given(scored_events(), st.booleans())
def test_a_newer_revision_replaces_the_older_whatever_comes_first(
    scored: ScoredFeedback, newer_first: bool
) -> None:
    event = dataclasses.replace(scored.event, revision=scored.event.revision + 1, rating=2.0, kind="rating")
    pair = [compact(scored), compact(ScoredFeedback(event))]
    state = join(pair[::-1] if newer_first else pair, 10)
    assert [kept.revision for kept in state.events.values()] == [event.revision]


@given(st.lists(scored_events(), min_size=1, max_size=20), st.data())
def test_retraction_gives_the_set_that_would_have_been_without(
    scored: list[ScoredFeedback], data: st.DataObject
) -> None:
    target = data.draw(st.sampled_from(scored)).event
    retract = FeedbackEvent("r", "ann", "retract", target.event_time, target_event_id=target.event_id)
    everything = [*scored, ScoredFeedback(retract)]
    data.draw(st.randoms(use_true_random=False)).shuffle(everything)
    without = [one for one in scored if one.event.event_id != target.event_id]
    policy, ttl = ViewPolicy(), StateConfig().ttl_micros
    left = accepted_events(join(map(compact, everything), 50), policy, START, ttl)
    assert left == accepted_events(join(map(compact, without), 50), policy, START, ttl)


@given(copies, st.integers(0, 30), st.randoms(use_true_random=False))
def test_a_replay_cannot_bring_an_erased_user_back(
    events: list[CompactEvent], hour: int, shuffled: random.Random
) -> None:
    erased = START + hour * 3_600_000_000
    state = join(events, 50)
    state.erase(erased)
    expected = state.encode()
    assert all(slot[0] > erased for slot in state.events)
    replay = list(events)
    shuffled.shuffle(replay)
    for event in replay:
        state.add(event)
    assert state.encode() == expected


@given(copies, sizes)
def test_encoding_survives_a_round_trip(events: list[CompactEvent], size: int) -> None:
    state = join(events, size)
    state.scored_time, state.version = 7, 9
    decoded = UserState.decode(state.encode())
    assert decoded == state
    assert decoded.encode() == state.encode()


def test_a_retracted_event_keeps_its_slot() -> None:
    target = compact(ScoredFeedback(FeedbackEvent("e1", "ann", "view", START, item_id="coat")))
    newer = compact(ScoredFeedback(FeedbackEvent("e2", "ann", "view", START + 1, item_id="coat")))
    older = compact(ScoredFeedback(FeedbackEvent("e0", "ann", "view", START - 1, item_id="coat")))
    state = join([target, newer, retraction(START, "e1"), older], 2)
    assert sorted(state.events) == [(START, "e1"), (START + 1, "e2")]


def test_an_event_without_words_takes_less_than_64_bytes() -> None:
    events = [
        compact(
            ScoredFeedback(
                FeedbackEvent(f"shop.jsonl:{n:010d}", "ann", "view", START + n, item_id=f"item{n}")
            )
        )
        for n in range(100)
    ]
    assert len(join(events, 500).encode()) / 100 < 64


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=20))
def test_versions_never_repeat_even_when_the_clock_runs_back(steps: list[int]) -> None:
    state, wall, seen = UserState(), 1_000, []
    for step in steps:
        wall += step
        seen.append(state.next_version(wall))
        assert seen[-1] >= wall
    assert seen == sorted(set(seen))


def test_an_unknown_state_format_is_refused() -> None:
    import msgpack

    with pytest.raises(ValueError, match="state format 1 was expected, 9 came"):
        UserState.decode(msgpack.packb((9, 0, 0, 0, [])))


def test_config_says_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="max_events must be at least 1, got 0"):
        StateConfig(max_events=0)
