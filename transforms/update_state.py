"""UpdateUserState: joins feedback to per-user state, one refresh per (user, pane).

Events cross the shuffle as bytes, grouped by user in event-time windows whose panes fire
early in streaming; the state itself lives in the global window behind that grouping, so
the debounce needs no timer. In a bounded run the only window is global, so there is one
pane a user, with all of that user's events.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias, cast

import apache_beam as beam
import msgpack
from apache_beam import typehints
from apache_beam.coders import BytesCoder, Coder
from apache_beam.pvalue import TaggedOutput
from apache_beam.transforms import trigger, window
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import (
    ReadModifyWriteRuntimeState,
    ReadModifyWriteStateSpec,
    RuntimeTimer,
    TimerSpec,
    on_timer,
)
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.timestamp import Timestamp
from apache_beam.utils.windowed_value import WindowedValue

from models.errors import ERROR_CODES
from models.pane import EventCopy, apply_pane, copy_of
from models.records import (
    LATE_SCORE,
    MICROS_PER_SECOND,
    SCORE_FOLLOWS,
    DeadLetter,
    Micros,
    ScoredFeedback,
)
from models.state import CompactEvent, StateConfig, UserState, precedence
from models.times import wall_clock
from models.views import ViewPolicy
from transforms.live_store import live_store

STAGE: Final = "update_state"
_Pane: TypeAlias = tuple[str, tuple[int, list[bytes]]]  # user, (window end, encoded copies)
_FOREVER: Final[Micros] = 1 << 62
_NOBODY: Final = b"\x90"  # an empty list
#: Lateness is decided before windowing; Beam's own must never drop.
_PANE_WINDOW: Final = cast(window.BoundedWindow, beam.DoFn.WindowParam)
_BEAM_ALLOWED_LATENESS_SECONDS: Final = 100 * 365 * 86_400


@dataclass(slots=True)
class UserRefresh:
    """A user whose list is to be refreshed, with the state to do it from."""

    user_id: str
    state: UserState
    triggers: tuple[str, ...]  # newest event_ids of the pane, at most ten
    window_end: Micros | None  # of the pane; None in a bounded run
    erased: bool  # nothing is left: emit a tombstone


class UserRefreshCoder(Coder):
    """Compact bytes for a refresh between stages."""

    def encode(self, value: UserRefresh) -> bytes:
        packed: bytes = msgpack.packb(
            (value.user_id, value.state.encode(), value.triggers, value.window_end, value.erased)
        )
        return packed

    def decode(self, encoded: bytes) -> UserRefresh:
        user_id, state, triggers, window_end, erased = msgpack.unpackb(encoded, use_list=False)
        return UserRefresh(user_id, UserState.decode(state), triggers, window_end, erased)

    def is_deterministic(self) -> bool:
        return True

    def to_type_hint(self) -> type[UserRefresh]:
        return UserRefresh


beam.coders.registry.register_coder(UserRefresh, UserRefreshCoder)


@dataclass
class UpdateUserState(beam.PTransform):
    """PCollection[ScoredFeedback] -> refreshes, accepted, quarantine, accounting, newest.

    `refreshes` are UserRefresh, at most one per (user, pane); `accepted` are (user_id, list
    of EventCopy) that a pane added to what counts; `quarantine` are DeadLetter; `accounting`
    are (code, count); `newest` are the newest accepted event times of bundles, in
    microseconds. `refresh_every_seconds` is the event-time window whose panes refresh
    a list in streaming; None groups a bounded run as a whole. With `keep_in` or
    `panes_of_bundles`, as in every engine's endless job, the panes are the bundles, and the window
    only says which end of one they are told with; with `keep_in` no state expires.
    """

    state: StateConfig
    policy: ViewPolicy
    refresh_every_seconds: float | None = None
    early_firing_seconds: int = 0  # Beam takes whole seconds; 0: as soon as the runner can
    keep_in: str = ""  # for an engine that keeps no time: the run whose LiveStore holds the states
    panes_of_bundles: bool = False  # endless runs: bundles are the panes, the states are the engine's
    allowed_lateness: Micros | None = None  # older events are late: before the clock, see `_oldest`
    now: Micros | None = None  # the clock of lateness in a bounded run; None: the newest event_time

    def expand(self, scored: beam.PCollection[ScoredFeedback]) -> beam.pvalue.DoOutputsTuple:
        keyed = scored | "KeyByUser" >> beam.ParDo(_KeyByUser()).with_output_types(
            tuple[str, bytes], times=int
        ).with_outputs("times", main="keyed")
        if self.refresh_every_seconds is None:
            join = beam.ParDo(
                _JoinPane(self.state, self.policy), beam.pvalue.AsSingleton(self._oldest(keyed.times))
            )
        else:
            join = beam.ParDo(
                _JoinBundle(self.state, self.policy, self.allowed_lateness, self.keep_in)
                if self.keep_in
                else _JoinState(self.state, self.policy, self.allowed_lateness)
            )
        return self._panes(keyed.keyed) | "JoinState" >> join.with_output_types(
            UserRefresh,
            accepted=tuple[str, list[EventCopy]],
            quarantine=DeadLetter,
            accounting=tuple[str, int],
            newest=int,
        ).with_outputs("accepted", "quarantine", "accounting", "newest", main="refreshes")

    def _oldest(self, times: beam.PCollection[int]) -> beam.PCollection[int]:
        """What is still in time in a bounded run: by event times alone, never by order of arrival."""
        clock = (
            times.pipeline | "GivenClock" >> beam.Create([self.now])
            if self.now is not None
            else times | "NewestTime" >> beam.CombineGlobally(_newest_time)
        )
        allowed = _FOREVER if self.allowed_lateness is None else self.allowed_lateness
        return clock | "OldestInTime" >> beam.Map(_minus, allowed)

    def _panes(self, keyed: beam.PCollection[tuple[str, bytes]]) -> beam.PCollection[_Pane]:
        seconds = self.refresh_every_seconds
        if seconds is not None and (self.keep_in or self.panes_of_bundles):
            return keyed | "GroupBundle" >> beam.ParDo(_GroupBundle(seconds))
        if seconds is not None:
            keyed = keyed | "WindowPanes" >> self._pane_window(seconds)
        return (
            keyed
            | "GroupPane" >> beam.GroupByKey()
            | "StampWindowEnd" >> beam.ParDo(_StampWindowEnd(seconds is not None))
            | "KeepStateGlobally" >> beam.WindowInto(window.GlobalWindows())
        )

    def _pane_window(self, seconds: float) -> beam.WindowInto:
        return beam.WindowInto(
            window.FixedWindows(seconds),
            trigger=trigger.AfterWatermark(
                early=trigger.AfterProcessingTime(self.early_firing_seconds), late=trigger.AfterCount(1)
            ),
            accumulation_mode=trigger.AccumulationMode.DISCARDING,
            allowed_lateness=_BEAM_ALLOWED_LATENESS_SECONDS,
        )


def _newest_time(times: Iterable[Micros]) -> Micros:
    return max(times, default=0)


def _minus(clock: Micros, allowed: Micros) -> Micros:
    return clock - allowed


class _KeyByUser(beam.DoFn):
    """Also tells the newest event time of each bundle."""

    def __init__(self) -> None:
        self._newest: Micros | None = None

    def start_bundle(self) -> None:
        self._newest = None

    def process(self, scored: ScoredFeedback) -> Iterator[tuple[str, bytes]]:
        event = scored.event
        if self._newest is None or event.event_time > self._newest:
            self._newest = event.event_time
        yield event.user_id, copy_of(scored, wall_clock() if scored.score else 0).encode()

    def finish_bundle(self) -> Iterator[TaggedOutput]:
        if self._newest is not None:
            yield TaggedOutput("times", GlobalWindows.windowed_value(self._newest))


@typehints.with_output_types(typehints.Tuple[str, typehints.Tuple[int, typehints.List[bytes]]])
class _StampWindowEnd(beam.DoFn):
    """Keeps the pane's window end, which re-windowing would lose; 0 in a bounded run."""

    def __init__(self, endless: bool) -> None:
        self._endless = endless

    def process(
        self,
        element: tuple[str, Iterable[bytes]],
        pane_window: window.BoundedWindow = _PANE_WINDOW,
    ) -> Iterator[tuple[str, tuple[int, list[bytes]]]]:
        user_id, copies = element
        end = pane_window.end.micros if self._endless else 0
        yield user_id, (end, list(copies))


@typehints.with_output_types(typehints.Tuple[str, typehints.Tuple[int, typehints.List[bytes]]])
class _GroupBundle(beam.DoFn):
    """One pane a user and bundle; its window end is that of the user's newest event in the bundle."""

    def __init__(self, window_seconds: float) -> None:
        self._size = max(1, round(window_seconds * MICROS_PER_SECOND))
        self._panes: dict[str, list[bytes]] = {}

    def start_bundle(self) -> None:
        self._panes = {}

    def process(self, element: tuple[str, bytes]) -> None:
        user_id, copy = element
        self._panes.setdefault(user_id, []).append(copy)

    def finish_bundle(self) -> Iterator[WindowedValue]:
        panes, self._panes = self._panes, {}
        for user_id, copies in panes.items():
            newest = max(EventCopy.decode(copy).event.event_time for copy in copies)
            end = newest // self._size * self._size + self._size
            yield window.GlobalWindows.windowed_value((user_id, (end, copies)))


class _JoinPane(beam.DoFn):
    """The step of a bounded run: the one pane of a user is all there is, so nothing is kept."""

    def __init__(self, config: StateConfig, policy: ViewPolicy) -> None:
        self._config = config
        self._policy = policy
        self.start_bundle()

    def start_bundle(self) -> None:
        self._accounting: Counter[str] = Counter()
        self._newest: Micros | None = None

    def process(self, element: _Pane, oldest: Micros) -> Iterator[UserRefresh | TaggedOutput]:
        yield from self._join(element, UserState(), oldest)

    def finish_bundle(self) -> Iterator[TaggedOutput]:
        for row in sorted(self._accounting.items()):
            if row[1]:
                yield TaggedOutput("accounting", GlobalWindows.windowed_value(row))
        if self._newest is not None:
            yield TaggedOutput("newest", GlobalWindows.windowed_value(self._newest))

    def _advance(self, state: UserState) -> None:
        state.next_version(wall_clock())

    def _join(self, element: _Pane, state: UserState, oldest: Micros) -> Iterator[UserRefresh | TaggedOutput]:
        user_id, (window_end, encoded_copies) = element
        copies = [EventCopy.decode(copy) for copy in encoded_copies]
        result = apply_pane(state, copies, self._config, self._policy, oldest)
        self._accounting.update(result.accounting)
        if result.accepted:
            newest = result.accepted[-1].event.event_time
            self._newest = newest if self._newest is None else max(newest, self._newest)
            yield TaggedOutput("accepted", (user_id, result.accepted))
        for copy, code, evidence in result.quarantined:
            yield TaggedOutput("quarantine", quarantined(user_id, copy, code, evidence))
        if result.listed or result.erased:
            self._advance(state)
            yield UserRefresh(user_id, state, result.triggers, window_end or None, result.erased)


class _JoinEndless(_JoinPane):
    """What endless runs share: lateness is judged by the wall clock."""

    def __init__(self, config: StateConfig, policy: ViewPolicy, allowed_lateness: Micros | None) -> None:
        super().__init__(config, policy)
        self._allowed = _FOREVER if allowed_lateness is None else allowed_lateness

    def _join_encoded(self, element: _Pane, encoded: bytes | None) -> Iterator[UserRefresh | TaggedOutput]:
        self._state = UserState.decode(encoded) if encoded else UserState()
        yield from self._join(element, self._state, wall_clock() - self._allowed)


class _JoinBundle(_JoinEndless):
    """The step of an endless run without timers: states are with the process, and stay there."""

    def __init__(
        self, config: StateConfig, policy: ViewPolicy, allowed_lateness: Micros | None, run_id: str
    ) -> None:
        super().__init__(config, policy, allowed_lateness)
        self._run_id = run_id

    def setup(self) -> None:
        self._store = live_store(self._run_id)

    def process(  # type: ignore[override]
        self, element: _Pane
    ) -> Iterator[UserRefresh | TaggedOutput]:
        user_id = element[0]
        yield from self._join_encoded(element, self._store.states.get(user_id))
        self._store.states[user_id] = self._state.encode()

    def _advance(self, state: UserState) -> None:
        self._store.next_version(state)


class _JoinState(_JoinEndless):
    """The step of an endless run. State: one value a user, at most `max_events` events.

    An event-time timer expires it after the TTL. The erasure register outlives that, or a
    replay would bring an erased user back; so does the clock, or versions would repeat.
    A score that comes before its event, for they come by different ways, waits for it.
    """

    STATE = ReadModifyWriteStateSpec("user_state", BytesCoder())
    EARLY = ReadModifyWriteStateSpec("early_scores", BytesCoder())
    EXPIRY = TimerSpec("expiry", TimeDomain.WATERMARK)
    _STORED = cast(ReadModifyWriteRuntimeState, beam.DoFn.StateParam(STATE))
    _EARLY = cast(ReadModifyWriteRuntimeState, beam.DoFn.StateParam(EARLY))
    _EXPIRY = cast(RuntimeTimer, beam.DoFn.TimerParam(EXPIRY))

    def process(
        self,
        element: _Pane,
        stored: ReadModifyWriteRuntimeState = _STORED,
        early: ReadModifyWriteRuntimeState = _EARLY,
        expiry: RuntimeTimer = _EXPIRY,
    ) -> Iterator[UserRefresh | TaggedOutput]:
        user_id, (window_end, copies) = element
        meets = {EventCopy.decode(copy).phase for copy in copies} & {SCORE_FOLLOWS, LATE_SCORE}
        waiting: list[bytes] = msgpack.unpackb(early.read() or _NOBODY) if meets else []
        yield from self._join_encoded((user_id, (window_end, [*waiting, *copies])), stored.read())
        stored.write(self._state.encode())
        if meets:
            left = self._early_scores([*waiting, *copies])
            if left or waiting:
                early.write(msgpack.packb(left))
        if self._state.events:
            expiry.set(Timestamp(micros=max(self._state.events)[0] + self._config.ttl_micros))

    def _early_scores(self, copies: Iterable[bytes]) -> list[bytes]:
        """Those whose event, or its revision, does not stand yet; of no more events than the state keeps."""
        late = [(EventCopy.decode(copy), copy) for copy in copies]
        awaited = [
            (one.event.slot, copy)
            for one, copy in late
            if one.phase == LATE_SCORE and self._is_awaited(one.event)
        ]
        return [copy for _, copy in sorted(awaited)[-self._config.max_events :]]

    def _is_awaited(self, event: CompactEvent) -> bool:
        standing = self._state.events.get(event.slot)
        return standing is None or precedence(standing)[:3] < precedence(event)[:3]

    @on_timer(EXPIRY)
    def expire(
        self, stored: ReadModifyWriteRuntimeState = _STORED, early: ReadModifyWriteRuntimeState = _EARLY
    ) -> None:
        early.clear()
        encoded = stored.read()
        if encoded:
            state = UserState.decode(encoded)
            stored.write(UserState(erased_time=state.erased_time, version=state.version).encode())


def quarantined(user_id: str, copy: EventCopy, code: str, evidence: str) -> DeadLetter:
    """The quarantine row of an event that a view does not trust; its text is not kept."""
    event = copy.event
    payload = {
        "event_id": copy.event_id,
        "user_id": user_id,
        "kind": event.kind_name,
        "item_id": event.item_id,
        "event_time": event.event_time / MICROS_PER_SECOND,
        "rating": event.rating,
        "text_hash": event.text_hash or None,
    }
    return DeadLetter(
        stage=STAGE,
        error_code=code,
        reason=f"{ERROR_CODES[code].meaning}: {evidence}; {ERROR_CODES[code].remedy}",
        payload=json.dumps(payload, ensure_ascii=False),
        source_position=copy.source_position,
        time=wall_clock(),
    )
