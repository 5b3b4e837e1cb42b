"""One pane of a user's events joined to the user's state: who is accepted, what is doubled.

Law 3 is decided here, by content and never by arrival order: of the copies of one event
the greatest stands, a copy equal to it is a duplicate, a lesser one is superseded. Then
the views are asked, so that content duplicates and bursts are counted as what they are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import msgpack

from models.records import (
    CONTROL_KINDS,
    FINAL,
    LATE_SCORE,
    MICROS_PER_DAY,
    SCORED_ANEW,
    Micros,
    ScoredFeedback,
    TextScore,
)
from models.state import (
    NEVER,
    CompactEvent,
    Slot,
    StateConfig,
    UserState,
    compact,
    event_from_row,
    precedence,
)
from models.views import ACCEPTED, DUPLICATE, RETRACTED, SUPERSEDED, ViewPolicy, effective_ratings, refusals

ACCEPTED_SCORED: Final = "accepted.scored"
ACCEPTED_UNSCORED: Final = "accepted.unscored"  # text, but the job runs without a model
ACCEPTED_WITHOUT_TEXT: Final = "accepted.without_text"
ACCEPTED_CONTROL: Final = "accepted.control"
#: Told beside the sum, as parts of what is in it.
BEYOND_NEWEST: Final = "note.beyond_newest"  # accepted, but older than the newest that a state keeps
CONTENT_DUPLICATES: Final = "note.content_duplicates"  # of the duplicates: the same words, another event_id
IMPUTED_RATINGS: Final = "note.imputed_ratings"
NORMALIZED_RATINGS: Final = "note.normalized_ratings"

#: Copies of events that were counted before.
_NO_INPUT: Final = (LATE_SCORE, SCORED_ANEW)
#: A list names so many of the newest events behind it.
MOST_TRIGGERS: Final = 10


class ScoreDetails(NamedTuple):
    """What the tables show of a score and the state does not keep."""

    sentiment: tuple[float, float, float]
    language: str
    aspects: tuple[tuple[str, float], ...]


class EventCopy(NamedTuple):
    """One copy of an event on its way to its user's state."""

    event: CompactEvent
    event_id: str  # the copy's own; a retract's slot has its target's
    control: str  # "", or one of CONTROL_KINDS
    source_position: str
    scored_time: Micros  # wall clock; 0 without a score
    details: ScoreDetails | None
    phase: str = FINAL

    def encode(self) -> bytes:
        """Compact bytes for the shuffle."""
        packed: bytes = msgpack.packb(self)
        return packed

    @classmethod
    def decode(cls, encoded: bytes) -> EventCopy:
        """Reads what `encode` wrote."""
        event, event_id, control, position, scored_time, details, phase = msgpack.unpackb(
            encoded, use_list=False
        )
        kept = ScoreDetails._make(details) if details is not None else None
        return cls(event_from_row(event), event_id, control, position, scored_time, kept, phase)


def copy_of(scored: ScoredFeedback, wall_time: Micros) -> EventCopy:
    """The copy of a scored event; `wall_time` stamps when its text was scored."""
    event, score = scored.event, scored.score
    return EventCopy(
        event=compact(scored),
        event_id=event.event_id,
        control=event.kind if event.kind in CONTROL_KINDS else "",
        source_position=event.source_position,
        scored_time=wall_time if score is not None else 0,
        details=_details(score) if score is not None else None,
        phase=scored.phase,
    )


def _details(score: TextScore) -> ScoreDetails:
    return ScoreDetails(score.sentiment, score.language, score.aspects)


@dataclass(slots=True)
class PaneResult:
    """What one pane did to a user's state."""

    accounting: Counter[str] = field(default_factory=Counter)
    accepted: list[EventCopy] = field(default_factory=list)  # that count for the list, oldest first
    quarantined: list[tuple[EventCopy, str, str]] = field(default_factory=list)  # copy, code, evidence
    triggers: tuple[str, ...] = ()  # newest event_ids of the pane
    listed: bool = False  # something changed, and something of the user was accepted
    erased: bool = False  # the pane erased the user, and nothing newer is left


def apply_pane(
    state: UserState,
    copies: Sequence[EventCopy],
    config: StateConfig,
    policy: ViewPolicy,
    oldest: Micros = NEVER,
) -> PaneResult:
    """Joins `copies`, in any order, to `state` in place and accounts for every one of them.

    What is older than `oldest` is late, and quarantined before anything else; an erasure never is.
    A late score is no input: it moves its event's place in the books, if that stands as it was scored; one
    that was made anew takes the place of the event's score, and moves nothing in the books.
    """
    result = PaneResult()
    scored = [copy for copy in copies if copy.phase == LATE_SCORE]
    anew = [copy for copy in copies if copy.phase == SCORED_ANEW]
    copies = _in_time([copy for copy in copies if copy.phase not in _NO_INPUT], oldest, result)
    erasing = _erase(state, [copy for copy in copies if copy.control == "erase"], result.accounting)
    standing = _standing(state, [copy for copy in copies if copy.control != "erase"], result.accounting)
    changed = erasing
    for copy in copies:
        if copy.control != "erase":
            changed |= state.add(copy.event)
            state.scored_time = max(state.scored_time, copy.scored_time)
    result.accounting[BEYOND_NEWEST] += state.cut(config.max_events)
    scored = _add_scores(state, scored)
    changed |= bool(scored) | _replace_scores(state, anew)
    _judge(state, [*standing, *scored], policy, result)
    result.erased = erasing and not state.events
    result.listed = changed and (result.listed or state.version > 0) and bool(state.events)
    _count_ratings(result, policy)
    behind = {(copy.event.event_time, copy.event_id) for copy in [*copies, *scored, *anew]}
    result.triggers = tuple(event_id for _, event_id in sorted(behind)[-MOST_TRIGGERS:])
    return result


def _add_scores(state: UserState, copies: Iterable[EventCopy]) -> list[EventCopy]:
    """Joins late scores; returns those that an event was waiting for, each event once."""
    joined: dict[Slot, EventCopy] = {}
    for copy in copies:
        standing = _scored_event(state, copy)
        if copy.event.slot not in joined and standing is not None and standing.score is None:
            state.add(copy.event)
            state.scored_time = max(state.scored_time, copy.scored_time)
            joined[copy.event.slot] = copy
    return list(joined.values())


def _replace_scores(state: UserState, copies: Iterable[EventCopy]) -> bool:
    """Puts newer scores in the place of older ones, and tells whether any differs."""
    changed = False
    for copy in copies:
        standing = _scored_event(state, copy)
        score = copy.event.score
        if score is not None and standing is not None and standing.score not in (None, score):
            state.events[copy.event.slot] = standing._replace(score=score)
            state.scored_time = max(state.scored_time, copy.scored_time)
            changed = True
    return changed


def _scored_event(state: UserState, copy: EventCopy) -> CompactEvent | None:
    """The event of a late score, where it stands as it was scored."""
    standing = state.events.get(copy.event.slot)
    if standing is None or standing.retracted or _content(standing) != _content(copy.event):
        return None
    return standing


def _in_time(copies: Sequence[EventCopy], oldest: Micros, result: PaneResult) -> Sequence[EventCopy]:
    late = [copy for copy in copies if copy.event.event_time < oldest and copy.control != "erase"]
    if not late:
        return copies
    for copy in late:
        days = (oldest - copy.event.event_time) / MICROS_PER_DAY
        result.quarantined.append((copy, "late", f"{days:.3g} days older than what is still in time"))
    result.accounting["quarantined.late"] += len(late)
    return [copy for copy in copies if copy.event.event_time >= oldest or copy.control == "erase"]


def _count_ratings(result: PaneResult, policy: ViewPolicy) -> None:
    """How many ratings the policies fill in or change, of the events that this pane added."""
    if policy.keeps_ratings:
        return
    events = [copy.event for copy in result.accepted]
    ratings = effective_ratings(events, policy, None)
    for event in events:
        rating = ratings.get(event.slot)
        if event.rating is None and rating is not None:
            result.accounting[IMPUTED_RATINGS] += 1
        elif rating != event.rating:
            result.accounting[NORMALIZED_RATINGS] += 1


def _erase(state: UserState, copies: Iterable[EventCopy], accounting: Counter[str]) -> bool:
    seen: set[str] = set()
    for copy in copies:
        accounting["duplicate" if copy.event_id in seen else ACCEPTED_CONTROL] += 1
        seen.add(copy.event_id)
        state.erase(copy.event.event_time)
    return bool(seen)


def _standing(state: UserState, copies: Iterable[EventCopy], accounting: Counter[str]) -> list[EventCopy]:
    """The copies that stand for their event; counts the duplicates and the superseded."""
    groups: dict[tuple[Micros, str, bool], list[EventCopy]] = {}
    for copy in copies:
        event = copy.event
        groups.setdefault((event.event_time, event.event_id, event.retracted), []).append(copy)
    standing = []
    for (event_time, event_id, is_retract), group in groups.items():
        before = state.events.get((event_time, event_id))
        if before is not None and before.retracted != is_retract:
            before = None  # a retract and its target are two events
        if len(group) == 1 and before is None:
            standing.append(group[0])
            continue
        contents = {_content(copy.event) for copy in group}
        known = _content(before) if before is not None else None
        accounting["duplicate"] += len(group) - len(contents - {known})
        if known is not None and known >= max(contents):
            accounting["superseded"] += len(contents - {known})
            continue
        # The winner inherits the place of what stood before, which it supersedes.
        accounting["superseded"] += len(contents - {known}) - 1
        if before is not None:
            accounting["superseded"] += 1
            accounting[_accepted_code_of(before)] -= 1
        standing.append(max(group, key=lambda copy: (precedence(copy.event), copy.source_position)))
    return standing


def _content(event: CompactEvent) -> tuple[int, int]:
    return (event.revision, event.content_hash)


def _judge(state: UserState, standing: list[EventCopy], policy: ViewPolicy, result: PaneResult) -> None:
    refused = refusals(state.sorted_events(), policy)
    for copy in sorted(standing, key=lambda copy: (copy.event.event_time, copy.event_id)):
        code, evidence = refused.get(copy.event.slot, (ACCEPTED, ""))
        if copy.event.retracted:
            code = ACCEPTED
        if copy.phase == LATE_SCORE:
            _count_late_score(copy, code, result)
        elif code in (DUPLICATE, SUPERSEDED):
            result.accounting[code] += 1
            result.accounting[CONTENT_DUPLICATES] += code == DUPLICATE
        elif code in (ACCEPTED, RETRACTED):
            result.accounting[_accepted_code(copy)] += 1
            result.listed |= copy.control != "retract"
            if code == ACCEPTED and copy.event.slot in state.events and not copy.event.retracted:
                result.accepted.append(copy)
        else:
            result.accounting[f"quarantined.{code}"] += 1
            result.quarantined.append((copy, code, evidence))


def _count_late_score(copy: EventCopy, code: str, result: PaneResult) -> None:
    if code == ACCEPTED:
        result.listed = True
        result.accepted.append(copy)
        if copy.event.score is not None and not copy.control:
            result.accounting[ACCEPTED_UNSCORED] -= 1
            result.accounting[ACCEPTED_SCORED] += 1


def _accepted_code(copy: EventCopy) -> str:
    return ACCEPTED_CONTROL if copy.control else _accepted_code_of(copy.event)


def _accepted_code_of(event: CompactEvent) -> str:
    if event.kind_name in CONTROL_KINDS:
        return ACCEPTED_CONTROL
    if event.score is not None:
        return ACCEPTED_SCORED
    return ACCEPTED_UNSCORED if event.text_length else ACCEPTED_WITHOUT_TEXT
