"""What an endless run keeps in its own process, on an engine whose state dies with the process anyway.

The steps that keep state by user there take it from here, so that the launcher can write it down
between two bundles, and put it back at a start. Values are immutable bytes: a copy of the maps is a
consistent picture of everybody.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from models.records import Micros
from models.state import NEVER, UserState
from models.times import wall_clock

#: Texts whose vectors are kept for the item index; the oldest go first.
MOST_VECTORS: Final = 100_000


@dataclass
class LiveStore:
    """One run. Maps are user_id -> bytes; only the bundle that runs changes them."""

    states: dict[str, bytes] = field(default_factory=dict)  # UserState.encode
    shown: dict[str, bytes] = field(default_factory=dict)  # what was listed last: order, then index version
    waiting: dict[str, bytes] = field(default_factory=dict)  # a list that shows nothing new
    relist: set[str] = field(default_factory=set)  # whose list is to be made anew, without new feedback
    vectors: OrderedDict[int, tuple[str, bytes]] = field(default_factory=OrderedDict)
    refusals: list[str] = field(default_factory=list)  # why published indexes did not serve, not told yet
    newest: Micros = 0  # the clock of lateness, where that is judged: event_time so far, never the future
    floor: Micros = 0  # versions that a lost attempt may have given out

    def next_version(self, state: UserState) -> Micros:
        """Advances the version of a state, beyond all that a lost attempt may have given out."""
        return state.next_version(max(wall_clock(), self.floor + 1))

    def expire(self, left: Mapping[str, bytes]) -> tuple[int, list[bytes]]:
        """Drops the states of users who left; call it between bundles.

        `left` are the states that were looked at: who changed since stays. An erasure is remembered, or a
        replay would bring an erased user back; versions go on above those that are dropped. Returns how
        many were dropped, and their lists that waited.
        """
        waited, dropped = [], 0
        for user_id, seen in left.items():
            if self.states.get(user_id) is not seen:
                continue
            dropped += 1
            state = UserState.decode(seen)
            self.floor = max(self.floor, state.version)
            if state.erased_time > NEVER:
                registers = UserState(erased_time=state.erased_time, version=state.version)
                self.states[user_id] = registers.encode()
            else:
                del self.states[user_id]
            self.shown.pop(user_id, None)
            self.relist.discard(user_id)
            if (held := self.waiting.pop(user_id, None)) is not None:
                waited.append(held)
        return dropped, waited

    def kept_bytes(self) -> int:
        """Bytes of all values; any thread may ask while bundles go on."""
        maps = (self.states, self.shown, self.waiting)
        vectors = list(self.vectors.values())
        return sum(len(value) for kept in maps for value in list(kept.values())) + sum(
            len(vector) for _, vector in vectors
        )

    def keep_vector(self, text: int, model_version: str, vector: bytes) -> None:
        """Keeps the vector of a text, by its hash, for the item index."""
        self.vectors[text] = (model_version, vector)
        self.vectors.move_to_end(text)
        while len(self.vectors) > MOST_VECTORS:
            self.vectors.popitem(last=False)


def states_of_those_who_left(states: Mapping[str, bytes], oldest: Micros) -> dict[str, bytes]:
    """The encoded states whose newest event is older than that, by user_id."""
    return {user_id: state for user_id, state in states.items() if _newest_time(state) < oldest}


def _newest_time(encoded: bytes) -> float:
    """Infinite for a state without events, of which there is nothing to drop."""
    return max((time for time, _ in UserState.decode(encoded).events), default=math.inf)


_stores: Final[dict[str, LiveStore]] = {}


def live_store(run_id: str) -> LiveStore:
    """The store of a run in this process, made when first asked for."""
    return _stores.setdefault(run_id, LiveStore())


def put_store(run_id: str, store: LiveStore) -> None:
    """Lets a run begin with what another one kept."""
    _stores[run_id] = store


def forget_store(run_id: str) -> None:
    """Frees what a run that has ended left here."""
    _stores.pop(run_id, None)
