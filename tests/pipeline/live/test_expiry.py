"""Users who left: their states go, their lists and their erasures stay."""

from __future__ import annotations

from pathlib import Path

from models.records import MICROS_PER_DAY, MICROS_PER_SECOND
from models.state import StateConfig, UserState, retraction
from pipeline.live.checkpoints import newest_checkpoint
from tests.oracle import current_lists
from tests.pipeline.live.feedback_log import ITEMS, START, Event, burst
from tests.pipeline.live.runs import append, await_that, has_read, live_run, users_of
from transforms.live_store import LiveStore, states_of_those_who_left

_DAY = 86_400
_TTL = StateConfig(ttl_micros=2 * MICROS_PER_DAY)


def event(name: str, user: str, days: float, kind: str = "purchase") -> Event:
    when = START + days * _DAY
    return {"event_id": name, "user_id": user, "kind": kind, "item_id": ITEMS[3], "event_time": when}


def states_in(output: Path) -> dict[str, UserState]:
    checkpoint = newest_checkpoint(output / ".state")
    return {user: UserState.decode(state) for user, state in checkpoint.states.items()} if checkpoint else {}


def encoded_state(time: int, version: int) -> bytes:
    return UserState({(time, "e"): retraction(time, "e")}, version=version).encode()


def test_states_of_users_who_left_are_dropped_and_their_lists_and_erasures_stay(tmp_path: Path) -> None:
    events, output = tmp_path / "events", tmp_path / "out"
    events.mkdir()
    log = events / "log.jsonl"
    append(log, event("a", "left", 0), event("b", "stays", 0), event("c", "gone", 0))
    append(log, event("x", "gone", -0.5, "erase"))
    with live_run(events, output, state=_TTL) as (_, reports):
        await_that(lambda: users_of(output) == {"left", "stays", "gone"})
        before = current_lists(output)
        append(log, event("d", "stays", 1.6), event("e", "new", 3))
        await_that(lambda: set(states_in(output)) == {"stays", "gone", "new"})
        append(log, event("old", "gone", -0.7))  # a replay of what was erased
        append(log, event("back", "left", 3.5))
        await_that(lambda: "left" in states_in(output))
    states = states_in(output)
    assert {user: len(state.events) for user, state in states.items()} == {
        "stays": 2,
        "gone": 0,
        "new": 1,
        "left": 1,
    }
    assert states["gone"].erased_time == (START - _DAY // 2) * MICROS_PER_SECOND
    assert [row for row in current_lists(output) if row[0] == "gone"] == [
        row for row in before if row[0] == "gone"
    ]
    assert reports[0].accounting.unaccounted == 0
    assert reports[0].accounting.input == 8


def test_with_the_default_time_to_live_nobody_leaves(tmp_path: Path) -> None:
    events, output = tmp_path / "events", tmp_path / "out"
    events.mkdir()
    append(events / "log.jsonl", *burst(1, 20))
    with live_run(events, output) as (state, _):
        await_that(lambda: has_read(state, 26))
    append(events / "log.jsonl", event("later", "later", 400))
    with live_run(events, output) as (state, _):
        await_that(lambda: has_read(state, 27))
    assert len(states_in(output)) > 10


def test_who_changed_since_the_look_stays_and_versions_go_on_above_what_was_dropped() -> None:
    encoded = encoded_state(5, 1 << 60)
    store = LiveStore({"old": encoded, "changed": encoded}, {"old": b"shown"}, {"old": b"held"})
    left = states_of_those_who_left(store.states, 6)
    assert set(left) == {"old", "changed"}
    store.states["changed"] = encoded_state(9, 3)
    assert store.expire(left) == (1, [b"held"])
    assert set(store.states) == {"changed"}
    assert not store.shown
    assert store.next_version(UserState()) > 1 << 60
    assert not states_of_those_who_left({"empty": UserState(erased_time=4).encode()}, 6)
