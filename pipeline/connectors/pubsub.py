"""PubsubSource: a subscription pulled by StreamingPull; acknowledged by us, leases kept while we hold.

Two threads of its own: one reads the stream into a bounded queue and opens it again when it breaks,
one acknowledges what was committed and extends the leases of the rest. The client library's own
subscriber is not used: it resets its stream when it ends, after which the emulator goes on giving
messages to nobody, and it offers no word of whether an acknowledgement went out.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from google.api_core.exceptions import Forbidden
from google.cloud import pubsub_v1
from google.pubsub_v1.types import StreamingPullRequest

from pipeline.connectors.addresses import PubsubSubscription
from pipeline.connectors.base import Received
from pipeline.connectors.pubsub_client import (
    ANSWER_SECONDS,
    PUBSUB_ERRORS,
    Connectivity,
    explain,
    may_pass,
    nearest_path,
)

#: Another subscriber gets a message so long after we have died with it,
LEASE_SECONDS: Final = 30
_EXTEND_SECONDS: Final = LEASE_SECONDS / 3
#: or held it so long: a checkpoint that never completes.
_MAX_LEASE_SECONDS: Final = 3600.0
_KEEP_ALIVE_SECONDS: Final = 20.0
_FIRST_PAUSE_SECONDS: Final = 0.1
_LONGEST_PAUSE_SECONDS: Final = 5.0
#: An error that stays so long, though it cannot pass by itself, ends the source.
_PATIENCE_SECONDS: Final = 5.0
_CLOSE_SECONDS: Final = 3.0
_IDS_PER_REQUEST: Final = 1000


class PubsubSource:
    """A `PullSource` over one subscription.

    A message counts against the address's limits from its arrival until it is committed; at the
    limit nothing is read from the stream.
    """

    def __init__(self, address: PubsubSubscription) -> None:
        self._address = address
        self._running: _Running | None = None

    def open(self, resume_from: Mapping[str, int] | None = None) -> None:
        """Connects. A subscription keeps its own place, so `resume_from` is ignored."""
        try:
            client = pubsub_v1.SubscriberClient()
            _check(client, self._address)
        except PUBSUB_ERRORS as error:
            raise _explained(self._address, error) from None
        self._running = _Running(client, self._address)

    def poll(self, max_messages: int, timeout_seconds: float) -> Sequence[Received]:
        """What has come. Raises InputError or DeploymentError where subscription or access are gone."""
        return self._open().take(max_messages, timeout_seconds)

    def commit(self, receipts: Sequence[str]) -> None:
        """Acknowledges, within milliseconds; tried again until the lease ends where the service is away."""
        self._open().leases.commit(receipts)

    def backlog(self) -> int | None:
        """None: the service does not tell subscribers (Cloud Monitoring has num_undelivered_messages)."""
        return None

    def close(self) -> None:
        """Sends what is still to acknowledge and returns the rest, so that others get it at once."""
        if self._running is not None:
            self._running.stop()
            self._running = None

    def _open(self) -> _Running:
        if self._running is None:
            raise RuntimeError("open() comes first")
        return self._running


class _Running:
    """The connection and its two threads."""

    def __init__(self, client: pubsub_v1.SubscriberClient, address: PubsubSubscription) -> None:
        self.leases = _Leases(client, address)
        self._client = client
        self._address = address
        self._arrived: queue.SimpleQueue[Received | None] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._hang_up = threading.Event()  # of the stream that is open now
        self._call: Any = None
        self._error: BaseException | None = None
        self._connectivity = Connectivity(client.transport.grpc_channel)
        self._threads = (
            threading.Thread(target=self._pull, name="pubsub-pull", daemon=True),
            threading.Thread(target=self.leases.keep, name="pubsub-leases", daemon=True),
        )
        for thread in self._threads:
            thread.start()

    def take(self, most: int, timeout_seconds: float) -> list[Received]:
        taken: list[Received] = []
        with suppress(queue.Empty):
            while len(taken) < most:
                message = self._arrived.get_nowait() if taken else self._arrived.get(timeout=timeout_seconds)
                if message is None:
                    self._arrived.put(None)  # for the next call
                    if taken:
                        break
                    raise _explained(self._address, self._error or RuntimeError("closed"))
                taken.append(message)
        return taken

    def stop(self) -> None:
        self._stop.set()
        self._hang_up.set()
        self.leases.stop_waiting()
        pull, keep = self._threads
        pull.join(_CLOSE_SECONDS)
        if pull.is_alive() and self._call is not None:
            self._call.cancel()
            pull.join(_CLOSE_SECONDS)
        self.leases.end()
        keep.join(_CLOSE_SECONDS)
        self._connectivity.stop()
        self._client.close()

    def _pull(self) -> None:
        pause, hopeless_since = _FIRST_PAUSE_SECONDS, float("inf")
        while not self._stop.is_set():
            try:
                for response in self._stream():
                    pause, hopeless_since = _FIRST_PAUSE_SECONDS, float("inf")
                    self._take_in(response)
                    if self._stop.is_set():
                        break
            except PUBSUB_ERRORS as error:
                hopeless_since = float("inf") if may_pass(error) else min(hopeless_since, time.monotonic())
                if time.monotonic() - hopeless_since > _PATIENCE_SECONDS:
                    self._error = error
                    break
            self._hang_up.set()
            self._stop.wait(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
        self._arrived.put(None)

    def _stream(self) -> Any:
        self._hang_up = threading.Event()
        if self._stop.is_set():
            self._hang_up.set()
        requests = _requests(self._address, self._hang_up)
        self._call = self._client.streaming_pull(requests=requests, retry=None, timeout=None)
        return self._call

    def _take_in(self, response: Any) -> None:
        # The message below the wrapper: its fields are much quicker to read.
        for each in response._pb.received_messages:
            self.leases.hold(each.ack_id, len(each.message.data))
            sent = each.message.publish_time
            self._arrived.put(
                Received(
                    each.message.data,
                    f"pubsub:{self._address.subscription}:{each.message.message_id}",
                    sent.seconds * 1_000_000 + sent.nanos // 1000,
                    each.ack_id,
                )
            )
        self.leases.wait_for_room()


class _Leases:
    """What we hold: extended until it is committed, acknowledged then, returned at the end."""

    def __init__(self, client: pubsub_v1.SubscriberClient, address: PubsubSubscription) -> None:
        self._client = client
        self._address = address
        self._held: dict[str, tuple[int, float]] = {}  # ack id -> bytes, since when
        self._bytes = 0
        self._done: list[str] = []  # committed, not acknowledged yet
        self._changed = threading.Condition()
        self._waiting = True  # for room
        self._ending = False

    def hold(self, ack_id: str, size: int) -> None:
        with self._changed:
            self._held[ack_id] = size, time.monotonic()
            self._bytes += size

    def commit(self, receipts: Sequence[str]) -> None:
        with self._changed:
            for receipt in receipts:
                self._drop(receipt)
            self._done.extend(receipts)
            self._changed.notify_all()

    def wait_for_room(self) -> None:
        with self._changed:
            while self._waiting and self._is_full():
                self._changed.wait(1.0)

    def stop_waiting(self) -> None:
        with self._changed:
            self._waiting = False
            self._changed.notify_all()

    def end(self) -> None:
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
        self._bytes -= self._held.pop(ack_id, (0, 0.0))[0]

    def _still_held(self) -> list[str]:
        oldest = time.monotonic() - _MAX_LEASE_SECONDS
        with self._changed:
            for ack_id in [each for each, (_, since) in self._held.items() if since < oldest]:
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
        _set_deadline(self._client, self._address, ack_ids, LEASE_SECONDS)

    def _return(self, ack_ids: list[str]) -> None:
        _set_deadline(self._client, self._address, ack_ids, 0)


def _set_deadline(
    client: pubsub_v1.SubscriberClient, address: PubsubSubscription, ack_ids: list[str], seconds: int
) -> None:
    request = {"subscription": address.path, "ack_ids": ack_ids, "ack_deadline_seconds": seconds}
    client.modify_ack_deadline(request=request, retry=None, timeout=ANSWER_SECONDS)


def _requests(address: PubsubSubscription, hang_up: threading.Event) -> Iterator[StreamingPullRequest]:
    """What we say on a stream: what we want, now and then that we are there; its end ends the stream."""
    yield StreamingPullRequest(
        subscription=address.path,
        stream_ack_deadline_seconds=LEASE_SECONDS,
        max_outstanding_messages=address.max_outstanding,
        max_outstanding_bytes=address.max_outstanding_bytes,
    )
    while not hang_up.wait(_KEEP_ALIVE_SECONDS):
        yield StreamingPullRequest()


def _check(client: pubsub_v1.SubscriberClient, address: PubsubSubscription) -> None:
    try:
        client.get_subscription(subscription=address.path, retry=None, timeout=ANSWER_SECONDS)
    except Forbidden:
        # A subscriber may pull and yet not look: then the pull itself tells.
        request = {"subscription": address.path, "max_messages": 1, "return_immediately": True}
        found = client.pull(request=request, retry=None, timeout=ANSWER_SECONDS)
        if taken := [each.ack_id for each in found.received_messages]:
            _set_deadline(client, address, taken, 0)


def _explained(address: PubsubSubscription, error: BaseException) -> Exception:
    remedy = f"create it: gcloud pubsub subscriptions create {address.subscription} --topic TOPIC"
    return explain(error, f"subscription {address.path}", remedy, lambda: _near(address))


def _near(address: PubsubSubscription) -> str:
    try:
        with pubsub_v1.SubscriberClient() as client:
            project = f"projects/{address.project}"
            found = client.list_subscriptions(project=project, retry=None, timeout=ANSWER_SECONDS)
            return nearest_path(address.path, (each.name for each in found))
    except PUBSUB_ERRORS:
        return ""
