"""Law 3: every copy is accounted for, by content and never by order."""

from __future__ import annotations

import dataclasses
import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from models.pane import EventCopy, apply_pane, copy_of
from models.records import LATE_SCORE, SCORE_FOLLOWS, SCORED_ANEW, FeedbackEvent, ScoredFeedback, TextScore
from models.state import StateConfig, UserState
from models.views import ViewPolicy
from tests.models.strategies import START, TEXTS, feedback

CONFIG, POLICY = StateConfig(max_events=8), ViewPolicy()


def copies_of(scored: list[ScoredFeedback]) -> list[EventCopy]:
    return [
        copy_of(dataclasses.replace(one, event=dataclasses.replace(one.event, source_position=f"f:{n}")), 5)
        for n, one in enumerate(scored)
    ]


def accounted(accounting: Counter[str]) -> int:
    return sum(count for code, count in accounting.items() if not code.startswith("note."))


@given(st.lists(feedback(), max_size=40))
def test_every_copy_is_accounted_for_once(scored: list[ScoredFeedback]) -> None:
    result = apply_pane(UserState(), copies_of(scored), CONFIG, POLICY)
    assert accounted(result.accounting) == len(scored)


@given(st.lists(feedback(), max_size=30), st.integers(0, 30))
def test_accounting_closes_over_any_split_into_panes(scored: list[ScoredFeedback], cut: int) -> None:
    state, copies = UserState(), copies_of(scored)
    first = apply_pane(state, copies[:cut], CONFIG, POLICY)
    second = apply_pane(state, copies[cut:], CONFIG, POLICY)
    assert accounted(first.accounting + second.accounting) <= len(scored)
    total = Counter(first.accounting)
    total.update(second.accounting)
    assert accounted(total) == len(scored)


@given(st.lists(feedback(), max_size=30), st.randoms(use_true_random=False))
def test_one_pane_counts_the_same_in_any_order(scored: list[ScoredFeedback], shuffled: random.Random) -> None:
    copies = copies_of(scored)
    ordered = apply_pane(UserState(), copies, CONFIG, POLICY)
    shuffled.shuffle(copies)
    again = apply_pane(UserState(), copies, CONFIG, POLICY)
    assert +again.accounting == +ordered.accounting
    assert (again.listed, again.erased, again.triggers) == (ordered.listed, ordered.erased, ordered.triggers)


def event(number: int, kind: str = "view", **fields: object) -> ScoredFeedback:
    base = FeedbackEvent(f"e{number}", "ann", kind, START + number, item_id="coat")
    return ScoredFeedback(dataclasses.replace(base, **fields))  # type: ignore[arg-type]


def test_redelivery_in_a_later_pane_is_a_duplicate() -> None:
    state, copies = UserState(), copies_of([event(1), event(2)])
    apply_pane(state, copies, CONFIG, POLICY)
    assert +apply_pane(state, copies, CONFIG, POLICY).accounting == Counter(duplicate=2)


def test_two_events_of_one_id_with_other_content_leave_one_and_a_superseded() -> None:
    pair = copies_of([event(1), event(1, "click")])
    result = apply_pane(UserState(), pair, CONFIG, POLICY)
    assert +result.accounting == Counter({"accepted.without_text": 1, "superseded": 1})


def test_an_edit_in_a_later_pane_supersedes_what_stood() -> None:
    state = UserState()
    apply_pane(state, copies_of([event(1)]), CONFIG, POLICY)
    edit = apply_pane(state, copies_of([event(1, "click", revision=1)]), CONFIG, POLICY)
    assert {code: count for code, count in edit.accounting.items() if count} == {"superseded": 1}
    assert [kept.kind_name for kept in state.events.values()] == ["click"]


def test_the_same_words_twice_on_an_item_are_a_duplicate_and_come_back_when_the_first_is_retracted() -> None:
    twice = [event(1, "review", text=TEXTS[0]), event(2, "review", text=TEXTS[0])]
    state = UserState()
    result = apply_pane(state, copies_of(twice), CONFIG, POLICY)
    assert +result.accounting == Counter(
        {"accepted.unscored": 1, "duplicate": 1, "note.content_duplicates": 1}
    )
    retract = ScoredFeedback(FeedbackEvent("r", "ann", "retract", START + 1, target_event_id="e1"))
    apply_pane(state, copies_of([retract]), CONFIG, POLICY)
    from models.views import accepted_events

    assert [kept.event_id for kept in accepted_events(state, POLICY, START, CONFIG.ttl_micros)] == ["e2"]


def test_a_burst_is_quarantined_with_its_evidence_and_whole_days_never_are() -> None:
    config = StateConfig()
    fast = [event(n, event_time=START + n * 10_000, event_id=f"e{n:03d}") for n in range(200)]
    result = apply_pane(UserState(), copies_of(fast), config, POLICY)
    assert +result.accounting == Counter({"quarantined.burst_events": 200})
    assert "200 events within 10 s, from e000 to e199" in result.quarantined[0][2]
    day = 1_700_006_400_000_000
    bulk = [event(n, event_time=day, event_id=f"e{n:03d}") for n in range(200)]
    result = apply_pane(UserState(), copies_of(bulk), config, POLICY)
    assert +result.accounting == Counter({"accepted.without_text": 200})


def test_one_long_text_on_ten_items_is_quarantined_and_on_nine_is_not() -> None:
    text = "the best product that I ever bought anywhere in my life"
    for items, code in ((10, "quarantined.burst_text"), (9, "accepted.unscored")):
        copies = copies_of([event(n, "review", text=text, item_id=f"item{n}") for n in range(items)])
        result = apply_pane(UserState(), copies, StateConfig(), POLICY)
        assert +result.accounting == Counter({code: items})


def test_erasure_ends_in_a_tombstone_and_newer_events_live_on() -> None:
    erase = ScoredFeedback(FeedbackEvent("x", "ann", "erase", START + 5))
    result = apply_pane(UserState(), copies_of([event(1), erase]), CONFIG, POLICY)
    assert result.erased
    assert not result.listed
    survivor = apply_pane(UserState(), copies_of([event(1), erase, event(9)]), CONFIG, POLICY)
    assert not survivor.erased
    assert survivor.listed


def test_a_user_known_only_by_a_retract_or_an_erase_gets_no_list() -> None:
    retract = ScoredFeedback(FeedbackEvent("r", "ann", "retract", START, target_event_id="e1"))
    assert not apply_pane(UserState(), copies_of([retract]), CONFIG, POLICY).listed


def test_a_copy_survives_its_encoding() -> None:
    for copy in copies_of([event(1), event(2, "review", text=TEXTS[1], rating=4.0)]):
        assert EventCopy.decode(copy.encode()) == copy


def test_what_is_late_is_quarantined_before_anything_else_and_an_erasure_never_is() -> None:
    erase = ScoredFeedback(FeedbackEvent("x", "ann", "erase", START))
    state = UserState()
    result = apply_pane(state, copies_of([event(1), event(1), event(9), erase]), CONFIG, POLICY, START + 5)
    assert +result.accounting == Counter(
        {"quarantined.late": 2, "accepted.without_text": 1, "accepted.control": 1}
    )
    assert [kept.event_id for kept in state.events.values()] == ["e9"]


def test_a_user_of_whom_nothing_is_accepted_gets_no_list() -> None:
    fast = [event(n, event_time=START + n * 10_000, event_id=f"e{n:03d}") for n in range(200)]
    assert not apply_pane(UserState(), copies_of(fast), StateConfig(), POLICY).listed


def test_ratings_that_a_policy_fills_in_or_changes_are_counted() -> None:
    three = [event(1, "rating", rating=5.0), event(2, "rating", rating=3.0), event(3, "rating")]
    filled = apply_pane(UserState(), copies_of(three), CONFIG, ViewPolicy(missing_rating="mean"))
    assert filled.accounting["note.imputed_ratings"] == 1
    centred = apply_pane(UserState(), copies_of(three), CONFIG, ViewPolicy(normalize_ratings="mean"))
    assert centred.accounting["note.normalized_ratings"] == 2


def test_a_late_score_moves_its_event_in_the_books_and_nothing_else() -> None:
    first, state = event(1, "review", text="lovely").event, UserState()
    early = apply_pane(state, [copy_of(ScoredFeedback(first, None, SCORE_FOLLOWS), 0)], CONFIG, POLICY)
    assert early.accounting["accepted.unscored"] == 1
    score = TextScore((0.1, 0.1, 0.8), 0.7, 0.6, 0.9, model_version="m1")
    late = copy_of(ScoredFeedback(first, score, LATE_SCORE), 5)
    result = apply_pane(state, [late, late], CONFIG, POLICY)
    assert +result.accounting == {"accepted.scored": 1}
    assert result.accounting["accepted.unscored"] == -1
    assert result.accepted == [late]
    assert state.scored_time == 5
    again = apply_pane(state, [late], CONFIG, POLICY)
    assert not +again.accounting
    assert not again.listed


def test_a_score_for_what_was_edited_or_retracted_meanwhile_changes_nothing() -> None:
    first = event(1, "review", text="lovely").event
    taken = event(1, "retract", item_id=None, event_id="r1", target_event_id="e1")
    edited = dataclasses.replace(first, text="awful", revision=1)
    score = TextScore((0.1, 0.1, 0.8), 0.7, 0.6, 0.9, model_version="m1")
    late = copy_of(ScoredFeedback(first, score, LATE_SCORE), 5)
    for newer in (ScoredFeedback(edited, None, SCORE_FOLLOWS), taken):
        state = UserState()
        apply_pane(state, [copy_of(ScoredFeedback(first, None, SCORE_FOLLOWS), 0)], CONFIG, POLICY)
        apply_pane(state, [copy_of(newer, 0)], CONFIG, POLICY)
        before = state.encode()
        assert not +apply_pane(state, [late], CONFIG, POLICY).accounting
        assert state.encode() == before


def test_a_score_that_was_made_anew_takes_the_place_of_the_older_one_and_moves_no_books() -> None:
    first, state = event(1, "review", text="lovely").event, UserState()
    older = TextScore((0.1, 0.1, 0.8), 0.7, 0.6, 0.9, model_version="z-older")
    newer = dataclasses.replace(older, polarity=-0.2, model_version="a-newer")
    apply_pane(state, [copy_of(ScoredFeedback(first, older), 3)], CONFIG, POLICY)
    state.next_version(1)
    anew = copy_of(ScoredFeedback(first, newer, SCORED_ANEW), 5)
    result = apply_pane(state, [anew], CONFIG, POLICY)
    (standing,) = state.events.values()
    assert standing.score is not None
    assert (standing.score.model_version, standing.score.polarity) == ("a-newer", -2000)
    assert (result.listed, result.accepted, +result.accounting) == (True, [], Counter())
    assert not apply_pane(state, [anew], CONFIG, POLICY).listed
    taken = event(1, "retract", item_id=None, event_id="r1", target_event_id="e1")
    apply_pane(state, [copy_of(taken, 0)], CONFIG, POLICY)
    before = state.encode()
    apply_pane(state, [copy_of(ScoredFeedback(first, older, SCORED_ANEW), 9)], CONFIG, POLICY)
    assert state.encode() == before
