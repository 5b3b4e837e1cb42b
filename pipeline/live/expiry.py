"""Users who left: their states are dropped once nothing in them counts any more.

A user has left when their newest event is older than --state_ttl_days before the clock of the run. As
on engines with timers, the list that was made last stays in the tables, and an erasure is remembered.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final

from models.lists import decode_list
from models.records import Micros, TopK
from transforms.live_store import LiveStore, states_of_those_who_left

#: Everybody is looked at so often in a TTL of the clock: it costs some microseconds an event.
_LOOKS: Final = 100
_LOG: Final = logging.getLogger(__name__)


class Expiry:
    """Of one run: looks in a thread beside the bundles, drops between two of them."""

    def __init__(self, store: LiveStore, ttl: Micros) -> None:
        self._store = store
        self._ttl = ttl
        self._looked: Micros | None = None  # the clock then
        self._left: dict[str, bytes] = {}  # user_id -> state as it was seen

    def look(self, states: Mapping[str, bytes], clock: Micros) -> None:
        """Finds in a picture of everybody's states those who have left, when it is time to."""
        if self._looked is None or clock - self._looked >= max(1, self._ttl // _LOOKS):
            self._looked = clock
            self._left = states_of_those_who_left(states, clock - self._ttl)

    def drop(self) -> list[TopK]:
        """Drops whom the last look found; returns their lists that were held back, which come out now."""
        left, self._left = self._left, {}
        if not left:
            return []
        dropped, waited = self._store.expire(left)
        _LOG.info("%d users have left: their newest event is older than --state_ttl_days", dropped)
        return [decode_list(held) for held in waited]
