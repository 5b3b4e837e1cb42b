"""What a subscriber of Pub/Sub holds: extended until it is committed, acknowledged then, returned at the end.

A message that is neither for too long, because the reader that holds it was forgotten or a checkpoint
never completes, is no longer extended: others get it, and so may the same subscriber.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from google.cloud import pubsub_v1

from models.records import Micros
from pipeline.connectors.addresses import PubsubSubscription
from pipeline.connectors.pubsub_client import ANSWER_SECONDS, PUBSUB_ERRORS

#: Another subscriber gets a message so long after we have died with it,
LEASE_SECONDS: Final = 30
#: or held it so long: as long as Flink waits for a checkpoint by default.
MAX_LEASE_SECONDS: Final = 600.0
_EXTEND_SECONDS: Final = LEASE_SECONDS / 3
_IDS_PER_REQUEST: Final = 1000


class _Held(NamedTuple):
    size: int  # bytes
    since: float  # seconds of the monotonic clock
    published: Micros


class Leases:
    """Of one connection. One thread runs `keep`; the others call the rest."""

    def __init__(self, client: pubsub_v1.SubscriberClient, address: PubsubSubscription) -> None:
        self._client = client
        self._address = address
        self._held: dict[str, _Held] = {}  # by ack id
        self._bytes = 0
        self._done: list[str] = []  # committed, not acknowledged yet
        self._changed = threading.Condition()
        self._waiting = True  # for room
        self._ending = False

    def hold(self, ack_id: str, size: int, published: Micros) -> None:
        """A message has come."""
        with self._changed:
            self._held[ack_id] = _Held(size, time.monotonic(), published)
            self._bytes += size

    def commit(self, receipts: Sequence[str]) -> None:
        """Its work is done: it is acknowledged within milliseconds."""
        with self._changed:
            for receipt in receipts:
                self._drop(receipt)
            self._done.extend(receipts)
            self._changed.notify_all()

    def oldest(self) -> Micros | None:
        """When the oldest of what is held was published; None where nothing is."""
        with self._changed:
            return min((held.published for held in self._held.values()), default=None)

    def wait_for_room(self) -> None:
        """Returns when fewer messages are held than the address allows, or nobody waits any more."""
        with self._changed:
            while self._waiting and self._is_full():
                self._changed.wait(1.0)

    def stop_waiting(self) -> None:
        """From now on there is room."""
        with self._changed:
            self._waiting = False
            self._changed.notify_all()

    def end(self) -> None:
        """Has `keep` send what is to be acknowledged, return the rest and end."""
        with self._changed:
            self._ending = True
            self._changed.notify_all()

    def keep(self) -> None:
        """The thread: acknowledges at once, extends now and then, returns all at the end."""
        extend_at = time.monotonic() + _EXTEND_SECONDS
        failed = False
        while True:
            with self._changed:
                # After a failure it waits a while instead of asking again and again.
                wake = (lambda: self._ending) if failed else (lambda: bool(self._done or self._ending))
                self._changed.wait_for(wake, 1.0 if failed else max(0.0, extend_at - time.monotonic()))
                done, self._done = self._done, []
                ending = self._ending
            failed = not self._tell(done, self._acknowledge)
            if failed:
                with self._changed:
                    self._done = done + self._done
            if ending:
                self._tell(list(self._held), self._return)
                return
            if time.monotonic() >= extend_at:
                self._tell(self._still_held(), self._extend)
                extend_at = time.monotonic() + _EXTEND_SECONDS

    def _is_full(self) -> bool:
        limits = self._address
        return len(self._held) >= limits.max_outstanding or self._bytes >= limits.max_outstanding_bytes

    def _drop(self, ack_id: str) -> None:
        held = self._held.pop(ack_id, None)
        self._bytes -= held.size if held else 0

    def _still_held(self) -> list[str]:
        oldest = time.monotonic() - MAX_LEASE_SECONDS
        with self._changed:
            for ack_id in [each for each, held in self._held.items() if held.since < oldest]:
                self._drop(ack_id)
            return list(self._held)

    def _tell(self, ack_ids: Sequence[str], tell: Callable[[list[str]], None]) -> bool:
        """Whether the service heard it all."""
        try:
            for start in range(0, len(ack_ids), _IDS_PER_REQUEST):
                tell(list(ack_ids[start : start + _IDS_PER_REQUEST]))
        except PUBSUB_ERRORS:
            return False
        return True

    def _acknowledge(self, ack_ids: list[str]) -> None:
        path = self._address.path
        self._client.acknowledge(subscription=path, ack_ids=ack_ids, retry=None, timeout=ANSWER_SECONDS)

    def _extend(self, ack_ids: list[str]) -> None:
        set_deadline(self._client, self._address, ack_ids, LEASE_SECONDS)

    def _return(self, ack_ids: list[str]) -> None:
        set_deadline(self._client, self._address, ack_ids, 0)


def set_deadline(
    client: pubsub_v1.SubscriberClient, address: PubsubSubscription, ack_ids: list[str], seconds: int
) -> None:
    """How long nobody else is given these messages, from now on; 0 returns them."""
    request = {"subscription": address.path, "ack_ids": ack_ids, "ack_deadline_seconds": seconds}
    client.modify_ack_deadline(request=request, retry=None, timeout=ANSWER_SECONDS)
